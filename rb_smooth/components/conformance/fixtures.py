"""Test inputs for the contract checks (a small net, a minibatch, parameters), and comparison of model states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rb_smooth.components.models import Normalized
from rb_smooth.core.determinism import preserve_rng


class ContractError(AssertionError):
    """A contract check failed. The message says what was expected and what happened."""


def require(holds: bool, message: str) -> None:
    """Raises ContractError(message) unless `holds`; unlike assert, also explains itself outside pytest."""
    if not holds:
        raise ContractError(message)


def small_net() -> Normalized:
    """A convolution, BatchNorm and a linear layer, for images (B, 2, 6, 6) of 5 classes; always the same weights."""
    with preserve_rng():
        torch.manual_seed(0)
        inner = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
        )
        model = Normalized(inner, [0.4, 0.5], [0.3, 0.2])
        with torch.no_grad():  # running statistics away from their initial values
            for _ in range(3):
                model(torch.rand(16, 2, 6, 6))
    return model


def small_batch() -> tuple[Tensor, Tensor]:
    """12 images for `small_net`, and labels; always the same."""
    return torch.rand(12, 2, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 5


def cross_entropy(model: nn.Module) -> Callable[[], Tensor]:
    """The loss function that a perturbation receives: cross-entropy of one minibatch at the current weights."""
    x, y = small_batch()
    return lambda: F.cross_entropy(model(x), y)


def make_params() -> list[Tensor]:
    """Two parameters for an optimizer; always the same values."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in ((3, 2), (4,))]


def run_steps(optimizer: Any, params: list[Tensor], steps: int) -> None:
    """Run `steps` minibatches, with gradients that depend on the parameters and the step."""
    for k in range(steps):
        for i, p in enumerate(params):
            p.grad = torch.sin(p.detach() * (i + 1) + k)
        optimizer.step()


def equal_tensors(first: list[Tensor], second: list[Tensor]) -> bool:
    """Whether two lists of tensors are equal bit for bit."""
    return len(first) == len(second) and all(map(torch.equal, first, second))


def snapshot(model: nn.Module) -> list[Any]:
    """The state that a method must not change: weights, buffers, gradients, modes, requires_grad."""
    return [
        {key: value.clone() for key, value in model.state_dict().items()},
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [module.training for module in model.modules()],
        [p.requires_grad for p in model.parameters()],
    ]


def equal_snapshots(before: list[Any], after: list[Any]) -> bool:
    """Whether two snapshots of one model are equal, bit for bit."""
    weights = all(torch.equal(before[0][key], after[0][key]) for key in before[0])
    pairs = zip(before[1], after[1], strict=True)
    grads = all((a is None) == (b is None) and (a is None or torch.equal(a, b)) for a, b in pairs)
    return weights and grads and before[2:] == after[2:]
