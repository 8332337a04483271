"""Bytes that torch holds on the CPU while something works: every allocation counted, none sampled."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch.profiler import ProfilerActivity, profile, record_function

_MARK = "counted from here on"


class AllocatedBytes(NamedTuple):
    """Bytes beyond those held before: the most at any moment, and what was still held at the end."""

    peak: int
    retained: int


def measure_allocations(work: Callable[[], object], after: Callable[[], object] = lambda: None) -> AllocatedBytes:
    """What `work` makes torch's allocator hold.

    after: done before, uncounted; what of its memory `work` frees is known then, and counts as less held.
    Scratch that libraries below torch find for themselves is in no figure.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        after()
        with record_function(_MARK):
            work()
    assert recorded.profiler is not None
    events = sorted(recorded.profiler.kineto_results.events(), key=lambda each: each.start_ns())
    (begun,) = [each.start_ns() for each in events if each.name() == _MARK]
    peak = held = 0
    for event in events:
        if event.name() == "[memory]" and event.start_ns() >= begun:
            held += event.nbytes()
            peak = max(peak, held)
    return AllocatedBytes(peak, held)
