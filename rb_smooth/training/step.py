"""One training step. These lines are all that objective, perturbation, optimizer and averaging know of each other."""

from __future__ import annotations

from torch import Tensor, nn

from rb_smooth.components.interfaces import Averaging, Objective, Optimizer, Outcome, Perturbation
from rb_smooth.core import distributed


def training_step(
    model: nn.Module,
    objective: Objective,
    perturbation: Perturbation,
    optimizer: Optimizer,
    averaging: Averaging,
    x: Tensor,
    y: Tensor,
    t: int,
) -> tuple[Tensor, Outcome]:
    """One minibatch: craft at w', take the gradient at w' + v, move from w', average w. Returns x_adv and outcome.

    model: a network, or what `distributed.wrap_ddp` made of one; then only the gradient that moves the weights is
    averaged over the processes by it, and x, y are this process's share of the minibatch.
    """
    network = distributed.unwrap_ddp(model)
    x_adv = objective.craft(network, x, y)
    with perturbation(network, lambda: objective.loss(network, x, x_adv, y).loss):
        optimizer.zero_grad(set_to_none=True)
        outcome = objective.loss(model, x, x_adv, y)
        outcome.loss.backward()
    optimizer.step()
    averaging.update(optimizer.deployed(), t)
    return x_adv, outcome
