"""Exponential moving average of the deployed weights.

Polyak and Juditsky's averaging in the form that adversarial training uses (Rebuffi et al., "Fixing Data Augmentation to
Improve Adversarial Robustness", arXiv 2103.01946, section 4). After every minibatch t = 0, 1, …:

    tau = min(decay, (1 + t) / (10 + t))
    a  <- tau * a + (1 - tau) * w

The ramp forgets the first weights. The average starts as the first w it sees. It is counted in minibatches for every
optimizer, so that its horizon is the same for SGD and for EntropySGD, whose w moves once in `inner_steps` minibatches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rb_smooth.components import ranges


class EMA:
    """The moving average of the weights is deployed. Memory: one copy of them. Source: Rebuffi et al., arXiv
    2103.01946, section 4.

    decay (>= 0, < 1): weight of the old average after the ramp, per minibatch. Source: the FastAT benchmark, arXiv
        2604.22853; not part of either paper's recipe.
    """

    def __init__(self, *, decay: float = 0.9995) -> None:
        ranges.below_one(decay=decay)
        self.decay = decay
        self.average: list[Tensor] = []

    @torch.no_grad()
    def update(self, deployed: list[Tensor], t: int) -> None:
        """After minibatch t = 0, 1, …: one more w is averaged. deployed: in the order of the parameters."""
        if not self.average:
            self.average = [w.detach().clone() for w in deployed]
            return
        tau = min(self.decay, (1 + t) / (10 + t))
        torch._foreach_lerp_(self.average, deployed, 1 - tau)

    def weights(self, deployed: list[Tensor]) -> list[Tensor]:
        """The average; `deployed` itself where nothing is averaged yet. Not a copy: read it, do not keep it."""
        return self.average or deployed

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes back."""
        return {"average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.average = [average.clone() for average in state_dict["average"]]
