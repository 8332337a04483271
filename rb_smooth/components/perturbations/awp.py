"""Adversarial Weight Perturbation (AWP).

Wu, Xia and Wang, "Adversarial Weight Perturbation Helps Robust Generalization", arXiv 2004.05884; as Eq. (76) of
Kanai et al., arXiv 2103.01400:

    min_w  max over v in V of  mean over (x, y) of  loss(x_adv, y, w + v),   V = {v : ||v_l|| <= gamma ||w_l||}

One ascent step per minibatch, on the x_adv already crafted, for every parameter l of more than one dimension (v is 0
for BatchNorm and biases; the norms are of whole tensors):

    g_l = d loss / d w_l  at w
    v_l = gamma * ||w_l|| * g_l / (||g_l|| + 1e-20)

Of several processes all have the g of the whole minibatch, and so the same v.

Differs from the authors' code:
    - The gradient is taken at the weights themselves, with no proxy network: one forward, one backward, and one
      copy of the weights while it lasts. Their proxy's learning rate cancels in v.
    - The loss ascended is the objective's own, whatever the objective; theirs is written out per method.
    - The weights are restored bit for bit before the optimizer moves; theirs moves at w + v and subtracts v afterwards,
      so that weight decay acts at w + v: a relative difference of lr * wd * gamma, about 5e-7 a step.
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
    """A context in which the weights stand at the worst of a small neighbourhood, as far as one step finds it.
    Source: Wu et al., arXiv 2004.05884; Kanai et al., arXiv 2103.01400, Eq. (76).

    gamma (relative to a weight tensor's norm, >= 0): size of the neighbourhood. Source: the AWP authors' code,
        0.01 for AT and 0.005 for TRADES; beside EntropySGD Kanai et al., appendix E, take less.
    """

    def __init__(self, *, gamma: float = 0.01) -> None:
        ranges.at_least(0, gamma=gamma)
        self.gamma = gamma

    @contextmanager
    def __call__(self, model: nn.Module, loss: Callable[[], Tensor]) -> Iterator[None]:
        """Inside, the weights of `model` are w + v, for a backward pass; after it, w again, bit for bit.

        loss: without arguments, the loss to be made worst, a scalar on the minibatch at hand; called once, at w, in the
        mode in which the model is.
        """
        weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
        with perturbed(weights, self._adversarial_perturbation(model, weights, loss)):
            yield

    def _adversarial_perturbation(
        self, model: nn.Module, weights: list[nn.Parameter], loss: Callable[[], Tensor]
    ) -> Sequence[Tensor]:
        """v, one tensor for each of `weights`."""
        if not weights:
            return []
        with frozen_running_stats(model), torch.enable_grad():
            g = torch.autograd.grad(loss(), weights, allow_unused=True, materialize_grads=True)
        distributed.all_reduce_mean(g)  # several processes ascend together: v is of the whole minibatch
        lengths = zip(torch._foreach_norm([w.detach() for w in weights]), torch._foreach_norm(g), strict=True)
        return torch._foreach_mul(g, [self.gamma * of_w / (of_g + 1e-20) for of_w, of_g in lengths])
