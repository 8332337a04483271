"""Crafting adversarial examples with torchattacks' own PGD, under our control of modes, gradients and statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torchattacks
from torch import Tensor, nn

from rb_smooth import batchnorm, weights
from rb_smooth.contracts import Threat


@contextmanager
def crafting(model: nn.Module, bn_mode: batchnorm.BatchNormMode) -> Iterator[None]:
    """Inside, forward and backward passes to the input cost nothing else and leave no trace in `model`.

    Modes, requires_grad, p.grad and BatchNorm's buffers are left as found, also on an exception.
    """
    with batchnorm.mode(model, bn_mode), batchnorm.frozen_running_stats(model), weights.frozen(model):
        yield


def pgd(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, steps: int) -> Tensor:
    """Projected gradient ascent on cross-entropy from a random start in the ball.

    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv 1706.06083.

    x: (B, C, H, W) in [0, 1]; y: (B,) int64. Returns x_adv of x's shape in [0, 1], detached, within threat.eps of x.
    Linf starts uniformly in the cube; L2 along a random direction at a radius uniform in [0, eps].
    To be called inside `crafting`.
    """
    attack = torchattacks.PGD if threat.norm == "Linf" else torchattacks.PGDL2
    crafter = attack(model, eps=threat.eps, alpha=threat.step_size, steps=steps, random_start=True)
    # `forward` is the attack itself. `__call__` would first switch the whole model to eval mode and afterwards the
    # whole model to train mode, layers frozen by hand included.
    with torch.enable_grad():
        return crafter.forward(x.contiguous(), y)  # PGDL2 uses .view
