"""Adversarial Weight Perturbation (AWP).

Wu, Xia and Wang, "Adversarial Weight Perturbation Helps Robust Generalization", arXiv 2004.05884; as Eq. (76) of
Kanai et al., arXiv 2103.01400:

    min_w  max over v in V of  mean over (x, y) of  loss(x_adv, y, w + v),   V = {v : ||v_l|| <= gamma ||w_l||}

One ascent step per minibatch, at the crafted x_adv, for every parameter l with more than one dimension (v = 0 for
BatchNorm and biases; norms are over whole tensors):

    g_l = d loss / d w_l  at w
    v_l = gamma * ||w_l|| * g_l / (||g_l|| + 1e-20)

With several processes g is averaged over the whole minibatch, so v is equal on all ranks.

Differs from the authors' code:
    - The gradient is computed at the weights themselves, without a proxy network: one forward pass, one backward pass,
      and one temporary copy of the weights. The learning rate of the authors' proxy cancels in v.
    - The ascent uses the objective's loss, for any objective; the authors write it out per method.
    - The weights are restored bit for bit before the optimizer step; the authors step at w + v and subtract v
      afterwards, so weight decay acts at w + v: a relative difference of lr * wd * gamma, about 5e-7 per step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rb_smooth.components import ranges
from rb_smooth.components.batchnorm import frozen_running_stats
from rb_smooth.components.weights import perturbed
from rb_smooth.core import distributed


class AWP:
    """Context manager that moves the weights by one ascent step on the loss, within a relative ball. Source: Wu et al.,
    arXiv 2004.05884; Kanai et al., arXiv 2103.01400, Eq. (76).

    gamma (relative to a weight tensor's norm, >= 0): radius of the ball. Source: the AWP authors' code, 0.01 for AT and
        0.005 for TRADES; with EntropySGD Kanai et al., appendix E, use less.
    """

    def __init__(self, *, gamma: float = 0.01) -> None:
        ranges.at_least(0, gamma=gamma)
        self.gamma = gamma

    @contextmanager
    def __call__(self, model: nn.Module, loss: Callable[[], Tensor]) -> Iterator[None]:
        """Inside, the weights of `model` are w + v; afterwards w, bit for bit.

        loss: computes the scalar loss of this minibatch; called once, at w, in the model's current mode.
        """
        weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
        with perturbed(weights, self._adversarial_perturbation(model, weights, loss)):
            yield

    def _adversarial_perturbation(
        self, model: nn.Module, weights: list[nn.Parameter], loss: Callable[[], Tensor]
    ) -> Sequence[Tensor]:
        """Return v, one tensor per weight."""
        if not weights:
            return []
        with frozen_running_stats(model), torch.enable_grad():
            g = torch.autograd.grad(loss(), weights, allow_unused=True, materialize_grads=True)
        distributed.all_reduce_mean(g)  # v of the whole minibatch, on every rank
        lengths = zip(torch._foreach_norm([w.detach() for w in weights]), torch._foreach_norm(g), strict=True)
        return torch._foreach_mul(g, [self.gamma * of_w / (of_g + 1e-20) for of_w, of_g in lengths])
