"""What an epoch of the training loop costs beyond its training steps: data, seeds, schedule, log, progress, checks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from figures import figure
from interleaved import interleaved
from subjects import on_digits

from rb_smooth import coupling, processes
from rb_smooth.console import progress_bars
from rb_smooth.guards import check_finite
from rb_smooth.run_folder import Run
from rb_smooth.session import Session
from rb_smooth.training import SAVED_EVERY_S


def measure(toy: bool) -> dict[str, Any]:
    session = on_digits("at+awp+ensgd", *(("data.train_examples=64", "objective.steps=1") if toy else ()))
    with TemporaryDirectory() as folder:
        run = Run(Path(folder))
        contenders = {"loop": lambda: _epoch_of_the_loop(session, run), "steps": _bare_steps(session)}
        times = interleaved(contenders, seconds=0 if toy else 45, fewest=3)
    beyond = [100 * (loop - steps) / steps for loop, steps in zip(times["loop"], times["steps"], strict=True)]
    what = "digits at+awp+ensgd: an epoch of the loop beyond its steps"
    return {
        "figures": [figure(what, "%", beyond, at_most=10.0)],
        "minibatches": session.batches,
        "batch_size": session.recipe.data.batch_size,
        "precision": session.precision,
    }


def _epoch_of_the_loop(session: Session, run: Run) -> None:
    """The inner loop of `training.train`, line by line."""
    stop: list[float] = []
    session.batch = 0
    with progress_bars() as bars:
        bar = bars.add_task("training", total=session.batches)
        saved_at, stopped = time.monotonic(), False
        order = session.order()
        while session.batch < session.batches and not stopped:
            session.run_batch(order)
            bars.update(bar, completed=session.t, description="epoch")
            stopped, _ = processes.any_of(bool(stop), time.monotonic() - saved_at > SAVED_EVERY_S)
        check_finite(session, run)


def _bare_steps(session: Session) -> Callable[[], None]:
    """`coupling.step` on the epoch's minibatches, drawn beforehand; in training's precision, without its seeds."""
    order = session.order()
    drawn = [session.minibatches.draw(order, batch, batch) for batch in range(session.batches)]

    def work() -> None:
        methods = session.objective, session.perturbation, session.optimizer, session.averaging
        for t, (x, y) in enumerate(drawn):
            with torch.autocast("cpu", torch.bfloat16, enabled=session.precision == "bf16", cache_enabled=False):
                coupling.step(session.trained, *methods, x, y, t)

    return work
