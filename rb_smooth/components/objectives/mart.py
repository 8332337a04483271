"""MART: misclassification-aware adversarial training.

Wang et al., "Improving Adversarial Robustness Requires Revisiting Misclassified Examples", ICLR 2020:

    min_w  mean over (x, y) of  BCE(p(x_adv), y) + beta * KL(p(x) || p(x_adv)) * (1 - p_y(x))

    BCE(p, y) = -log p_y - log(1 - max over k != y of p_k)
    x_adv    <- PGD on cross-entropy, as in `at`;   p = softmax(f), and gradients flow through all of it

The divergence has full weight for images misclassified when clean (p_y(x) small) and little weight for others.

Differs from the authors' code (YisenWang/MART; written from the formulas):
    - No constant is added inside the logarithms: 1 - p_k is the sum of the other probabilities, its logarithm their
      logsumexp, finite for finite logits. The authors' log(1.0001 - p_k + 1e-12) is at least log(1e-4), which bounds
      BCE's second term by 9.2: of two classes, wrong by 12 logits, BCE is 24.0 here and 21.2 there. They also add 1e-12
      to probabilities in the divergence, and weight it by 1.0000001 - p_y.
    - By default PGD starts uniformly in the ball, as in `at`; `start: normal` is the authors'. `eps`, `step_size` and
      `steps` default to those of `at`; the authors' are 0.031, 0.007 and 10 (the recipe mart-authors).
    - Running statistics, the last minibatch and epoch selection: as in `at`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rb_smooth.components import ranges
from rb_smooth.components.attacks import Start, input_gradient_mode, make_threat, pgd
from rb_smooth.components.batchnorm import BatchNormMode
from rb_smooth.components.interfaces import Outcome
from rb_smooth.components.losses import kl_divergence, log_probabilities
from rb_smooth.core.threat import Norm


class MART:
    """Boosted cross-entropy at PGD's adversarial examples, plus a divergence weighted by 1 - p_y(x). Source: Wang et
    al., ICLR 2020.

    norm, eps, step_size, steps: as at's.
    beta (>= 0): weight of the divergence, the paper's lambda. Source: the MART authors' code, 5 for ResNet-18, 6 for
        WRN-34-10.
    bn_mode: BatchNorm's statistics while crafting; eval: the running ones; train: the batch's. Source: the MART
        authors' code.
    start: start of PGD; uniform: as at's; normal: x + 0.001 N(0, I). Source: uniform as at's, ours; normal is the MART
        authors' code's.
    """

    def __init__(
        self,
        *,
        norm: Norm = "Linf",
        eps: float | None = None,
        step_size: float | None = None,
        steps: int = 10,
        beta: float = 5.0,
        bn_mode: BatchNormMode = "eval",
        start: Start = "uniform",
    ) -> None:
        self.threat = make_threat(norm, eps, step_size, steps)
        ranges.at_least(0, beta=beta)
        self.steps, self.beta, self.bn_mode, self.start = steps, beta, bn_mode, start

    def craft(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return x_adv, of x's shape, in the ball and in [0, 1], detached. x: (B, C, H, W) in [0, 1]; y: (B,) int64.

        The model's modes, p.grad, requires_grad and BatchNorm buffers do not change.
        """
        with input_gradient_mode(model, self.bn_mode):
            return pgd(model, x, y, self.threat, self.steps, self.start)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Outcome:
        """Return the scalar loss of the minibatch and the logits (B, classes) at x_adv; keeps the model's mode."""
        clean, attacked = model(x), model(x_adv)
        unsure = 1 - clean.softmax(1).gather(1, y[:, None]).squeeze(1)
        divergence = kl_divergence(clean, attacked)
        loss = boosted_cross_entropy(attacked, y) + self.beta * divergence * unsure
        return Outcome(loss.mean(), attacked)


def boosted_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """BCE per row: -log p_y - log(1 - max over k != y of p_k). (B, classes >= 2), (B,) -> (B,)."""
    log = log_probabilities(logits)
    rival = log.scatter(1, y[:, None], -torch.inf).argmax(1, keepdim=True)
    all_but_rival = log.scatter(1, rival, -torch.inf).logsumexp(1)
    return F.nll_loss(log, y, reduction="none") - all_but_rival
