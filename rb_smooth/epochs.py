"""An epoch's end: what would be deployed now is measured, kept if it is the best so far, and written down."""

from __future__ import annotations

import time
from typing import Any

from torch import nn

from rb_smooth import processes
from rb_smooth.checkpoints import exported
from rb_smooth.contracts import Threat
from rb_smooth.evaluation import accuracy, health
from rb_smooth.run_folder import Run
from rb_smooth.session import Session

_WATCHED = 128
"""Training images on which FGSM and PGD are compared after every epoch."""


def end_epoch(session: Session, run: Run) -> dict[str, Any]:
    """Measure what would be deployed, keep it if it is the best so far, and step to the next epoch.

    Returns the log's row; accuracies are shares in [0, 1]. `train_robust` comes from training's own forwards: it is
    measured where the gradient was taken, under AWP at w' + v.
    """
    recipe, data = session.recipe, session.data
    seen = session.batches * recipe.data.batch_size
    loss, right = processes.add_up(session.sums).tolist()
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
            _save(run, "best", model)
        if session.epoch + 1 in recipe.train.keep:
            _save(run, f"epoch-{session.epoch + 1}", model)
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
        _save(run, "epoch-0", session.model)


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


def _save(run: Run, name: str, model: nn.Module) -> None:
    if processes.is_first():
        run.save(name, exported(model))
