"""Time of EntropySGD's update beyond SGD's, as a share of an adversarial training step.

The training step has the recipe's 128 images. Two of its ten attack passes are timed, and the step is counted as eleven
of them. Its training pass costs more than an attack pass, so the share is an upper bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from benchmark_figure import figure
from benchmark_runs import SMALL_NET, first_minibatch, on_random_images
from interleaved_timing import time_interleaved

from rb_smooth.training.trainer import Trainer

_TIMED_PASSES, _COUNTED_PASSES = 2, 11


def measure(toy: bool) -> dict[str, Any]:
    smaller = (SMALL_NET,) if toy else ()
    images = 4 if toy else 128
    trainers = {method: on_random_images(method, images, *smaller) for method in ("at", "at+ensgd")}
    group = trainers["at+ensgd"].optimizer.param_groups[0]
    steps = group["inner_steps"]
    functions: dict[str, Callable[[], object]] = {name: _steps(each, steps) for name, each in trainers.items()}
    functions["crafting"] = _crafting(trainers["at"])
    times = time_interleaved(functions, seconds=0 if toy else 40, fewest=3)
    parts = [
        100 * (entropy_sgd - sgd) / steps / (crafting * _COUNTED_PASSES / _TIMED_PASSES)
        for sgd, entropy_sgd, crafting in zip(*times.values(), strict=True)
    ]
    what = f"EntropySGD's arithmetic beyond SGD's, as a share of an `at` step on {images} images"
    return {
        "figures": [figure(what, "%", parts, at_most=1.5)],
        "steps_averaged": steps,
        "scaled": f"{_TIMED_PASSES} crafting passes timed, a training step counted as {_COUNTED_PASSES} of them",
        "precision": trainers["at"].precision,
    }


def _steps(trainer: Trainer, steps: int) -> Callable[[], None]:
    """The optimizer steps of one outer step of EntropySGD, on one gradient."""
    for parameter in trainer.model.parameters():
        parameter.grad = 1e-3 * parameter.detach().clone()

    def work() -> None:
        for _ in range(steps):
            trainer.optimizer.step()

    return work


def _crafting(trainer: Trainer) -> Callable[[], object]:
    """Two attack steps, in the precision and layout of training."""
    x, y = first_minibatch(trainer)
    trainer.objective.steps = _TIMED_PASSES  # type: ignore[attr-defined]

    def work() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=trainer.precision == "bf16", cache_enabled=False):
            trainer.objective.craft(trainer.model, x, y)

    return work
