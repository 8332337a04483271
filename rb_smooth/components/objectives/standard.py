"""Standard training: cross-entropy on clean images.

loss = CE(f(x), y)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from rb_smooth.components import ranges
from rb_smooth.components.interfaces import Outcome


class Standard:
    """Cross-entropy on clean images. Source: common practice; the baseline of adversarial training.

    label_smoothing (>= 0, < 1): label mass spread evenly over the classes. Source: ours.
    """

    threat = None
    """No adversary."""

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        ranges.below_one(label_smoothing=label_smoothing)
        self.label_smoothing = label_smoothing

    def craft(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return x."""
        return x

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Outcome:
        """Return the scalar loss of the minibatch and the logits (B, classes) at x_adv; keeps the model's mode."""
        logits = model(x_adv)
        return Outcome(F.cross_entropy(logits, y, label_smoothing=self.label_smoothing), logits)
