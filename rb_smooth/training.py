"""The training loop, top to bottom: no callbacks, nothing to subclass. `step` is the whole coupling of the methods."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rb_smooth import batchnorm, weights
from rb_smooth.console import console, progress_bars
from rb_smooth.contracts import Averaging, Objective, Optimizer, Outcome, Perturbation
from rb_smooth.evaluation import accuracy
from rb_smooth.interruption import stop_requests
from rb_smooth.refusal import Interrupted
from rb_smooth.registry import build_model, find
from rb_smooth.runs import Run
from rb_smooth.schema import Recipe, Stage
from rb_smooth.seeding import mix, random_state_kept
from rb_smooth.splits import Dataset

_INIT, _SHUFFLE, _AUGMENT, _CRAFT, _NOISE = range(5)
"""Streams of randomness; each number drawn depends on the run's seed, its stream and its position alone."""


def step(
    model: nn.Module,
    objective: Objective,
    perturbation: Perturbation,
    optimizer: Optimizer,
    averaging: Averaging,
    x: Tensor,
    y: Tensor,
    t: int,
) -> tuple[Tensor, Outcome]:
    """One minibatch: craft at w', take the gradient at w' + v, move from w', average w. Returns x_adv and outcome."""
    x_adv = objective.craft(model, x, y)
    with perturbation(model, lambda: objective.loss(model, x, x_adv, y).loss):
        optimizer.zero_grad(set_to_none=True)
        outcome = objective.loss(model, x, x_adv, y)
        outcome.loss.backward()
    optimizer.step()
    averaging.update(optimizer.deployed(), t)
    return x_adv, outcome


class Training:
    """The moving parts of one run: what a step changes, and how it is saved and found again."""

    def __init__(self, recipe: Recipe, data: Dataset, device: torch.device) -> None:
        self.recipe, self.device, self.data = recipe, device, data.to(device)
        self.seed = recipe.train.seed
        torch.manual_seed(mix(self.seed, _INIT))
        net, source = recipe.stage("model"), data.source
        classes = len(source.classes)
        self.model = build_model(net.name, net.options, data.shape, classes, source.mean, source.std).to(device)
        self.augmentations = [find("augmentation", name) for name in recipe.data.augment]
        self.noise = torch.Generator(device)
        self.averaging: Averaging = recipe.make("averaging")
        self.schedule = recipe.make("schedule")
        self.bf16 = recipe.train.precision == "bf16" or (recipe.train.precision == "auto" and device.type == "cuda")
        self.epoch = self.batch = self.t = 0
        self.kept: deque[batchnorm.Batch] = deque(maxlen=recipe.train.recalibrate)
        self.log: list[dict[str, Any]] = []
        self.best = -1.0
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)  # this epoch's loss and right answers
        self.seconds, self.clock = 0.0, time.monotonic()
        self._stages: dict[str, Stage] = {}
        self.enter(0)

    @property
    def batches(self) -> int:
        """Minibatches per epoch; the last incomplete one is dropped."""
        return len(self.data.train) // self.recipe.data.batch_size

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

    def run_batch(self, order: Tensor) -> None:
        """One minibatch at the present position; nothing here waits for the device."""
        size, epochs = self.recipe.data.batch_size, self.recipe.train.epochs
        index = order[self.batch * size : (self.batch + 1) * size]
        images = self.data.train[index]
        x = images.x
        drawing = torch.Generator().manual_seed(mix(self.seed, _AUGMENT, self.t))
        for augment in self.augmentations:
            x = augment(x, drawing)
        x, y = x.float() / 255, images.y
        factor = self.schedule(self.epoch + self.batch / self.batches, epochs)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        torch.manual_seed(mix(self.seed, _CRAFT, self.t))
        self.noise.manual_seed(mix(self.seed, _NOISE, self.t))
        # The cast cache would serve weights as they were before a perturbation moved them.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=False):
            x_adv, outcome = step(
                self.model, self.objective, self.perturbation, self.optimizer, self.averaging, x, y, self.t
            )
        self.kept.append((x, x_adv, y))
        right = (outcome.logits.argmax(1) == y).sum()
        self.sums += torch.stack([outcome.loss.detach().double() * size, right.double()])
        self.batch += 1
        self.t += 1

    def order(self) -> Tensor:
        """This epoch's shuffle, from (seed, epoch) alone."""
        generator = torch.Generator().manual_seed(mix(self.seed, _SHUFFLE, self.epoch))
        return torch.randperm(len(self.data.train), generator=generator).to(self.device)

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

        Returns the log's row; accuracies are shares in [0, 1].
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
            metric = row["val_clean"] if self.objective.threat is None else row["val_robust"]
            row["best"] = metric > self.best
            if row["best"]:
                self.best = metric
                run.save("best", exported(model))
        if self.recipe.stage("averaging").name != "none":
            with self.deployed(averaged=False) as model:
                row |= self._validated(model, "val_w")
        row |= {"seconds": self.seconds + time.monotonic() - self.clock, "images_per_s": seen / trained}
        self.log.append(row)
        self.epoch, self.batch, self.seconds, self.clock = self.epoch + 1, 0, 0.0, time.monotonic()
        self.sums.zero_()
        if self.epoch < self.recipe.train.epochs:
            self.enter(self.epoch)
        return row

    def _validated(self, model: nn.Module, prefix: str) -> dict[str, float]:
        threat = self.objective.threat or self.recipe.threat
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
            "log": self.log,
            "best": self.best,
            "sums": self.sums,
            "seconds": self.seconds + time.monotonic() - self.clock,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.batch, self.t = state["position"]
        self.enter(self.epoch)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averaging.load_state_dict(state["averaging"])
        self.kept.extend(state["kept"])
        self.log, self.best, self.seconds = state["log"], state["best"], state["seconds"]
        self.sums.copy_(state["sums"])


