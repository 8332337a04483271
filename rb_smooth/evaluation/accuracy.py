"""How accurate a model is, on images as they are and after PGD; `evaluator` is the whole evaluation."""

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
"""Steps of the PGD by which the best epoch is selected; Kanai et al.'s evaluation attack for CIFAR-100 and SVHN."""


def measure_accuracy(
    model: nn.Module,
    images: AnyImages,
    threat: Threat | None = None,
    *,
    steps: int = PGD_STEPS,
    batch_size: int = 500,
    seed: int = 0,
) -> float:
    """The share, in [0, 1], of images that `is_correct` says are classified rightly."""
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
    """(N,) bool, on the CPU: which images `model` classifies rightly: as they are, or after PGD in `threat`.

    Images may be on the CPU. The model is evaluated in eval mode and left as found, the random state too. Of several
    processes each takes some of the batches; the flags are the same for any number of them.
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


def training_health(model: nn.Module, validation: AnyImages, train: AnyImages, threat: Threat) -> dict[str, float]:
    """By what `diagnostics.training_warnings` sees that training has gone wrong, as columns of the log; shares in [0,
    1].

    val_top_class: of validation images, those given the commonest class. train_clean, train_fgsm, train_pgd20: of
    training images, those classified rightly as they are, after one step of eps from a random start, and after PGD-20.
    """
    with input_gradient_mode(model, "eval"):
        given = predict_classes(model, validation, _device(model))
    return {
        "val_top_class": given.bincount().max().item() / len(given),
        "train_clean": measure_accuracy(model, train),
        "train_fgsm": measure_accuracy(model, train, threat._replace(step_size=threat.eps), steps=1),
        "train_pgd20": measure_accuracy(model, train, threat),
    }


def fraction(flags: Tensor) -> float:
    """The share of (N,) bool flags that are up, in [0, 1]."""
    return flags.double().mean().item()


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


_BATCH_SIZE = 500


@torch.no_grad()
def predict_classes(model: nn.Module, images: AnyImages, device: torch.device) -> Tensor:
    """The class that `model`, as it stands, gives each image: (N,) int64, on `device`."""
    return torch.cat([model(x).argmax(1) for x, _ in iterate_batches(images, _BATCH_SIZE, device)])
