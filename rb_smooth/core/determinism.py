"""Seeds derived from positions, preserved random states, and full float32 precision.

The random numbers of a step depend on its position only. A resumed, a distributed and an uninterrupted run therefore
draw the same numbers, and no generator state is saved. Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def derive_seed(seed: int, *position: int) -> int:
    """One 63-bit seed from a run's seed (>= 0) and a position such as (stream, step)."""
    import numpy as np  # here, to keep listing recipes fast

    state = np.random.SeedSequence(seed, spawn_key=position).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


@contextmanager
def preserve_rng() -> Iterator[None]:
    """Context manager: restore torch's global random state; a GPU's only if CUDA is initialised."""
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        yield


INIT, SHUFFLE, AUGMENT, CRAFT, NOISE = range(5)
"""Random streams of training; each number depends on the run's seed, the stream and the position only."""


@contextmanager
def full_float32() -> Iterator[None]:
    """Context manager: disable TF32, which keeps 10 of float32's 23 mantissa bits, on GPUs.

    torch allows TF32 in convolutions by default; the published protocol was run without it.
    """
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
