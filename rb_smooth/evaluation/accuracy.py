"""Clean and PGD accuracy of a model. `evaluator` runs the full evaluation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rb_smooth.components.attacks import input_gradient_mode, pgd
from rb_smooth.core import distributed
from rb_smooth.core.determinism import preserve_rng
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import AnyImages, iterate_batches

PGD_STEPS = 20
"""PGD steps for selecting the best epoch; also Kanai et al.'s evaluation attack for CIFAR-100 and SVHN."""


def measure_accuracy(
    model: nn.Module,
    images: AnyImages,
    threat: Threat | None = None,
    *,
    steps: int = PGD_STEPS,
    batch_size: int = 500,
    seed: int = 0,
) -> float:
    """Return the accuracy, in [0, 1]: the fraction of images for which `is_correct` is True."""
    return fraction(is_correct(model, images, threat, steps=steps, batch_size=batch_size, seed=seed))


def is_correct(
    model: nn.Module,
    images: AnyImages,
    threat: Threat | None = None,
    *,
    steps: int = PGD_STEPS,
    batch_size: int = 500,
    seed: int = 0,
) -> Tensor:
    """Return (N,) bool on the CPU: True where `model` classifies the image correctly, clean or after PGD in `threat`.

    Images may be on the CPU. The model runs in eval mode; its modes and the random state are restored. Several
    processes share the batches; the result is the same for any number of processes.
    """
    device = _device(model)
    flags = torch.zeros(len(images), dtype=torch.uint8, device=device)
    with preserve_rng(), input_gradient_mode(model, "eval"):
        for number in range(distributed.rank(), math.ceil(len(images) / batch_size), distributed.world_size()):
            part = slice(number * batch_size, (number + 1) * batch_size)
            ((x, y),) = iterate_batches(images[part], batch_size, device)
            if threat is not None:
                torch.manual_seed(seed + number)
                x = pgd(model, x, y, threat, steps)
            with torch.no_grad():
                flags[part] = model(x).argmax(1) == y
    return distributed.all_reduce_sum(flags).bool().cpu()


def fraction(flags: Tensor) -> float:
    """Return the fraction of True in (N,) bool flags."""
    return flags.double().mean().item()


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


_BATCH_SIZE = 500


@torch.no_grad()
def predict_classes(model: nn.Module, images: AnyImages, device: torch.device) -> Tensor:
    """Return the predicted classes in the model's current mode: (N,) int64 on `device`."""
    return torch.cat([model(x).argmax(1) for x, _ in iterate_batches(images, _BATCH_SIZE, device)])
