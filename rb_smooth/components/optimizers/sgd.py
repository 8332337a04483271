"""Stochastic gradient descent with momentum: torch.optim.SGD with the interface of `interfaces.Optimizer`.

    d = g + wd * w;   m <- mom * m + d;   d <- d + mom * m  (Nesterov; d <- m without);   w <- w - lr * d

Gradients are taken at the deployed weights: w' = w.
"""

from __future__ import annotations

from typing import Any

import torch

from rb_smooth.components import ranges
from rb_smooth.components.torch_optimizers import TrainEvalModes


class SGD(TrainEvalModes, torch.optim.SGD):
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
        self._start_in_train_mode()
