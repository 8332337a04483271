"""What is measured after an epoch beside the validation accuracies that choose the best one, and what all of it costs.

After every epoch: signs of failure on validation images. After every fifth and the last, since nothing depends on it:
accuracy on a sample of the training images, and validation accuracy of w where its average is deployed.
"""

from __future__ import annotations

import torch
from torch import nn

from rb_smooth.components.attacks import input_gradient_mode
from rb_smooth.config.schema import Recipe
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import AnyImages
from rb_smooth.data.splits import DataSplits
from rb_smooth.evaluation.accuracy import PGD_STEPS, measure_accuracy, predict_classes

EVERY = 5
"""Epochs from one measurement of what decides nothing to the next."""

SAMPLE_IMAGES = 128
"""Training images whose accuracy is measured, and validation images under FGSM."""

_CLEAN, _FGSM, _PGD = (1, 0), (2, 1), (PGD_STEPS + 1, PGD_STEPS)
"""Forward and backward passes of an image."""


def is_complete(epoch: int, epochs: int) -> bool:
    """Whether everything is measured after `epoch` (from 0): every fifth, and the last."""
    return (epoch + 1) % EVERY == 0 or epoch + 1 == epochs


def failure_signs(model: nn.Module, validation: AnyImages, threat: Threat | None) -> dict[str, float]:
    """Return the log columns by which `diagnostics.training_warnings` detects failures; fractions in [0, 1].

    val_top_class: fraction of images in the most frequent predicted class.
    val_fgsm: accuracy on SAMPLE_IMAGES of them after one step of size eps from a random start. A network trained in one
    step may keep it while its accuracy after PGD-20 falls to 0. Left out if threat is None: standard training.
    """
    with input_gradient_mode(model, "eval"):
        predictions = predict_classes(model, validation, next(model.parameters()).device)
    signs = {"val_top_class": predictions.bincount().max().item() / len(predictions)}
    if threat is not None:
        one_step = threat._replace(step_size=threat.eps)
        signs["val_fgsm"] = measure_accuracy(model, _sample(validation), one_step, steps=1)
    return signs


def training_accuracy(model: nn.Module, train: AnyImages, threat: Threat) -> dict[str, float]:
    """Return train_clean and train_pgd20, in [0, 1], of SAMPLE_IMAGES images, the same in every epoch."""
    sample = _sample(train)
    return {"train_clean": measure_accuracy(model, sample), "train_pgd20": measure_accuracy(model, sample, threat)}


def count_passes(recipe: Recipe, data: DataSplits) -> tuple[int, int]:
    """Forward and backward passes, each of one image, of everything that a whole training measures.

    Includes the forward passes by which BatchNorm is recalibrated, one for each image.
    """
    epochs, validation, test = recipe.train.epochs, len(data.validation), recipe.train.log_test
    complete = sum(is_complete(epoch, epochs) for epoch in range(epochs))
    attacked = sum(recipe.build("objective", epoch=epoch).threat is not None for epoch in range(epochs))
    averages = recipe.stage("averaging").name != "none"
    evaluations = epochs + complete * averages
    images = {
        _CLEAN: evaluations * (validation + test) + epochs * validation,
        _FGSM: attacked * min(SAMPLE_IMAGES, validation),
        _PGD: evaluations * (validation + test),
    }
    sample = complete * min(SAMPLE_IMAGES, len(data.train))
    images[_CLEAN] += sample + evaluations * recipe.train.recalibrate * recipe.data.batch_size
    images[_PGD] += sample
    return sum(n * f for (f, _), n in images.items()), sum(n * b for (_, b), n in images.items())


def _sample(images: AnyImages) -> AnyImages:
    """SAMPLE_IMAGES of them at equal distances, or all: a folder's are ordered by class."""
    count = min(SAMPLE_IMAGES, len(images))
    return images[torch.arange(count) * len(images) // count]
