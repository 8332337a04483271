"""Random numbers by position: a step's randomness depends on where it is, not on what ran before it.

So a resumed run, a run of several processes and an uninterrupted one draw the same numbers, and no generator needs to
be carried along.
"""

from __future__ import annotations

import numpy as np


def mix(seed: int, *position: int) -> int:
    """One 63-bit seed from a run's seed (>= 0) and a position such as (epoch, step)."""
    state = np.random.SeedSequence(seed, spawn_key=position).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
