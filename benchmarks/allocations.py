"""Count the bytes that a function allocates through torch on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch.profiler import ProfilerActivity, profile, record_function

_MARK = "start of the count"


class AllocatedBytes(NamedTuple):
    """Bytes beyond those allocated before: at the peak, and at the end."""

    peak: int
    retained: int


def measure_allocations(work: Callable[[], object], after: Callable[[], object] = lambda: None) -> AllocatedBytes:
    """Allocations of `work` by torch's allocator; scratch memory of lower libraries is not seen.

    after: called before, uncounted. Memory of it that `work` frees counts as negative.
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
