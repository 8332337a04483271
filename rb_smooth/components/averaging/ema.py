"""Exponential moving average of the deployed weights.

Polyak and Juditsky's averaging in the form that adversarial training uses (Rebuffi et al., "Fixing Data Augmentation to
Improve Adversarial Robustness", arXiv 2103.01946, section 4). After every minibatch t = 0, 1, …:

    tau = min(decay, (1 + t) / (10 + t))
    a  <- tau * a + (1 - tau) * w

The average starts at w after minibatch 0; the ramp of tau reduces the weight of early w. t counts minibatches for every
optimizer, so the averaging horizon is the same for SGD and for EntropySGD, whose w moves once in `inner_steps`
minibatches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rb_smooth.components import ranges


class EMA:
    """Exponential moving average of the weights; the average is evaluated and saved. Source: Rebuffi et al., arXiv
    2103.01946, section 4.

    decay (>= 0, < 1): weight of the old average after the ramp, per minibatch. Source: the FastAT benchmark, arXiv
        2604.22853; not part of either paper's recipe.

    Memory beyond the weights: one copy of them.
    """

    def __init__(self, *, decay: float = 0.9995) -> None:
        ranges.below_one(decay=decay)
        self.decay = decay
        self.average: list[Tensor] = []

    @torch.no_grad()
    def update(self, deployed: list[Tensor], t: int) -> None:
        """Add w after minibatch t = 0, 1, …. deployed: w, in parameter order."""
        if not self.average:
            self.average = [w.detach().clone() for w in deployed]
            return
        tau = min(self.decay, (1 + t) / (10 + t))
        torch._foreach_lerp_(self.average, deployed, 1 - tau)

    def weights(self, deployed: list[Tensor]) -> list[Tensor]:
        """Return the average, or `deployed` before the first update. Not a copy: valid until the next update."""
        return self.average or deployed

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`; shares memory with this object."""
        return {"average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a saved state, copying it."""
        self.average = [average.clone() for average in state_dict["average"]]
