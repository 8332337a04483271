"""The training loop: no callbacks, nothing to subclass. `coupling` says what a step is, `session` what a run holds."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import torch

from rb_smooth import files
from rb_smooth.checkpoints import exported
from rb_smooth.console import console, progress_bars
from rb_smooth.declaration import Recipe
from rb_smooth.guards import check_finite, concerns
from rb_smooth.interruption import stop_requests
from rb_smooth.refusal import Interrupted
from rb_smooth.run_folder import Run
from rb_smooth.seeding import random_state_kept
from rb_smooth.session import Session
from rb_smooth.splits import Dataset

SAVED_EVERY_S = 600.0
"""Seconds of training that a killed process may lose."""


def train(recipe: Recipe, run: Run, data: Dataset, device: torch.device, saved_every_s: float = SAVED_EVERY_S) -> None:
    """Train to the end, or go on where the run stopped. Leaves best.pt, last.pt and log.csv in the run's folder.

    The state is saved after every epoch and within it every `saved_every_s` seconds: killed at any moment, even while
    it saves, the run goes on from there to the very same end. Raises Interrupted after Ctrl-C or SIGTERM, with the run
    saved at the minibatch reached.
    """
    epochs = recipe.train.epochs
    with random_state_kept(), stop_requests() as stop, progress_bars() as bars, ExitStack() as ending:
        saved = run.load_state(device)
        session = Session(recipe, data, device, begins=saved is None)
        ending.callback(session.minibatches.close)
        if saved is not None:
            session.resume(*saved)
            console.print(f"resumed after {_position(session)}")
        bar = bars.add_task("training", total=epochs * session.batches, completed=session.t)
        saved_at = time.monotonic()
        while session.epoch < epochs:
            order = session.order()
            while session.batch < session.batches and not stop:
                session.run_batch(order)
                if time.monotonic() - saved_at > saved_every_s:
                    check_finite(session, run)
                    run.save_state(session.state_dict())
                    saved_at = time.monotonic()
                bars.update(bar, completed=session.t, description=f"epoch {session.epoch + 1}/{epochs}")
            check_finite(session, run)
            if not stop:
                console.print(_line(session.finish_epoch(run), epochs))
                run.write_log(session.log)
                for concern in concerns(session.log, len(data.source.classes)):
                    console.print(f"watch out: {concern}")
            run.save_state(session.state_dict())
            saved_at = time.monotonic()
            if stop:
                raise Interrupted(f"stopped after {_position(session)}; the same command goes on from there")
        files.write_json(run.path / "training.json", _conditions(session))
        with session.deployed() as model:
            run.save("last", exported(model))
    run.forget_state()


def _conditions(session: Session) -> dict[str, Any]:
    """Under what the run was trained: what its numbers may depend on beyond the recipe, and what it cost."""
    device = session.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": session.precision,
        "origins": session.origins,
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
