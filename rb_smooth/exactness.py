"""Evaluation computes in float32, whatever speeds training up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Inside, convolutions and matrix products of float32 are float32's on GPUs too: TF32 keeps 10 of their 23 bits.

    torch allows TF32 in convolutions unless it is told not to, and the published protocol was run without.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
