"""The training loop: minibatches, evaluation after each epoch, checkpoints.

step.py holds one training step, trainer.py the state of training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from rb_smooth.components import weights
from rb_smooth.components.checkpoints import export_state_dict
from rb_smooth.components.models import Normalized
from rb_smooth.config.schema import Recipe
from rb_smooth.core import distributed, files
from rb_smooth.core.console import console, log_info, progress_bars
from rb_smooth.core.determinism import preserve_rng
from rb_smooth.core.errors import Interrupted
from rb_smooth.core.formatting import counted
from rb_smooth.core.threat import Threat
from rb_smooth.core.worker_pool import catch_stop_signals
from rb_smooth.data.splits import DataSplits
from rb_smooth.evaluation.accuracy import measure_accuracy
from rb_smooth.training import measurement
from rb_smooth.training.diagnostics import check_finite, check_input_hashes, check_replicas, training_warnings
from rb_smooth.training.run_folder.log import LogRow, best_row
from rb_smooth.training.run_folder.reporting import RunReporter
from rb_smooth.training.run_folder.resume import delete_states, load_state, save_state
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.selection import best_epoch, needs_previous_weights, stage_starts
from rb_smooth.training.trainer import Trainer

SAVED_EVERY_S = 600.0
"""Seconds between saved states, which a killed process loses at most."""


def train(
    recipe: Recipe,
    run: Run,
    data: DataSplits,
    device: torch.device,
    network: Normalized | None = None,
    saved_every_s: float = SAVED_EVERY_S,
    after_epoch: Callable[[Sequence[LogRow]], None] | None = None,
) -> None:
    """Train or resume to the last epoch. Writes best.pt, last.pt and log.csv to the run's folder.

    Saves the state after every epoch, and every `saved_every_s` seconds within one: a run killed at any moment, even
    while it saves, resumes to bit-identical results. Raises Interrupted after a stop signal, with the state saved.
    Of several processes (`distributed.process_group`) each trains on a shard of every minibatch; rank zero writes.
    network: result of `build_network`; None: build it. after_epoch: called with the log when an epoch is saved.
    """
    epochs = recipe.train.epochs
    with (
        preserve_rng(),
        catch_stop_signals() as stop,
        progress_bars() as bars,
        RunReporter(run, epochs) as reporter,
        ExitStack() as ending,
    ):
        trainer = _start_or_resume(recipe, run, data, device, network, reporter)
        ending.callback(trainer.batch_loader.close)
        bar = bars.add_task("training", total=epochs * trainer.batches, completed=trainer.t)
        saved_at, stopped = time.monotonic(), False
        while trainer.epoch < epochs and not stopped:
            order = trainer.batch_order()
            while trainer.batch < trainer.batches and not stopped:
                trainer.run_batch(order)
                bars.update(bar, completed=trainer.t, description=f"epoch {trainer.epoch + 1}/{epochs}")
                stopped, overdue = distributed.all_reduce_any(bool(stop), time.monotonic() - saved_at > saved_every_s)
                if overdue:
                    check_finite(trainer, run)
                    _save(trainer, run)
                    saved_at = time.monotonic()
            check_finite(trainer, run)
            if not stopped:
                _finish_epoch(trainer, run, reporter)
            _save(trainer, run)
            if after_epoch is not None and not stopped:
                after_epoch(trainer.log)
            saved_at = time.monotonic()
            [stopped] = distributed.all_reduce_any(bool(stop))
        if stopped:
            raise Interrupted(f"stopped after {_position(trainer)}; the same command goes on from there")
        with trainer.evaluation_model() as model:
            if distributed.is_rank_zero():
                files.write_json(run.path / "training.json", _training_record(trainer))
                run.save("last", export_state_dict(model))
    if distributed.is_rank_zero():
        delete_states(run.path)


def _start_or_resume(
    recipe: Recipe,
    run: Run,
    data: DataSplits,
    device: torch.device,
    network: Normalized | None,
    reporter: RunReporter,
) -> Trainer:
    """A trainer at the first minibatch, or at the saved one."""
    saved = distributed.rank_zero_call(lambda: load_state(run.path))
    trainer = Trainer(recipe, data, device, starts_training=saved is None, network=network)
    check_input_hashes(trainer)
    if saved is None:
        save_initial_weights(trainer, run)
        return trainer
    state, path = saved
    trainer.resume(weights.to_device(state, device), path)
    log_info(f"resumed after {_position(trainer)}")
    if distributed.is_rank_zero():
        reporter.update(trainer.log)
    return trainer


def _finish_epoch(trainer: Trainer, run: Run, reporter: RunReporter) -> None:
    """Evaluate and log the epoch, and print warnings."""
    check_replicas(trainer)
    end_epoch(trainer, run)
    if not distributed.is_rank_zero():
        return
    run.write_log(trainer.log)
    reporter.update(trainer.log)
    log_info(_epoch_line(trainer.log, trainer.recipe))
    for warning in training_warnings(trainer.log, len(trainer.data.source.classes)):
        console.print(f"warning: {warning}")


def _save(trainer: Trainer, run: Run) -> None:
    state = trainer.state_dict()
    if distributed.is_rank_zero():
        save_state(run.path, state)


def _training_record(trainer: Trainer) -> dict[str, Any]:
    """Content of training.json: what the results may depend on beyond the recipe, warnings, and time."""
    device = trainer.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": distributed.world_size(),
        "precision": trainer.precision,
        "compiled": trainer.compiled,
        "channels_last": trainer.layout is torch.channels_last,
        "origins": trainer.input_hashes,
        "packages": trainer.recipe.packages,
        "threads": torch.get_num_threads(),
        "concerns": {
            f"epoch {epoch}": warnings
            for epoch in range(1, len(trainer.log) + 1)
            if (warnings := training_warnings(trainer.log[:epoch], len(trainer.data.source.classes)))
        },
        "seconds": sum(row["seconds"] for row in trainer.log),
    }


def _position(trainer: Trainer) -> str:
    return f"{trainer.epoch} of {counted(trainer.recipe.train.epochs, 'epoch')} and {trainer.batch} minibatches"


def _epoch_line(log: list[dict[str, Any]], recipe: Recipe) -> str:
    row, train = log[-1], recipe.train
    attacked = recipe.build("objective", epoch=row["epoch"]).threat is not None
    best = "  best" if row["best"] else ""
    if needs_previous_weights(train.select_rule):  # an epoch may become the best one later
        best = f"  best so far: {best_row(log)['epoch'] + 1}"
    sample = f"  train robust {row['train_pgd20']:.1%}" if "train_pgd20" in row else ""
    return (
        f"epoch {row['epoch'] + 1:>3}/{train.epochs}  lr {row['lr']:<7.4g} loss {row['loss']:.3f}  "
        f"minibatches {'robust' if attacked else 'clean'} {row['train_robust']:6.1%}  "
        f"validation clean {row['val_clean']:6.1%} robust {row['val_robust']:6.1%}"
        f"  {row['seconds']:.1f} s{best}{sample}"
    )


def end_epoch(trainer: Trainer, run: Run) -> dict[str, Any]:
    """Evaluate the deployed weights, save them if they are the best, and move to the next epoch.

    Returns the log's row, whose columns run_folder/log.py explains.
    """
    recipe, data = trainer.recipe, trainer.data
    is_complete = measurement.is_complete(trainer.epoch, recipe.train.epochs)
    seen = trainer.batches * recipe.data.batch_size
    loss, correct = distributed.all_reduce_sum(trainer.sums).tolist()
    trained = trainer.seconds + time.monotonic() - trainer.clock
    row: dict[str, Any] = {
        "epoch": trainer.epoch,
        "lr": trainer.optimizer.param_groups[0]["lr"],
        "loss": loss / seen,
        "train_robust": correct / seen,
    }
    threat = recipe.trained_threat or recipe.threat
    with trainer.evaluation_model() as model:
        row |= _validation_metrics(trainer, model, threat)
        _select(trainer, run, model, row)
        if trainer.epoch + 1 in recipe.train.keep:
            _save_weights(run, f"epoch-{trainer.epoch + 1}", model)
        row |= measurement.failure_signs(model, data.validation, recipe.build("objective", epoch=trainer.epoch).threat)
        if is_complete:
            row |= measurement.training_accuracy(model, data.train, threat)
    if is_complete and recipe.stage("averaging").name != "none":
        with trainer.evaluation_model(averaged=False) as model:
            row |= _validation_metrics(trainer, model, threat, "w_")
    row |= trainer.optimizer.report()
    row |= {"seconds": trainer.seconds + time.monotonic() - trainer.clock, "images_per_s": seen / trained}
    trainer.log.append(row)
    trainer.next_epoch()
    return row


def _select(trainer: Trainer, run: Run, model: nn.Module, row: dict[str, Any]) -> None:
    """Save the best weights after this epoch, `model`'s, and mark their epoch's row; an earlier best's mark stays."""
    recipe, rows = trainer.recipe, [*trainer.log, row]
    rule, images = recipe.train.select_rule, len(trainer.data.validation)
    column = "val_clean" if recipe.trained_threat is None else "val_robust"
    correct = [round(each[column] * images) for each in rows]
    best = best_epoch(rule, correct, images, stage_starts(recipe), recipe.train.epochs)
    row["best"] = False
    if not rows[best]["best"]:
        rows[best]["best"] = True
        if best == trainer.epoch:
            _save_weights(run, "best", model)
        elif distributed.is_rank_zero():
            run.save("best", trainer.previous)
    if needs_previous_weights(rule):
        trainer.previous = export_state_dict(model)


def save_initial_weights(trainer: Trainer, run: Run) -> None:
    """Save the weights before the first epoch, if `train.keep` lists 0."""
    if 0 in trainer.recipe.train.keep:
        _save_weights(run, "epoch-0", trainer.model)


def _validation_metrics(trainer: Trainer, model: nn.Module, threat: Threat, prefix: str = "") -> dict[str, float]:
    """val_clean, val_robust and, with `train.log_test`, test_clean, test_robust; `prefix` precedes the last word."""
    sets = {"val": trainer.data.validation}
    if n_test := trainer.recipe.train.log_test:
        sets["test"] = trainer.data.test[:n_test]
    return {
        f"{name}_{prefix}{kind}": measure_accuracy(model, images, attack)
        for name, images in sets.items()
        for kind, attack in (("clean", None), ("robust", threat))
    }


def _save_weights(run: Run, name: str, model: nn.Module) -> None:
    if distributed.is_rank_zero():
        run.save(name, export_state_dict(model))
