"""Stochastic gradient descent with momentum: torch.optim.SGD with the interface of `interfaces.Optimizer`.

    d = g + wd * w;   m <- mom * m + d;   d <- d + mom * m  (Nesterov; d <- m without);   w <- w - lr * d

Gradients are taken at the deployed weights: w' = w.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rb_smooth.components import ranges


class SGD(torch.optim.SGD):
    """torch.optim.SGD. Source: torch; the papers' other optimizer.

    lr (>= 0): learning rate, multiplied by the schedule. Source: Kanai et al., appendix E (0.01 on SVHN).
    momentum (>= 0, < 1): decay of the momentum buffer per step. Source: Kanai et al., appendix E.
    nesterov: Nesterov's form of momentum; requires momentum > 0. Source: torch's default.
    weight_decay (>= 0): L2 penalty of every parameter. Source: Kanai et al., appendix E.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float = 0.1,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 5e-4,
    ) -> None:
        ranges.at_least(0, lr=lr, weight_decay=weight_decay)
        ranges.below_one(momentum=momentum)
        if nesterov and not momentum:
            raise ValueError("expected momentum > 0 with nesterov, got 0")
        super().__init__(params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
        self.defaults["train_mode"] = True  # for param groups added later
        self.train()
        self.register_step_pre_hook(_raise_in_eval_mode)  # overriding step() would run torch's hooks twice

    def train(self) -> None:
        """Allow step(). The parameters are equal in both modes, unlike EntropySGD's."""
        self._set_mode(True)

    def eval(self) -> None:
        """Make step() raise, as EntropySGD does, so that code which runs with SGD runs with EntropySGD."""
        self._set_mode(False)

    def deployed(self) -> list[Tensor]:
        """Return the parameters, detached, in order. Not a copy: valid until the next step()."""
        return [p.detach() for group in self.param_groups for p in group["params"]]

    def report(self) -> dict[str, float]:
        """Return no numbers for the log."""
        return {}

    def _set_mode(self, train_mode: bool) -> None:
        for group in self.param_groups:
            group["train_mode"] = train_mode


def _raise_in_eval_mode(optimizer: torch.optim.Optimizer, *_: object) -> None:
    if not all(group["train_mode"] for group in optimizer.param_groups):
        raise RuntimeError("SGD.step() in eval mode; call optimizer.train() before taking gradients")
