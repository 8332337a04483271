"""Lower bound of a training step: its forward and backward passes and SGD's step, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rb_smooth.components import batchnorm, weights
from rb_smooth.components.flops import count_flops
from rb_smooth.training.trainer import Trainer


class BarePasses:
    """Calling it makes as many passes over x and y as one step of `trainer`, in its layout, modes and precision.

    An attack step is a forward and a backward pass to the images, with frozen parameters. A training pass goes back to
    the parameters; TRADES makes two, and AWP as many again. TRADES also has a clean forward pass before its attack. All
    losses are plain cross-entropies.
    """

    def __init__(self, trainer: Trainer, x: Tensor, y: Tensor) -> None:
        self.trainer, self.x, self.y = trainer, x.contiguous(), y
        self.attack_steps, self.bn_mode = trainer.objective.steps, trainer.objective.bn_mode  # type: ignore[attr-defined]
        self.is_trades = trainer.recipe.stage("objective", trainer.epoch).name == "trades"
        has_awp = trainer.recipe.stage("perturbation", trainer.epoch).name == "awp"
        self.training_passes = (2 if self.is_trades else 1) * (2 if has_awp else 1)
        self.parameters = [p for p in trainer.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(self.parameters, lr=1e-6, momentum=0.9, weight_decay=5e-4)

    def __call__(self) -> None:
        trainer = self.trainer
        narrow = trainer.precision == "bf16"
        with torch.autocast(trainer.device.type, torch.bfloat16, enabled=narrow, cache_enabled=False):
            gradients = self._passes(trainer.trained, self.x, self.y)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def flop_per_image(self) -> float:
        """Counted on two images with the network that is not compiled."""
        return count_flops(lambda: self._passes(self.trainer.model, self.x[:2], self.y[:2])) / 2

    def _passes(self, model: nn.Module, x: Tensor, y: Tensor) -> Sequence[Tensor]:
        """Gradients of the last training pass."""
        with batchnorm.batchnorm_mode(model, self.bn_mode), weights.no_param_grad(model):
            if self.is_trades:
                model(x)
            for _ in range(self.attack_steps):
                images = x.detach().requires_grad_()
                torch.autograd.grad(F.cross_entropy(model(images), y), images)
        gradients: Sequence[Tensor] = ()
        for _ in range(self.training_passes):
            gradients = torch.autograd.grad(F.cross_entropy(model(x), y), self.parameters)
        return gradients


def count_forwards(model: nn.Module, work: Callable[[], object]) -> int:
    """How often `work` calls the model."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    handle = model.register_forward_hook(count)
    try:
        work()
    finally:
        handle.remove()
    return calls
