"""What a method might leave changed in a model, to be compared before and after."""

from __future__ import annotations

import os

import torch
from torch import nn


def snapshot(model: nn.Module) -> list:
    """Everything that a method might leave changed: weights, buffers, gradients, modes, requires_grad."""
    return [
        {key: value.clone() for key, value in model.state_dict().items()},
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [module.training for module in model.modules()],
        [p.requires_grad for p in model.parameters()],
    ]


def same(before: list, after: list) -> bool:
    weights = all(torch.equal(before[0][key], after[0][key]) for key in before[0])
    grads = all((a is None) == (b is None) and (a is None or torch.equal(a, b)) for a, b in zip(before[1], after[1]))
    return weights and grads and before[2:] == after[2:]


class Dying(nn.Module):
    """Ends the process in which it computes, as the system does when memory is short."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x):
        os._exit(9)
