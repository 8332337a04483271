"""Random numbers by position: a step's randomness depends on where it is, not on what ran before it.

So a resumed run, a run of several processes and an uninterrupted one draw the same numbers, and no generator needs to
be carried along.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def mix(seed: int, *position: int) -> int:
    """One 63-bit seed from a run's seed (>= 0) and a position such as (stream, step)."""
    import numpy as np  # here, since whoever only lists recipes need not wait for it

    state = np.random.SeedSequence(seed, spawn_key=position).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


@contextmanager
def random_state_kept() -> Iterator[None]:
    """torch's global random state leaves as it came; a GPU's only if one is in use, so that none is woken."""
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        yield


INIT, SHUFFLE, AUGMENT, CRAFT, NOISE = range(5)
"""Streams of randomness in training; each number drawn depends on the run's seed, its stream and its position alone."""
