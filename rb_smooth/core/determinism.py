"""Random numbers by position, and evaluation in float32.

A step's randomness depends on where it is, not on what ran before it. So a resumed run, a run of several processes and
an uninterrupted one draw the same numbers, and no generator needs to be carried along. Costs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def derive_seed(seed: int, *position: int) -> int:
    """One 63-bit seed from a run's seed (>= 0) and a position such as (stream, step)."""
    import numpy as np  # here, since whoever only lists recipes need not wait for it

    state = np.random.SeedSequence(seed, spawn_key=position).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


@contextmanager
def preserve_rng() -> Iterator[None]:
    """torch's global random state leaves as it came; a GPU's only if one is in use, so that none is woken."""
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        yield


INIT, SHUFFLE, AUGMENT, CRAFT, NOISE = range(5)
"""Streams of randomness in training; each number drawn depends on the run's seed, its stream and its position alone."""


@contextmanager
def full_float32() -> Iterator[None]:
    """Inside, convolutions and matrix products of float32 are float32's on GPUs too: TF32 keeps 10 of their 23 bits.

    torch allows TF32 in convolutions unless it is told not to, and the published protocol was run without.
    """
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
