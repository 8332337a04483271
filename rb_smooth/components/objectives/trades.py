"""TRADES: a trade-off between accuracy and robustness.

Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", arXiv 1901.08573, its
multi-class form; as used by Wu et al., arXiv 2004.05884, and Kanai et al., arXiv 2103.01400, appendix F.2:

    min_w  mean over (x, y) of  CE(f(x), y) + beta * max over ||x_adv - x||_inf <= eps of  KL(p(x) || p(x_adv))

    x_adv <- x + 0.001 N(0, I), then `steps` sign steps of `step_size` up the KL, projected to the ball and to [0, 1]
    p = softmax(f); the gradient to the weights flows through p(x) as well as through p(x_adv)

Differs from the authors' code (the AWP repository's TRADES script):
    - One forward pass of x and one of x_adv per step, separate batches for BatchNorm; the authors forward x twice, once
      per term. Loss and gradient are equal; the running statistics differ, and `recalibrate` sets them.
    - The random start is clipped to [0, 1] (torchattacks' TPGD); the authors' is not.
    - The learning rate drops, and AWP starts, one epoch later than in the authors' code, whose epochs count from 1.
    - The divergence is computed from log-probabilities, without clamping (`rb_smooth.components.losses`).
    - `bn_mode: train` exists and uses batch statistics for p(x) in the attack too; the authors craft in eval mode.
    - Running statistics, the last minibatch and epoch selection: as in `at`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from rb_smooth.components import ranges
from rb_smooth.components.attacks import input_gradient_mode, make_threat, pgd_kl
from rb_smooth.components.batchnorm import BatchNormMode
from rb_smooth.components.interfaces import Outcome
from rb_smooth.components.losses import kl_divergence


class TRADES:
    """Cross-entropy on clean images plus `beta` times the largest divergence KL(p(x) || p(x_adv)) in the Linf ball.
    Source: Zhang et al., arXiv 1901.08573.

    eps (pixels from 0 to 1, > 0): radius of the ball. Source: the AWP authors' TRADES script; inferred for Kanai et al.
    step_size (pixels from 0 to 1, > 0): length of the attack's step. Source: the AWP authors' TRADES script; Kanai et
        al., appendix F.2, step by 0.003.
    steps (>= 1): number of the attack's steps. Source: Kanai et al., appendix F.2.
    beta (>= 0): weight of the robust term, the paper's 1/lambda. Source: the AWP authors' TRADES script.
    bn_mode: BatchNorm's statistics while crafting; eval: the running ones; train: the batch's. Source: the AWP authors'
        TRADES script.
    label_smoothing (>= 0, < 1): label mass spread evenly over the classes, in the cross-entropy only. Source: ours.
    """

    def __init__(
        self,
        *,
        eps: float = 8 / 255,
        step_size: float = 2 / 255,
        steps: int = 10,
        beta: float = 6.0,
        bn_mode: BatchNormMode = "eval",
        label_smoothing: float = 0.0,
    ) -> None:
        ranges.at_least(0, beta=beta)
        ranges.below_one(label_smoothing=label_smoothing)
        self.threat = make_threat("Linf", eps, step_size, steps)
        self.steps, self.beta, self.bn_mode, self.label_smoothing = steps, beta, bn_mode, label_smoothing

    def craft(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return x_adv, of x's shape, in the ball and in [0, 1], detached. x: (B, C, H, W) in [0, 1]; y: unused.

        The model's modes, p.grad, requires_grad and BatchNorm buffers do not change.
        """
        with input_gradient_mode(model, self.bn_mode):
            return pgd_kl(model, x, self.threat, self.steps)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Outcome:
        """Return the scalar loss of the minibatch and the logits (B, classes) at x_adv; keeps the model's mode."""
        clean, attacked = model(x), model(x_adv)
        natural = F.cross_entropy(clean, y, label_smoothing=self.label_smoothing)
        return Outcome(natural + self.beta * kl_divergence(clean, attacked).mean(), attacked)
