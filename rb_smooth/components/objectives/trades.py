"""TRADES: a trade-off between accuracy and robustness.

Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", arXiv 1901.08573, its
multi-class form; as used by Wu et al., arXiv 2004.05884, and Kanai et al., arXiv 2103.01400, appendix F.2:

    min_w  mean over (x, y) of  CE(f(x), y) + beta * max over ||x_adv - x||_inf <= eps of  KL(p(x) || p(x_adv))

    x_adv <- x + 0.001 N(0, I), then `steps` sign steps of `step_size` up the KL, projected to the ball and to [0, 1]
    p = softmax(f); the gradient to the weights flows through p(x) as well as through p(x_adv)

Differs from the authors' code (the AWP repository's TRADES script):
    - One forward of x and one of x_adv per step, each its own batch for BatchNorm; theirs forwards x twice, once for
      each term. Loss and gradient are equal, the running statistics are not: `recalibrate` sets them.
    - The random start is clipped to [0, 1] (torchattacks' TPGD); theirs is not.
    - The learning rate drops, and AWP begins, one epoch later than there (its epochs count from 1).
    - The divergence is taken in logarithms and needs no clamp (`rb_smooth.components.losses`).
    - `bn_mode: train` exists, where p(x) in the attack comes from the batch too; theirs crafts in eval mode.
    - Running statistics, the last minibatch, selection: as in `at`.
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
    """Cross-entropy on clean images plus `beta` times how far predictions can be moved within the Linf ball. Source:
    Zhang et al., arXiv 1901.08573.

    eps (pixels from 0 to 1, > 0): radius of the ball. Source: the AWP authors' TRADES script; inferred for Kanai et al.
    step_size (pixels from 0 to 1, > 0): length of the attack's step. Source: the AWP authors' TRADES script; Kanai et
        al., appendix F.2, step by 0.003.
    steps (>= 1): number of the attack's steps. Source: Kanai et al., appendix F.2.
    beta (>= 0): weight of the robust term, the paper's 1/lambda. Source: the AWP authors' TRADES script.
    bn_mode: by what BatchNorm normalises while crafting; eval: its running statistics; train: the batch. Source: the
        AWP authors' TRADES script.
    label_smoothing (>= 0, < 1): mass spread evenly over the classes, in the cross-entropy alone. Source: ours.
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
        """x_adv for x (B, C, H, W) in [0, 1]: of x's shape, in the ball and in [0, 1], detached. y is not looked at.

        Modes, p.grad, requires_grad and BatchNorm's buffers of `model` are left as found.
        """
        with input_gradient_mode(model, self.bn_mode):
            return pgd_kl(model, x, self.threat, self.steps)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Outcome:
        """The scalar to minimise, over the minibatch, and the logits (B, classes) at x_adv; in the model's mode."""
        clean, attacked = model(x), model(x_adv)
        natural = F.cross_entropy(clean, y, label_smoothing=self.label_smoothing)
        return Outcome(natural + self.beta * kl_divergence(clean, attacked).mean(), attacked)
