"""A run in progress: its model, methods, data and position. A minibatch, an epoch's end, a look at what is deployed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rb_smooth import batchnorm, files, weights
from rb_smooth.checkpoints import exported, start_from
from rb_smooth.contracts import Averaging, Objective, Optimizer, Perturbation
from rb_smooth.coupling import step
from rb_smooth.declaration import Recipe, Stage
from rb_smooth.evaluation import accuracy, health
from rb_smooth.minibatches import Minibatches, Order
from rb_smooth.models import Normalized
from rb_smooth.refusal import Refused
from rb_smooth.registry import build_model
from rb_smooth.run_folder import Run
from rb_smooth.seeding import CRAFT, INIT, NOISE, mix
from rb_smooth.splits import Dataset, fingerprint

_WATCHED = 128
"""Training images on which FGSM and PGD are compared after every epoch."""

_ORIGINS = {"data": "images and labels", "files": "image files and labels", "extra": "extra images and labels"}
"""By what a run knows its data again. Streamed at one time and in memory at another, they cannot be compared."""


class Session:
    """What a step changes, and how it is saved and found again."""

    def __init__(self, recipe: Recipe, data: Dataset, device: torch.device, begins: bool = True) -> None:
        """begins: whether training starts here; a session that `resume` follows needs no weights to start from."""
        self.recipe, self.device, self.data = recipe, device, data.to(device)
        self.seed = recipe.train.seed
        torch.manual_seed(mix(self.seed, INIT))
        self.model = _model(recipe, data, begins).to(device)
        self.origins = _origins(recipe, data, begins)
        self.minibatches = Minibatches(recipe, self.data)
        self.noise = torch.Generator(device)
        self.averaging: Averaging = recipe.make("averaging")
        self.schedule = recipe.make("schedule")
        self.precision = _precision(recipe, device)
        self.epoch = self.batch = self.t = 0
        self.kept: deque[batchnorm.Batch] = deque(maxlen=recipe.train.recalibrate)
        self.log: list[dict[str, Any]] = []
        self.best = -1.0
        self.first_bad = torch.full((), -1, device=device)  # the first step whose loss was not finite
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)  # this epoch's loss and right answers
        self.seconds, self.clock = 0.0, time.monotonic()
        self._stages: dict[str, Stage] = {}
        self.enter(0)

    @property
    def batches(self) -> int:
        """Minibatches per epoch."""
        return self.minibatches.per_epoch

    def enter(self, epoch: int) -> None:
        """Take up the methods in force at `epoch`. A new optimizer starts fresh from the deployed w."""
        for kind in ("objective", "perturbation", "optimizer"):
            stage = self.recipe.stage(kind, epoch)
            if stage == self._stages.get(kind):
                continue
            self._stages[kind] = stage
            if kind == "objective":
                self.objective: Objective = self.recipe.make(kind, epoch=epoch)
            elif kind == "perturbation":
                self.perturbation: Perturbation = self.recipe.make(kind, epoch=epoch)
            else:
                if epoch > 0:
                    self.optimizer.eval()
                parameters = list(self.model.parameters())
                self.optimizer: Optimizer = self.recipe.make(kind, parameters, epoch=epoch, generator=self.noise)
                self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def run_batch(self, order: Order) -> None:
        """One minibatch at the present position; no result is read back from the device."""
        size, epochs = self.recipe.data.batch_size, self.recipe.train.epochs
        x, y = self.minibatches.draw(order, self.batch, self.t)
        factor = self.schedule(self.epoch + self.batch / self.batches, epochs)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        torch.manual_seed(mix(self.seed, CRAFT, self.t))
        self.noise.manual_seed(mix(self.seed, NOISE, self.t))
        # The cast cache would serve weights as they were before a perturbation moved them.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False):
            x_adv, outcome = step(
                self.model, self.objective, self.perturbation, self.optimizer, self.averaging, x, y, self.t
            )
        self.kept.append((x, x_adv, y))
        bad = ~outcome.loss.detach().isfinite()
        self.first_bad = torch.where((self.first_bad < 0) & bad, self.t, self.first_bad)
        right = (outcome.logits.argmax(1) == y).sum()
        self.sums += torch.stack([outcome.loss.detach().double() * size, right.double()])
        self.batch += 1
        self.t += 1

    def order(self) -> Order:
        """This epoch's shuffle."""
        return self.minibatches.order(self.epoch)

    @contextmanager
    def deployed(self, averaged: bool = True) -> Iterator[nn.Module]:
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
                weights.replaced(list(self.model.parameters()), chosen),
                batchnorm.modes_kept(self.model),
            ):
                batchnorm.recalibrate(self.model, self.objective, self.kept)
                self.model.eval()
                yield self.model
        finally:
            self.optimizer.train()

    def finish_epoch(self, run: Run) -> dict[str, Any]:
        """Measure what would be deployed, keep it if it is the best so far, and step to the next epoch.

        Returns the log's row; accuracies are shares in [0, 1]. `train_robust` comes from training's own forwards: it is
        measured where the gradient was taken, under AWP at w' + v.
        """
        seen = self.batches * self.recipe.data.batch_size
        loss, right = self.sums.tolist()
        trained = self.seconds + time.monotonic() - self.clock
        row: dict[str, Any] = {
            "epoch": self.epoch,
            "lr": self.optimizer.param_groups[0]["lr"],
            "loss": loss / seen,
            "train_robust": right / seen,
        }
        with self.deployed() as model:
            row |= self._validated(model, "val")
            metric = row["val_clean"] if self.recipe.trained_threat is None else row["val_robust"]
            row["best"] = metric > self.best
            if row["best"]:
                self.best = metric
                run.save("best", exported(model))
            threat = self.recipe.trained_threat or self.recipe.threat
            row |= health(model, self.data.validation, self.data.train[:_WATCHED], threat)
        if self.recipe.stage("averaging").name != "none":
            with self.deployed(averaged=False) as model:
                row |= self._validated(model, "val_w")
        row |= self.optimizer.report()
        row |= {"seconds": self.seconds + time.monotonic() - self.clock, "images_per_s": seen / trained}
        self.log.append(row)
        self.epoch, self.batch, self.seconds, self.clock = self.epoch + 1, 0, 0.0, time.monotonic()
        self.sums.zero_()
        if self.epoch < self.recipe.train.epochs:
            self.enter(self.epoch)
        return row

    def _validated(self, model: nn.Module, prefix: str) -> dict[str, float]:
        threat = self.recipe.trained_threat or self.recipe.threat
        images = self.data.validation
        return {f"{prefix}_clean": accuracy(model, images), f"{prefix}_robust": accuracy(model, images, threat)}

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and Python types. Randomness needs no saving: it depends on the position alone."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaging": self.averaging.state_dict(),
            "kept": list(self.kept),
            "position": [self.epoch, self.batch, self.t],
            "precision": self.precision,
            "origins": self.origins,
            "log": self.log,
            "best": self.best,
            "sums": self.sums,
            "seconds": self.seconds + time.monotonic() - self.clock,
        }

    def resume(self, state: Any, path: Path) -> None:
        """Go on from what `state_dict` saved in `path`. Raises Refused if this session cannot."""
        try:
            if state["precision"] != self.precision:
                there, cure = state["precision"], f"--set train.precision={state['precision']} or --fresh"
                raise Refused(f"expected to go on in {there}, as {path} was trained, got {self.precision}; use {cure}")
            for what, meant in _ORIGINS.items():
                there, here = state["origins"].get(what), self.origins.get(what)
                if there and here and there != here:
                    raise Refused(
                        f"expected the {meant} that {path} was trained with (SHA-256 {str(there)[:8]}…), got others "
                        f"({str(here)[:8]}…); restore them, or use --fresh"
                    )
            self.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            cause = str(error).splitlines()[0]
            raise Refused(f"expected this run's state in {path}, got another's ({cause}); use --fresh") from None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.batch, self.t = state["position"]
        self.enter(min(self.epoch, self.recipe.train.epochs - 1))  # after the last epoch nothing starts any more
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averaging.load_state_dict(state["averaging"])
        self.kept.extend(state["kept"])
        self.log, self.best, self.seconds = state["log"], state["best"], state["seconds"]
        self.sums.copy_(state["sums"])
        self.origins |= state["origins"]


def _model(recipe: Recipe, data: Dataset, begins: bool) -> Normalized:
    """The network at its start: drawn at random, or from the checkpoint that the recipe names."""
    net, source = recipe.stage("model"), data.source
    moments = (source.mean, source.std) if recipe.data.standardise else ()
    model = build_model(net.name, net.options, data.shape, len(source.classes), *moments)
    if begins and recipe.train.start is not None:
        start_from(model, Path(recipe.train.start))
    return model


def _origins(recipe: Recipe, data: Dataset, begins: bool) -> dict[str, str]:
    """SHA-256 of what comes from outside: images with their labels, and weights to start from."""
    found = {data.train.known_by: fingerprint(data.train, data.validation)}
    if data.extra is not None:
        found["extra"] = fingerprint(data.extra)
    if begins and recipe.train.start is not None:
        found["start"] = files.sha256(Path(recipe.train.start))
    return found


def _precision(recipe: Recipe, device: torch.device) -> str:
    """ "bf16" or "fp32"; `auto` is bf16 on GPUs that compute in it natively."""
    if recipe.train.precision != "auto":
        return recipe.train.precision
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"
