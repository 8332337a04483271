"""Time of what an epoch measures (accuracies, signs of failure, BatchNorm's recalibration) beside its training steps.

On digits whole epochs are timed, five together, since some accuracies are measured every fifth; training and measuring
alternate. For CIFAR-10 a training step, clean accuracy and PGD-20 on 16 images are timed in turn, and counted as often
as 200 epochs of cifar10/at have them.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

from benchmark_figure import Figure, figure
from benchmark_runs import SMALL_NET, first_minibatch, on_digits, on_random_images, training_step_of
from interleaved_timing import time_interleaved

from rb_smooth.config.overrides import resolve_config
from rb_smooth.data.splits import DataSplits
from rb_smooth.evaluation.accuracy import PGD_STEPS, measure_accuracy
from rb_smooth.training import measurement, validate
from rb_smooth.training.loop import end_epoch
from rb_smooth.training.run_folder.run import Run

_TRAIN, _VALIDATION = 49_000, 1_000
"""Images of cifar10/at."""


def measure(toy: bool) -> dict[str, Any]:
    return {"figures": [*_digits(toy), _cifar10(toy)]}


def _digits(toy: bool) -> list[Figure]:
    settings = ("data.train_examples=64", "objective.steps=1") if toy else ()
    trainer = on_digits("at", *settings, epochs=5 if toy else 40)
    training, measuring = [], []
    with TemporaryDirectory() as folder:
        for _ in range(trainer.recipe.train.epochs):
            order, start = trainer.batch_order(), time.perf_counter()
            while trainer.batch < trainer.batches:
                trainer.run_batch(order)
            trained = time.perf_counter()
            end_epoch(trainer, Run(Path(folder)))
            training.append(trained - start)
            measuring.append(time.perf_counter() - trained)
    groups = [slice(first, first + measurement.EVERY) for first in range(0, len(training), measurement.EVERY)]
    shares = [100 * sum(measuring[group]) / sum(training[group] + measuring[group]) for group in groups]
    ratios = [100 * sum(measuring[group]) / sum(training[group]) for group in groups]
    what = "what epochs of digits `at` measure, as a share of"
    return [figure(f"{what} their time", "%", shares), figure(f"{what} their training steps' time", "%", ratios)]


def _cifar10(toy: bool) -> Figure:
    images = 4 if toy else 16
    trainer = on_random_images("at", images, *((SMALL_NET, "objective.steps=1") if toy else ()))
    recipe = validate.check_recipe(*resolve_config("cifar10", "at", []))
    sizes = SimpleNamespace(train=range(_TRAIN), validation=range(_VALIDATION))
    forwards, backwards = measurement.count_passes(recipe, cast(DataSplits, sizes))
    attacks = backwards / PGD_STEPS
    steps = recipe.train.epochs * (_TRAIN // recipe.data.batch_size) * recipe.data.batch_size
    points = trainer.data.validation
    ways = {
        "step": training_step_of(trainer, *first_minibatch(trainer)),
        "clean": lambda: measure_accuracy(trainer.model, points),
        "attack": lambda: measure_accuracy(trainer.model, points, recipe.threat),
    }
    times = time_interleaved(ways, seconds=0 if toy else 60, fewest=3)
    shares = [
        100 * (attack * attacks + clean * (forwards - (PGD_STEPS + 1) * attacks)) / (step * steps)
        for step, clean, attack in zip(*times.values(), strict=True)
    ]
    what = f"what epochs of CIFAR-10 `at` measure, as a share of their training steps' time ({trainer.precision})"
    return figure(what, "%", shares)
