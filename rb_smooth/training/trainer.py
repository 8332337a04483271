"""The state of training: model, methods, data and position; run a minibatch, evaluate, save and resume."""

from __future__ import annotations

import copy
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
from rb_smooth.components.models import Normalized
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
    load_initial_weights,
)
from rb_smooth.training.step import training_step

_NEVER = 2**62
"""A step number above that of any run."""

_INPUT_NAMES = {"data": "images and labels", "files": "image files and labels", "extra": "extra images and labels"}
"""Inputs whose hashes a resumed run compares. Streamed images and images in memory have different keys."""


class Trainer:
    """Everything that a training step changes."""

    def __init__(
        self,
        recipe: Recipe,
        data: DataSplits,
        device: torch.device,
        starts_training: bool = True,
        network: Normalized | None = None,
    ) -> None:
        """starts_training: whether to load initial weights; False before `resume`.

        network: result of `build_network` for this recipe; it is copied. None: build it.
        """
        data = data.load()
        self.recipe, self.device, self.data = recipe, device, data.to(device)
        self.seed = recipe.train.seed
        self.model = (build_network(recipe, data) if network is None else copy.deepcopy(network)).to(device)
        torch.manual_seed(derive_seed(self.seed, INIT))
        if starts_training:
            load_initial_weights(self.model, recipe, len(data.source.classes))
        if recipe.train.sync_bn:
            nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # in place; names in the state dict stay
        self.precision, self.compiled = choose_compute_config(
            recipe.train, self.model, data.shape, recipe.data.batch_size, device
        )
        requested = recipe.train.channels_last if starts_training else bool(recipe.train.channels_last) and "auto"
        self.layout = memory_format.choose_memory_format(self.model, data.shape, device, requested)
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
        self.previous: dict[str, Tensor] | None = None  # weights of the epoch before, if the rule may still choose them
        self.first_nonfinite_step = torch.full((), _NEVER, device=device)
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)  # loss and correct predictions of this epoch
        self.seconds, self.clock = 0.0, time.monotonic()
        self._stages: dict[str, Stage] = {}
        self.start_stage(0)

    @property
    def batches(self) -> int:
        """Minibatches per epoch."""
        return self.batch_loader.per_epoch

    def start_stage(self, epoch: int) -> None:
        """Build the methods of the stage at `epoch`, where they change. A new optimizer starts from the deployed w."""
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
        """Train on this process's shard of the next minibatch, without synchronising with the device."""
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
            if distributed.world_size() > 1:  # the other processes may have compiled
                raise UserError(
                    f"expected torch.compile to succeed, got {cause}; use --set train.compile=false"
                ) from None
            console.print(f"torch.compile failed ({cause}); training continues without it")
            self.compiled, self.trained = False, compile_and_wrap(self.model, self.device, False, self.layout)
            x_adv, outcome = self._step(x, y)
        self.calibration_batches.append((x, x_adv, y))
        nonfinite = ~outcome.loss.detach().isfinite()
        self.first_nonfinite_step = torch.minimum(self.first_nonfinite_step, torch.where(nonfinite, self.t, _NEVER))
        correct = (outcome.logits.argmax(1) == y).sum()
        self.sums += torch.stack([outcome.loss.detach().double() * len(y), correct.double()])
        self.batch += 1
        self.t += 1

    def _step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Outcome]:
        torch.manual_seed(derive_seed(self.seed, CRAFT, self.t) ^ distributed.rank())  # processes have different images
        self.noise.manual_seed(derive_seed(self.seed, NOISE, self.t))
        # The autocast cache would return casts of the weights from before the perturbation.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False):
            return training_step(
                self.trained, self.objective, self.perturbation, self.optimizer, self.averaging, x, y, self.t
            )

    def batch_order(self) -> BatchOrder:
        """The order of this epoch's images."""
        return self.batch_loader.order(self.epoch)

    @contextmanager
    def evaluation_model(self, averaged: bool = True) -> Iterator[nn.Module]:
        """The model with the weights to be saved: w or its average, BatchNorm recalibrated, in eval mode.

        Restores the training state on exit.
        """
        self.optimizer.eval()
        deployed = self.optimizer.deployed()
        if averaged:
            deployed = self.averaging.weights(deployed)
        try:
            with (
                batchnorm.frozen_running_stats(self.model),
                weights.swapped(list(self.model.parameters()), deployed),
                batchnorm.preserve_modes(self.model),
            ):
                batchnorm.recalibrate(self.model, self.objective, self.calibration_batches)
                self.model.eval()
                yield self.model
        finally:
            self.optimizer.train()

    def next_epoch(self) -> None:
        """Move to the start of the next epoch, and to its stage's methods."""
        self.epoch, self.batch, self.seconds, self.clock = self.epoch + 1, 0, 0.0, time.monotonic()
        self.sums.zero_()
        if self.epoch < self.recipe.train.epochs:
            self.start_stage(self.epoch)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and Python types from which any number of processes can resume; complete in rank zero only.

        Holds no random state: every generator is seeded by the position.
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
            "previous": self.previous,
            "sums": distributed.all_reduce_sum(self.sums.clone()),
            "seconds": self.seconds + time.monotonic() - self.clock,
        }

    def resume(self, state: Any, path: Path) -> None:
        """Load `state`, read from `path`. Raises UserError if precision, inputs or the network differ."""
        try:
            if (saved := state["precision"]) != self.precision:
                raise UserError(
                    f"expected precision {saved}, as in {path}, got {self.precision}; use "
                    f"--set train.precision={saved} or --fresh"
                )
            for key, name in _INPUT_NAMES.items():
                there, here = state["origins"].get(key), self.input_hashes.get(key)
                if there and here and there != here:
                    raise UserError(
                        f"expected the {name} of the run in {path} (SHA-256 {str(there)[:8]}…), got different ones "
                        f"({str(here)[:8]}…); restore them, or use --fresh"
                    )
            self.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(
                f"expected this run's state in {path}, got one that does not fit ({first_line(error)}); use --fresh"
            ) from None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.batch, self.t = state["position"]
        self.start_stage(min(self.epoch, self.recipe.train.epochs - 1))  # no stage starts after the last epoch
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averaging.load_state_dict(state["averaging"])
        for statistic, by_rank in zip(batchnorm.running_stats(self.model), state["statistics"], strict=True):
            statistic.copy_(by_rank[distributed.rank() % len(by_rank)])
        for x, x_adv, y in state["kept"]:
            self.calibration_batches.append((distributed.shard(x), distributed.shard(x_adv), distributed.shard(y)))
        self.log, self.seconds = state["log"], state["seconds"]
        self.previous = weights.to_device(state.get("previous"), torch.device("cpu"))
        if distributed.is_rank_zero():
            self.sums.copy_(state["sums"])
        self.input_hashes |= state["origins"]


def _input_hashes(recipe: Recipe, data: DataSplits, starts_training: bool) -> dict[str, str]:
    """SHA-256 of the images with their labels, and of the initial weights."""
    hashes = {data.train.hash_key: fingerprint(data.train, data.validation)}
    if data.extra is not None:
        hashes["extra"] = fingerprint(data.extra)
    if starts_training and (start := initial_weights_file(recipe, len(data.source.classes))) is not None:
        hashes["start"] = files.sha256(start)
    return hashes
