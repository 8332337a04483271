"""Count a network's FLOPs, and choose CPU threads by them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rb_smooth.components.batchnorm import preserve_modes

_LARGE_FLOPS = 1e9
"""FLOPs of a minibatch's forward pass below which bfloat16 gains little on a CPU, and a second thread nothing.

Median time of a step in bf16 and channels_last relative to fp32: 0.85 at 0.1e9 FLOPs, 0.74 at 1.6e9, 0.55 at 18e9
(benchmarks/precision.json).
"""

THREADS = torch.get_num_threads()
"""torch's default number of threads, which `choose_threads` restores for large networks."""


def is_large(model: nn.Module, shape: tuple[int, int, int], images: int) -> bool:
    """Whether a forward pass of `images` images of `shape` (C, H, W) gains from bfloat16 and a second CPU thread."""
    return forward_flops(model, shape) * images >= _LARGE_FLOPS


def choose_threads(model: nn.Module, shape: tuple[int, int, int], images: int) -> bool:
    """Set torch to one CPU thread for a small network, else to its default number; return whether it is large.

    On a small network a second thread gains nothing, and loses much on a busy machine. images: size of a minibatch.
    """
    large = is_large(model, shape, images)
    torch.set_num_threads(THREADS if large else 1)
    return large


def forward_flops(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """FLOPs of the forward pass of one image of `shape` (C, H, W). Does not change `model`."""
    image = torch.zeros(1, *shape, device=next(model.parameters()).device)
    with preserve_modes(model), torch.no_grad():
        return count_flops(lambda: model.eval()(image))


def count_flops(work: Callable[[], object]) -> int:
    """FLOPs of the convolutions and matrix products in `work`, forward and backward, by torch's FlopCounterMode."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModuleTracker()  # type: ignore[assignment]
    with counter:
        work()
    return counter.get_total_flops()


class _NoModuleTracker:
    """Replaces the counter's module tracker, whose hooks fail on autograd.grad to the input, as in attacks."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...
