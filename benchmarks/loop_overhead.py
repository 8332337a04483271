"""What an epoch of the training loop costs beyond its training steps: data, seeds, schedule, log, progress, checks.

The two take turns minibatch by minibatch, so that a moment's disturbance meets both; what is compared are epochs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from benchmark_figure import figure
from benchmark_runs import on_digits
from interleaved_timing import time_interleaved
from rich.progress import Progress

from rb_smooth.core import distributed
from rb_smooth.core.console import progress_bars
from rb_smooth.training import step
from rb_smooth.training.diagnostics import check_finite
from rb_smooth.training.loop import SAVED_EVERY_S
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.trainer import Trainer


def measure(toy: bool) -> dict[str, Any]:
    trainer = on_digits("at+awp+ensgd", *(("data.train_examples=64", "objective.steps=1") if toy else ()))
    with TemporaryDirectory() as folder, progress_bars() as bars:
        loop, steps = _loop(trainer, Run(Path(folder)), bars), _bare_steps(trainer)
        epochs = 3 if toy else 25
        times = time_interleaved(
            {"loop": lambda: next(loop), "steps": lambda: next(steps)},
            seconds=0 if toy else 45,
            fewest=3 * trainer.batches,
            most=epochs * trainer.batches,
        )
    loops, bare = (_epochs(each, trainer.batches) for each in times.values())
    beyond = [100 * (ours / floor - 1) for ours, floor in zip(loops, bare, strict=True)]
    what = "digits at+awp+ensgd: an epoch of the loop beyond its steps"
    return {
        "figures": [figure(what, "%", beyond, at_most=10.0)],
        "minibatches": trainer.batches,
        "batch_size": trainer.recipe.data.batch_size,
        "precision": trainer.precision,
    }


def _loop(trainer: Trainer, run: Run, bars: Progress) -> Iterator[None]:
    """The inner loop of `loop.train`, line by line, epoch after epoch; yields after every minibatch."""
    stop: list[float] = []
    bar = bars.add_task("training", total=trainer.batches)
    saved_at, stopped = time.monotonic(), False
    while True:
        trainer.batch, order = 0, trainer.batch_order()
        while trainer.batch < trainer.batches and not stopped:
            trainer.run_batch(order)
            bars.update(bar, completed=trainer.t, description="epoch")
            stopped, _ = distributed.all_reduce_any(bool(stop), time.monotonic() - saved_at > SAVED_EVERY_S)
            if trainer.batch == trainer.batches:
                check_finite(trainer, run)
            yield


def _bare_steps(trainer: Trainer) -> Iterator[None]:
    """`step.training_step` on the same minibatches, drawn beforehand; in training's precision, without its seeds."""
    order = trainer.batch_order()
    drawn = [trainer.batch_loader.draw(order, batch, batch) for batch in range(trainer.batches)]
    while True:
        for t, (x, y) in enumerate(drawn):
            methods = trainer.objective, trainer.perturbation, trainer.optimizer, trainer.averaging
            with torch.autocast("cpu", torch.bfloat16, enabled=trainer.precision == "bf16", cache_enabled=False):
                step.training_step(trainer.trained, *methods, x, y, t)
            yield


def _epochs(seconds: list[float], minibatches: int) -> list[float]:
    """Seconds of each whole epoch. It may begin anywhere: each has one shuffle and one check of finiteness."""
    starts = range(0, len(seconds) - minibatches + 1, minibatches)
    return [sum(seconds[start : start + minibatches]) for start in starts]
