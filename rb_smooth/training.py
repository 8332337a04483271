"""The training loop: no callbacks, nothing to subclass. `coupling` says what a step is, `session` what a run holds."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import torch

from rb_smooth import files, processes, weights
from rb_smooth.checkpoints import exported
from rb_smooth.console import console, progress_bars, remark
from rb_smooth.declaration import Recipe
from rb_smooth.epochs import end_epoch, keep_start
from rb_smooth.guards import check_finite, check_origins, check_replicas, concerns
from rb_smooth.interruption import stop_requests
from rb_smooth.refusal import Interrupted
from rb_smooth.reports import Reports
from rb_smooth.run_folder import Run
from rb_smooth.seeding import random_state_kept
from rb_smooth.session import Session
from rb_smooth.splits import Dataset
from rb_smooth.states import forget_states, load_state, save_state

SAVED_EVERY_S = 600.0
"""Seconds of training that a killed process may lose."""


def train(recipe: Recipe, run: Run, data: Dataset, device: torch.device, saved_every_s: float = SAVED_EVERY_S) -> None:
    """Train to the end, or go on where the run stopped. Leaves best.pt, last.pt and log.csv in the run's folder.

    The state is saved after every epoch and within it every `saved_every_s` seconds: killed at any moment, even while
    it saves, the run goes on from there to the very same end. Raises Interrupted after Ctrl-C or SIGTERM, with the run
    saved at the minibatch reached. Of several processes (`processes.joined`) each takes its share of every minibatch,
    and the first one writes.
    """
    epochs = recipe.train.epochs
    with (
        random_state_kept(),
        stop_requests() as stop,
        progress_bars() as bars,
        Reports(run, epochs) as reports,
        ExitStack() as ending,
    ):
        session = _taken_up(recipe, run, data, device, reports)
        ending.callback(session.minibatches.close)
        bar = bars.add_task("training", total=epochs * session.batches, completed=session.t)
        saved_at, stopped = time.monotonic(), False
        while session.epoch < epochs and not stopped:
            order = session.order()
            while session.batch < session.batches and not stopped:
                session.run_batch(order)
                bars.update(bar, completed=session.t, description=f"epoch {session.epoch + 1}/{epochs}")
                stopped, overdue = processes.any_of(bool(stop), time.monotonic() - saved_at > saved_every_s)
                if overdue:
                    check_finite(session, run)
                    _save(session, run)
                    saved_at = time.monotonic()
            check_finite(session, run)
            if not stopped:
                _finish_epoch(session, run, reports)
            _save(session, run)
            saved_at = time.monotonic()
            [stopped] = processes.any_of(bool(stop))
        if stopped:
            raise Interrupted(f"stopped after {_position(session)}; the same command goes on from there")
        with session.deployed() as model:
            if processes.is_first():
                files.write_json(run.path / "training.json", _conditions(session))
                run.save("last", exported(model))
    if processes.is_first():
        forget_states(run.path)


def _taken_up(recipe: Recipe, run: Run, data: Dataset, device: torch.device, reports: Reports) -> Session:
    """A session at the beginning, or where the run stopped."""
    saved = processes.from_first(lambda: load_state(run.path))
    session = Session(recipe, data, device, begins=saved is None)
    check_origins(session)
    if saved is None:
        keep_start(session, run)
        return session
    state, path = saved
    session.resume(weights.moved(state, device), path)
    remark(f"resumed after {_position(session)}")
    if processes.is_first():
        reports.update(session.log)
    return session


def _finish_epoch(session: Session, run: Run, reports: Reports) -> None:
    """Measure, write down and say what the epoch has brought."""
    check_replicas(session)
    row = end_epoch(session, run)
    if not processes.is_first():
        return
    run.write_log(session.log)
    reports.update(session.log)
    remark(_line(row, session.recipe.train.epochs))
    for concern in concerns(session.log, len(session.data.source.classes)):
        console.print(f"watch out: {concern}")


def _save(session: Session, run: Run) -> None:
    state = session.state_dict()
    if processes.is_first():
        save_state(run.path, state)


def _conditions(session: Session) -> dict[str, Any]:
    """Under what the run was trained: what its numbers may depend on beyond the recipe, and what it cost."""
    device = session.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": processes.size(),
        "precision": session.precision,
        "compiled": session.compiled,
        "channels_last": session.layout is torch.channels_last,
        "origins": session.origins,
        "packages": session.recipe.packages,
        "threads": torch.get_num_threads(),
        "concerns": {
            f"epoch {epoch}": found
            for epoch in range(1, len(session.log) + 1)
            if (found := concerns(session.log[:epoch], len(session.data.source.classes)))
        },
        "seconds": sum(row["seconds"] for row in session.log),
    }


def _position(session: Session) -> str:
    return f"{session.epoch} of {session.recipe.train.epochs} epochs and {session.batch} minibatches"


def _line(row: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {row['epoch'] + 1:>3}/{epochs}  lr {row['lr']:<7.4g} loss {row['loss']:.3f}  "
        f"train robust {row['train_robust']:6.1%}  "
        f"validation clean {row['val_clean']:6.1%} robust {row['val_robust']:6.1%}"
        f"  {row['seconds']:.1f} s{'  best' if row['best'] else ''}"
    )
