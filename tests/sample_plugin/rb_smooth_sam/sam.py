"""Sharpness-Aware Minimization (SAM).

Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization",
arXiv 2010.01412, Eq. (2) with p = 2: the gradient is taken at w + v,

    v = rho * g / (||g|| + 1e-12),    g = d loss / d w  at w, on the same minibatch

||g|| is of all weights together; 1e-12 is for where it is zero. Of several processes all have the g of the whole
minibatch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from rb_smooth import plugin


class SAM:
    """A context in which the weights stand where a ball around them is worst, to first order. Source: Foret et al.,
    arXiv 2010.01412, Eq. (2).

    rho (>= 0): radius of the ball. Source: ours.
    """

    def __init__(self, *, rho: float = 0.05) -> None:
        plugin.at_least(0, rho=rho)
        self.rho = rho

    @contextmanager
    def __call__(self, model: nn.Module, loss: Callable[[], Tensor]) -> Iterator[None]:
        weights = [w for w in model.parameters() if w.requires_grad]
        with plugin.perturbed(weights, self._adversarial_perturbation(model, weights, loss)):
            yield

    def _adversarial_perturbation(
        self, model: nn.Module, weights: list[nn.Parameter], loss: Callable[[], Tensor]
    ) -> Sequence[Tensor]:
        """v, one tensor for each of `weights`."""
        with plugin.frozen_running_stats(model), torch.enable_grad():
            g = torch.autograd.grad(loss(), weights, allow_unused=True, materialize_grads=True)
        plugin.all_reduce_mean(g)
        return torch._foreach_mul(g, self.rho / (get_total_norm(g) + 1e-12))
