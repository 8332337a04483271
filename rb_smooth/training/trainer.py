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
from rb_smooth.core.determinism import CRAFT, INIT, NOISE, mix
from rb_smooth.core.errors import Refused
from rb_smooth.data.splits import Dataset, fingerprint
from rb_smooth.training.batches import Minibatches, Order
from rb_smooth.training.model_setup import chosen_form, comes_from_compiling, new_network, start_file, trained_form
from rb_smooth.training.step import step

_NEVER = 2**62
"""A step that no run reaches."""

_ORIGINS = {"data": "images and labels", "files": "image files and labels", "extra": "extra images and labels"}
"""By what a run knows its data again. Streamed at one time and in memory at another, they cannot be compared."""


class Session:
    """What a step changes, and how it is saved and found again."""

    def __init__(self, recipe: Recipe, data: Dataset, device: torch.device, begins: bool = True) -> None:
        """begins: whether training starts here; a session that `resume` follows needs no weights to start from."""
        self.recipe, self.device, self.data = recipe, device, data.to(device)
        self.seed = recipe.train.seed
        torch.manual_seed(mix(self.seed, INIT))
        self.model = new_network(recipe, data, begins).to(device)
        form = chosen_form(recipe.train, self.model, data.shape, recipe.data.batch_size, device)
        self.precision, self.compiled = form.precision, form.compiled
        wish = recipe.train.channels_last if begins else bool(recipe.train.channels_last) and "auto"
        self.layout = memory_format.choose(self.model, data.shape, device, wish)
        memory_format.lay_out(self.model, self.layout)
        self.trained = trained_form(self.model, device, self.compiled, self.layout)
        self.origins = _origins(recipe, data, begins)
        self.minibatches = Minibatches(recipe, self.data)
        self.noise = torch.Generator(device)
        self.averaging: Averaging = recipe.make("averaging")
        self.schedule = recipe.make("schedule")
        self.epoch = self.batch = self.t = 0
        self.kept: deque[batchnorm.Batch] = deque(maxlen=recipe.train.recalibrate)
        self.log: list[dict[str, Any]] = []
        self.best = -1.0
        self.first_bad = torch.full((), _NEVER, device=device)  # the first step whose loss was not finite
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
        """One minibatch at the present position, this process's share of it; nothing is read back from the device."""
        epochs = self.recipe.train.epochs
        x, y = self.minibatches.draw(order, self.batch, self.t)
        factor = self.schedule(self.epoch + self.batch / self.batches, epochs)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        try:
            x_adv, outcome = self._step(x, y)
        except RuntimeError as failure:
            if not (self.compiled and comes_from_compiling(failure)):
                raise
            cause = str(failure).splitlines()[0]
            if distributed.size() > 1:  # the others may be going on, compiled
                raise Refused(f"expected to compile, got {cause}; use --set train.compile=false") from None
            console.print(f"torch.compile failed ({cause}); going on without it")
            self.compiled, self.trained = False, trained_form(self.model, self.device, False, self.layout)
            x_adv, outcome = self._step(x, y)
        self.kept.append((x, x_adv, y))
        bad = ~outcome.loss.detach().isfinite()
        self.first_bad = torch.minimum(self.first_bad, torch.where(bad, self.t, _NEVER))
        right = (outcome.logits.argmax(1) == y).sum()
        self.sums += torch.stack([outcome.loss.detach().double() * len(y), right.double()])
        self.batch += 1
        self.t += 1

    def _step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Outcome]:
        torch.manual_seed(mix(self.seed, CRAFT, self.t) ^ distributed.rank())  # each process has other images
        self.noise.manual_seed(mix(self.seed, NOISE, self.t))
        # The cast cache would serve weights as they were before a perturbation moved them.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False):
            return step(self.trained, self.objective, self.perturbation, self.optimizer, self.averaging, x, y, self.t)

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

    def next_epoch(self) -> None:
        """Step to the next epoch, and take up the methods that are in force there."""
        self.epoch, self.batch, self.seconds, self.clock = self.epoch + 1, 0, 0.0, time.monotonic()
        self.sums.zero_()
        if self.epoch < self.recipe.train.epochs:
            self.enter(self.epoch)

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and Python types; whole in the first process, from whose state any number of them can go on.

        Randomness needs no saving: it depends on the position alone.
        """
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaging": self.averaging.state_dict(),
            "statistics": [distributed.gathered(each) for each in batchnorm.running_stats(self.model)],
            "kept": [tuple(map(distributed.whole, batch)) for batch in self.kept],
            "position": [self.epoch, self.batch, self.t],
            "precision": self.precision,
            "origins": self.origins,
            "log": self.log,
            "best": self.best,
            "sums": distributed.add_up(self.sums.clone()),
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
        for statistic, of_each in zip(batchnorm.running_stats(self.model), state["statistics"], strict=True):
            statistic.copy_(of_each[distributed.rank() % len(of_each)])
        for x, x_adv, y in state["kept"]:
            self.kept.append((distributed.share(x), distributed.share(x_adv), distributed.share(y)))
        self.log, self.best, self.seconds = state["log"], state["best"], state["seconds"]
        if distributed.is_first():
            self.sums.copy_(state["sums"])
        self.origins |= state["origins"]


def _origins(recipe: Recipe, data: Dataset, begins: bool) -> dict[str, str]:
    """SHA-256 of what comes from outside: images with their labels, and weights to start from."""
    found = {data.train.known_by: fingerprint(data.train, data.validation)}
    if data.extra is not None:
        found["extra"] = fingerprint(data.extra)
    if begins and (start := start_file(recipe, len(data.source.classes))) is not None:
        found["start"] = files.sha256(start)
    return found
