"""FLOPs of a network, counted by torch, and the CPU threads that are worth their while for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rb_smooth.components.batchnorm import preserve_modes

_LARGE_FLOPS = 1e9
"""FLOPs of a minibatch's forward pass below which a CPU gains little by bfloat16, and nothing by a second thread.

A step's time in bf16 and channels_last over fp32's: 0.85 at 0.1e9 FLOPs, 0.74 at 1.6e9, 0.55 at 18e9, in medians
(benchmarks/precision.json).
"""


THREADS = torch.get_num_threads()
"""torch's own number, before a small net gives them up: another one of the same command may want them."""


def is_large(model: nn.Module, shape: tuple[int, int, int], images: int) -> bool:
    """Whether a forward pass of a minibatch is work enough for a CPU's second thread and for its bfloat16."""
    return forward_flops(model, shape) * images >= _LARGE_FLOPS


def choose_threads(model: nn.Module, shape: tuple[int, int, int], images: int) -> bool:
    """One CPU thread for a net so small that a second gains nothing, and loses much by waiting on a busy machine; for
    a larger one torch's own number, which is the machine's. images: in a minibatch. Returns whether the net is large.
    """
    large = is_large(model, shape, images)
    torch.set_num_threads(THREADS if large else 1)
    return large


def forward_flops(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """FLOPs of the forward pass of one image of `shape` (C, H, W), counted by torch. Leaves `model` as found."""
    image = torch.zeros(1, *shape, device=next(model.parameters()).device)
    with preserve_modes(model), torch.no_grad():
        return count_flops(lambda: model.eval()(image))


def count_flops(work: Callable[[], object]) -> int:
    """FLOPs of `work`'s convolutions and matrix products, forward and backward, as torch counts them."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModuleTracker()  # type: ignore[assignment]
    with counter:
        work()
    return counter.get_total_flops()


class _NoModuleTracker:
    """In the place of the counter's module tracker, whose hooks an attack's autograd.grad to its input breaks."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...
