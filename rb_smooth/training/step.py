"""One training step, the only place where objective, perturbation, optimizer and averaging meet."""

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
    """Attack at w', take the gradient at w' + v, update w', average w. Returns x_adv (B, C, H, W) and the outcome.

    model: a network, or the result of `distributed.wrap_ddp`, which averages only the gradient of the update over the
    processes; x (B, C, H, W) and y (B,) are then this process's shard of the minibatch.
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
