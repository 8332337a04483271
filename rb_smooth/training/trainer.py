"""A run in progress: its model, methods, data and position. A minibatch, an epoch's end, a look at what is deployed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rb_smooth.components import batchnorm, memory_format, weights
from rb_smooth.components.interfaces import Averaging, Objective, Optimizer, Outcome, Perturbation
from rb_smooth.config.schema import Recipe, Stage
from rb_smooth.core import distributed, files
from rb_smooth.core.console import console
from rb_smooth.core.determinism import CRAFT, INIT, NOISE, derive_seed
from rb_smooth.core.errors import UserError, first_line
from rb_smooth.data.splits import DataSplits, fingerprint
from rb_smooth.training.batches import BatchLoader, BatchOrder
from rb_smooth.training.model_setup import (
    build_network,
    choose_compute_config,
    compile_and_wrap,
    initial_weights_file,
    is_compile_error,
)
from rb_smooth.training.step import training_step

_NEVER = 2**62
"""A step that no run reaches."""

_INPUT_NAMES = {"data": "images and labels", "files": "image files and labels", "extra": "extra images and labels"}
"""By what a run knows its data again. Streamed at one time and in memory at another, they cannot be compared."""


class Trainer:
    """What a step changes, and how it is saved and found again."""

    def __init__(self, recipe: Recipe, data: DataSplits, device: torch.device, starts_training: bool = True) -> None:
        """starts_training: whether training starts here; a session that `resume` follows needs no weights to start
        from.
        """
        self.recipe, self.device, self.data = recipe, device, data.to(device)
        self.seed = recipe.train.seed
        torch.manual_seed(derive_seed(self.seed, INIT))
        self.model = build_network(recipe, data, starts_training).to(device)
        form = choose_compute_config(recipe.train, self.model, data.shape, recipe.data.batch_size, device)
        self.precision, self.compiled = form.precision, form.compiled
        wish = recipe.train.channels_last if starts_training else bool(recipe.train.channels_last) and "auto"
        self.layout = memory_format.choose_memory_format(self.model, data.shape, device, wish)
        memory_format.lay_out(self.model, self.layout)
        self.trained = compile_and_wrap(self.model, device, self.compiled, self.layout)
        self.input_hashes = _input_hashes(recipe, data, starts_training)
        self.batch_loader = BatchLoader(recipe, self.data)
        self.noise = torch.Generator(device)
        self.averaging: Averaging = recipe.build("averaging")
        self.schedule = recipe.build("schedule")
        self.epoch = self.batch = self.t = 0
        self.calibration_batches: deque[batchnorm.Batch] = deque(maxlen=recipe.train.recalibrate)
        self.log: list[dict[str, Any]] = []
        self.best = -1.0
        self.first_nonfinite_step = torch.full((), _NEVER, device=device)  # the first step whose loss was not finite
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)  # this epoch's loss and right answers
        self.seconds, self.clock = 0.0, time.monotonic()
        self._stages: dict[str, Stage] = {}
        self.start_stage(0)

    @property
    def batches(self) -> int:
        """Minibatches per epoch."""
        return self.batch_loader.per_epoch

    def start_stage(self, epoch: int) -> None:
        """Take up the methods in force at `epoch`. A new optimizer starts fresh from the deployed w."""
        for kind in ("objective", "perturbation", "optimizer"):
            stage = self.recipe.stage(kind, epoch)
            if stage == self._stages.get(kind):
                continue
            self._stages[kind] = stage
            if kind == "objective":
                self.objective: Objective = self.recipe.build(kind, epoch=epoch)
            elif kind == "perturbation":
                self.perturbation: Perturbation = self.recipe.build(kind, epoch=epoch)
            else:
                if epoch > 0:
                    self.optimizer.eval()
                parameters = list(self.model.parameters())
                self.optimizer: Optimizer = self.recipe.build(kind, parameters, epoch=epoch, generator=self.noise)
                self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def run_batch(self, order: BatchOrder) -> None:
        """One minibatch at the present position, this process's share of it; nothing is read back from the device."""
        epochs = self.recipe.train.epochs
        x, y = self.batch_loader.draw(order, self.batch, self.t)
        factor = self.schedule(self.epoch + self.batch / self.batches, epochs)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        try:
            x_adv, outcome = self._step(x, y)
        except RuntimeError as failure:
            if not (self.compiled and is_compile_error(failure)):
                raise
            cause = first_line(failure)
            if distributed.world_size() > 1:  # the others may be going on, compiled
                raise UserError(f"expected to compile, got {cause}; use --set train.compile=false") from None
            console.print(f"torch.compile failed ({cause}); going on without it")
            self.compiled, self.trained = False, compile_and_wrap(self.model, self.device, False, self.layout)
            x_adv, outcome = self._step(x, y)
        self.calibration_batches.append((x, x_adv, y))
        bad = ~outcome.loss.detach().isfinite()
        self.first_nonfinite_step = torch.minimum(self.first_nonfinite_step, torch.where(bad, self.t, _NEVER))
        right = (outcome.logits.argmax(1) == y).sum()
        self.sums += torch.stack([outcome.loss.detach().double() * len(y), right.double()])
        self.batch += 1
        self.t += 1

    def _step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Outcome]:
        torch.manual_seed(derive_seed(self.seed, CRAFT, self.t) ^ distributed.rank())  # each process has other images
        self.noise.manual_seed(derive_seed(self.seed, NOISE, self.t))
        # The cast cache would serve weights as they were before a perturbation moved them.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False):
            return training_step(
                self.trained, self.objective, self.perturbation, self.optimizer, self.averaging, x, y, self.t
            )

    def batch_order(self) -> BatchOrder:
        """This epoch's shuffle."""
        return self.batch_loader.order(self.epoch)

    @contextmanager
    def evaluation_model(self, averaged: bool = True) -> Iterator[nn.Module]:
        """Inside, the model is what would be deployed now: w or its average, BatchNorm recalibrated, in eval mode.

        Training goes on afterwards as if nothing had been looked at.
        """
        self.optimizer.eval()
        chosen = self.optimizer.deployed()
        if averaged:
            chosen = self.averaging.weights(chosen)
        try:
            with (
                batchnorm.frozen_running_stats(self.model),
                weights.swapped(list(self.model.parameters()), chosen),
                batchnorm.preserve_modes(self.model),
            ):
                batchnorm.recalibrate(self.model, self.objective, self.calibration_batches)
                self.model.eval()
                yield self.model
        finally:
            self.optimizer.train()

    def next_epoch(self) -> None:
        """Step to the next epoch, and take up the methods that are in force there."""
        self.epoch, self.batch, self.seconds, self.clock = self.epoch + 1, 0, 0.0, time.monotonic()
        self.sums.zero_()
        if self.epoch < self.recipe.train.epochs:
            self.start_stage(self.epoch)

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and Python types; whole in the first process, from whose state any number of them can go on.

        Randomness needs no saving: it depends on the position alone.
        """
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaging": self.averaging.state_dict(),
            "statistics": [distributed.gather(each) for each in batchnorm.running_stats(self.model)],
            "kept": [tuple(map(distributed.unshard, batch)) for batch in self.calibration_batches],
            "position": [self.epoch, self.batch, self.t],
            "precision": self.precision,
            "origins": self.input_hashes,
            "log": self.log,
            "best": self.best,
            "sums": distributed.all_reduce_sum(self.sums.clone()),
            "seconds": self.seconds + time.monotonic() - self.clock,
        }

    def resume(self, state: Any, path: Path) -> None:
        """Go on from what `state_dict` saved in `path`. Raises UserError if this session cannot."""
        try:
            if state["precision"] != self.precision:
                there, cure = state["precision"], f"--set train.precision={state['precision']} or --fresh"
                raise UserError(
                    f"expected to go on in {there}, as {path} was trained, got {self.precision}; use {cure}"
                )
            for what, meant in _INPUT_NAMES.items():
                there, here = state["origins"].get(what), self.input_hashes.get(what)
                if there and here and there != here:
                    raise UserError(
                        f"expected the {meant} that {path} was trained with (SHA-256 {str(there)[:8]}…), got others "
                        f"({str(here)[:8]}…); restore them, or use --fresh"
                    )
            self.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            cause = first_line(error)
            raise UserError(f"expected this run's state in {path}, got another's ({cause}); use --fresh") from None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.batch, self.t = state["position"]
        self.start_stage(min(self.epoch, self.recipe.train.epochs - 1))  # after the last epoch nothing starts any more
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averaging.load_state_dict(state["averaging"])
        for statistic, of_each in zip(batchnorm.running_stats(self.model), state["statistics"], strict=True):
            statistic.copy_(of_each[distributed.rank() % len(of_each)])
        for x, x_adv, y in state["kept"]:
            self.calibration_batches.append((distributed.shard(x), distributed.shard(x_adv), distributed.shard(y)))
        self.log, self.best, self.seconds = state["log"], state["best"], state["seconds"]
        if distributed.is_rank_zero():
            self.sums.copy_(state["sums"])
        self.input_hashes |= state["origins"]


def _input_hashes(recipe: Recipe, data: DataSplits, starts_training: bool) -> dict[str, str]:
    """SHA-256 of what comes from outside: images with their labels, and weights to start from."""
    found = {data.train.hash_key: fingerprint(data.train, data.validation)}
    if data.extra is not None:
        found["extra"] = fingerprint(data.extra)
    if starts_training and (start := initial_weights_file(recipe, len(data.source.classes))) is not None:
        found["start"] = files.sha256(start)
    return found
