"""The training loop: no callbacks, nothing to subclass. `step` says what a step is, `trainer` what a run holds.

At an epoch's end what would be deployed now is measured, kept if it is the best so far, and written down.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from rb_smooth.components import weights
from rb_smooth.components.checkpoints import exported
from rb_smooth.config.schema import Recipe
from rb_smooth.core import distributed, files
from rb_smooth.core.console import console, progress_bars, remark
from rb_smooth.core.determinism import random_state_kept
from rb_smooth.core.errors import Interrupted
from rb_smooth.core.threat import Threat
from rb_smooth.core.worker_pool import stop_requests
from rb_smooth.data.splits import Dataset
from rb_smooth.evaluation.accuracy import accuracy, health
from rb_smooth.training.diagnostics import check_finite, check_origins, check_replicas, concerns
from rb_smooth.training.run_folder.reporting import Reports
from rb_smooth.training.run_folder.resume import forget_states, load_state, save_state
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.trainer import Session

SAVED_EVERY_S = 600.0
"""Seconds of training that a killed process may lose."""


def train(recipe: Recipe, run: Run, data: Dataset, device: torch.device, saved_every_s: float = SAVED_EVERY_S) -> None:
    """Train to the end, or go on where the run stopped. Leaves best.pt, last.pt and log.csv in the run's folder.

    The state is saved after every epoch and within it every `saved_every_s` seconds: killed at any moment, even while
    it saves, the run goes on from there to the very same end. Raises Interrupted after Ctrl-C or SIGTERM, with the run
    saved at the minibatch reached. Of several processes (`distributed.joined`) each takes its share of every minibatch,
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
                stopped, overdue = distributed.any_of(bool(stop), time.monotonic() - saved_at > saved_every_s)
                if overdue:
                    check_finite(session, run)
                    _save(session, run)
                    saved_at = time.monotonic()
            check_finite(session, run)
            if not stopped:
                _finish_epoch(session, run, reports)
            _save(session, run)
            saved_at = time.monotonic()
            [stopped] = distributed.any_of(bool(stop))
        if stopped:
            raise Interrupted(f"stopped after {_position(session)}; the same command goes on from there")
        with session.deployed() as model:
            if distributed.is_first():
                files.write_json(run.path / "training.json", _conditions(session))
                run.save("last", exported(model))
    if distributed.is_first():
        forget_states(run.path)


def _taken_up(recipe: Recipe, run: Run, data: Dataset, device: torch.device, reports: Reports) -> Session:
    """A session at the beginning, or where the run stopped."""
    saved = distributed.from_first(lambda: load_state(run.path))
    session = Session(recipe, data, device, begins=saved is None)
    check_origins(session)
    if saved is None:
        keep_start(session, run)
        return session
    state, path = saved
    session.resume(weights.moved(state, device), path)
    remark(f"resumed after {_position(session)}")
    if distributed.is_first():
        reports.update(session.log)
    return session


def _finish_epoch(session: Session, run: Run, reports: Reports) -> None:
    """Measure, write down and say what the epoch has brought."""
    check_replicas(session)
    row = end_epoch(session, run)
    if not distributed.is_first():
        return
    run.write_log(session.log)
    reports.update(session.log)
    remark(_line(row, session.recipe.train.epochs))
    for concern in concerns(session.log, len(session.data.source.classes)):
        console.print(f"watch out: {concern}")


def _save(session: Session, run: Run) -> None:
    state = session.state_dict()
    if distributed.is_first():
        save_state(run.path, state)


def _conditions(session: Session) -> dict[str, Any]:
    """Under what the run was trained: what its numbers may depend on beyond the recipe, and what it cost."""
    device = session.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": distributed.size(),
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


_WATCHED = 128
"""Training images on which FGSM and PGD are compared after every epoch."""


def end_epoch(session: Session, run: Run) -> dict[str, Any]:
    """Measure what would be deployed, keep it if it is the best so far, and step to the next epoch.

    Returns the log's row; accuracies are shares in [0, 1]. `train_robust` comes from training's own forwards: it is
    measured where the gradient was taken, under AWP at w' + v.
    """
    recipe, data = session.recipe, session.data
    seen = session.batches * recipe.data.batch_size
    loss, right = distributed.add_up(session.sums).tolist()
    trained = session.seconds + time.monotonic() - session.clock
    row: dict[str, Any] = {
        "epoch": session.epoch,
        "lr": session.optimizer.param_groups[0]["lr"],
        "loss": loss / seen,
        "train_robust": right / seen,
    }
    threat = recipe.trained_threat or recipe.threat
    with session.deployed() as model:
        row |= _measured(session, model, threat)
        metric = row["val_clean"] if recipe.trained_threat is None else row["val_robust"]
        row["best"] = metric > session.best
        if row["best"]:
            session.best = metric
            _save_weights(run, "best", model)
        if session.epoch + 1 in recipe.train.keep:
            _save_weights(run, f"epoch-{session.epoch + 1}", model)
        row |= health(model, data.validation, data.train[:_WATCHED], threat)
    if recipe.stage("averaging").name != "none":
        with session.deployed(averaged=False) as model:
            row |= _measured(session, model, threat, "w_")
    row |= session.optimizer.report()
    row |= {"seconds": session.seconds + time.monotonic() - session.clock, "images_per_s": seen / trained}
    session.log.append(row)
    session.next_epoch()
    return row


def keep_start(session: Session, run: Run) -> None:
    """The weights before the first epoch, if the recipe keeps them."""
    if 0 in session.recipe.train.keep:
        _save_weights(run, "epoch-0", session.model)


def _measured(session: Session, model: nn.Module, threat: Threat, prefix: str = "") -> dict[str, float]:
    """val_clean and val_robust, and test_clean and test_robust if asked; `prefix` stands before the last word."""
    sets = {"val": session.data.validation}
    if asked := session.recipe.train.log_test:
        sets["test"] = session.data.test[:asked]
    return {
        f"{name}_{prefix}{what}": accuracy(model, images, ball)
        for name, images in sets.items()
        for what, ball in (("clean", None), ("robust", threat))
    }


def _save_weights(run: Run, name: str, model: nn.Module) -> None:
    if distributed.is_first():
        run.save(name, exported(model))
