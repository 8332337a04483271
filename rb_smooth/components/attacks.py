"""Craft adversarial examples with torchattacks' PGD, without side effects on the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
import torchattacks
from torch import Tensor, nn

from rb_smooth.components import batchnorm, ranges, weights
from rb_smooth.core.threat import Norm, Threat

Start = Literal["uniform", "normal"]
"""Start of PGD: uniform in the ball (L2: see `pgd`), or x + 0.001 N(0, I)."""

_EPS: dict[str, float] = {"Linf": 8 / 255, "L2": 128 / 255}
_STEP_SIZE: dict[str, float] = {"Linf": 2 / 255, "L2": 15 / 255}
_MAX_STEPS = 10_000


def make_threat(norm: Norm, eps: float | None, step_size: float | None, steps: int) -> Threat:
    """Build a Threat. Defaults of eps and step_size: 8/255 and 2/255 for Linf, 128/255 and 15/255 for L2.

    Raises ValueError for a value out of range.
    """
    if norm not in _EPS:
        raise ValueError(f"expected norm Linf or L2, got {norm!r}")
    eps = _EPS[norm] if eps is None else eps
    step_size = _STEP_SIZE[norm] if step_size is None else step_size
    ranges.at_least(1, steps=steps)
    ranges.at_most(_MAX_STEPS, steps=steps)
    return Threat(norm, eps, step_size).check()


@contextmanager
def input_gradient_mode(model: nn.Module, bn_mode: batchnorm.BatchNormMode) -> Iterator[None]:
    """Inside: eval mode with BatchNorm in `bn_mode`, no parameter gradients, running statistics restored afterwards.

    Use around passes that need gradients of the input only. Modes, requires_grad, p.grad and BatchNorm's buffers are
    restored, also on an exception.
    """
    with batchnorm.batchnorm_mode(model, bn_mode), batchnorm.frozen_running_stats(model), weights.no_param_grad(model):
        yield


def pgd(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, steps: int, start: Start = "uniform") -> Tensor:
    """Projected gradient ascent on cross-entropy from a random start in the ball.

    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv 1706.06083.

    x: (B, C, H, W) in [0, 1]; y: (B,) int64. Returns x_adv of x's shape in [0, 1], detached, within threat.eps of x.
    Linf starts uniformly in the cube; L2 along a random direction at a radius uniform in [0, eps]; `start` normal at
    x + 0.001 N(0, I), unclipped, which torchattacks does not offer. Call inside `input_gradient_mode`.
    """
    if start == "normal":
        return _pgd_from_normal_start(model, x.contiguous(), y, threat, steps)
    attack = torchattacks.PGD if threat.norm == "Linf" else _PGDL2
    crafter = attack(model, eps=threat.eps, alpha=threat.step_size, steps=steps, random_start=True)
    # `forward`, since `__call__` would set the whole model to eval mode and then to train mode, frozen layers included.
    # Contiguous, since random starts are drawn in memory order: x gets the same start in any layout.
    with torch.enable_grad():
        return crafter.forward(x.contiguous(), y)


def pgd_kl(model: nn.Module, x: Tensor, threat: Threat, steps: int) -> Tensor:
    """Sign ascent on KL(p(x) || p(x_adv)) from x + 0.001 N(0, I), within the Linf ball: the attack inside TRADES.

    Zhang et al., arXiv 1901.08573. Arguments and result as in `pgd`. Call inside `input_gradient_mode`.
    """
    crafter = _TPGD(model, eps=threat.eps, alpha=threat.step_size, steps=steps)
    with torch.enable_grad():
        return crafter.forward(x.contiguous())


def _pgd_from_normal_start(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, steps: int) -> Tensor:
    def norm(z: Tensor) -> Tensor:
        return z.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    x_adv = x + 0.001 * torch.randn_like(x)
    for _ in range(steps):
        with torch.enable_grad():
            x_adv.requires_grad_()
            (g,) = torch.autograd.grad(F.cross_entropy(model(x_adv), y), x_adv)
        if threat.norm == "Linf":
            shift = (x_adv.detach() + threat.step_size * g.sign() - x).clamp(-threat.eps, threat.eps)
        else:
            shift = x_adv.detach() + threat.step_size * g / (norm(g) + 1e-10) - x
            shift *= (threat.eps / norm(shift)).clamp(max=1)
        x_adv = (x + shift).clamp(0, 1)
    return x_adv


class _PGDL2(torchattacks.PGDL2):
    """Works with channels_last networks: torchattacks applies .view to gradients, which then must be contiguous."""

    def get_logits(self, inputs: Tensor) -> Tensor:
        inputs.register_hook(Tensor.contiguous)
        return super().get_logits(inputs)


class _TPGD(torchattacks.TPGD):
    """Compares predictions in fp32 or better; on a CPU, autocast would leave softmax in bfloat16.

    The divergence is nearly 0 at the start, below bfloat16's resolution.
    """

    def get_logits(self, inputs: Tensor) -> Tensor:
        logits = super().get_logits(inputs)
        return logits.float() if logits.dtype == torch.bfloat16 else logits