def train(recipe: Recipe, run: Run, data: Dataset, device: torch.device) -> None:
    """Train to the end, or go on where the run stopped. Leaves best.pt, last.pt and log.csv in the run's folder.

    Raises Interrupted after Ctrl-C or SIGTERM, with the run saved at the minibatch reached.
    """
    epochs = recipe.train.epochs
    with random_state_kept(), stop_requests() as stop, progress_bars() as bars:
        training = Training(recipe, data, device)
        if (saved := run.load("resume", device)) is not None:
            training.load_state_dict(saved)
            console.print(f"resumed in epoch {training.epoch + 1} of {epochs}")
        bar = bars.add_task("training", total=epochs * training.batches, completed=training.t)
        while training.epoch < epochs:
            order = training.order()
            while training.batch < training.batches and not stop:
                training.run_batch(order)
                bars.update(bar, completed=training.t, description=f"epoch {training.epoch + 1}/{epochs}")
            if not stop:
                console.print(_line(training.finish_epoch(run), epochs))
                run.write_log(training.log)
            run.save("resume", training.state_dict())
            if stop:
                where = f"epoch {training.epoch + 1} of {epochs}"
                raise Interrupted(f"stopped in {where}; the same command goes on from there")
        with training.deployed() as model:
            run.save("last", exported(model))
    (run.path / "resume.pt").unlink(missing_ok=True)


def exported(model: nn.Module) -> dict[str, Tensor]:
    """A plain CPU state dict, floating point in fp32: what RobustBench's loader takes."""
    state = model.state_dict()
    return {
        key: (value.float() if value.is_floating_point() else value).detach().cpu().clone()
        for key, value in state.items()
    }


def _line(row: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {row['epoch'] + 1:>3}/{epochs}  lr {row['lr']:<7.4g} loss {row['loss']:.3f}  "
        f"train robust {row['train_robust']:6.1%}  "
        f"validation clean {row['val_clean']:6.1%} robust {row['val_robust']:6.1%}"
        f"  {row['seconds']:.1f} s{'  best' if row['best'] else ''}"
    )
