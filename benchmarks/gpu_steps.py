"""Training steps that the GPU benchmark compares.

ours     `Trainer.run_batch`: draw, augment, craft, perturb, step, count; on a GPU compiled into CUDA graphs
compiled the same with `train.compile: true`, without CUDA graphs
floor    `BarePasses` of the same compiled network
authors  `AuthorsStep` on the same network, eager, fp32, NCHW (TF32 by torch's default), on one fixed minibatch;
         EntropySGD, which it lacks, is compared with its SGD
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from authors_step import AuthorsStep
from benchmark_runs import first_minibatch

from rb_smooth.config.overrides import resolve_config
from rb_smooth.data.splits import DataSplits
from rb_smooth.training import validate
from rb_smooth.training.trainer import Trainer

METHODS = ("at", "at+ensgd", "at+awp", "at+awp+ensgd", "trades+awp")
COMPARED_AS = {"at+ensgd": "at", "at+awp+ensgd": "at+awp"}
"""Methods that share floor and authors' step with another one: EntropySGD adds no pass."""

StepFunction = Callable[[], object]


@dataclass(frozen=True)
class Cell:
    """A network at a batch size, and how long it is timed."""

    suffix: str
    batch_size: int
    settings: tuple[str, ...] = ()
    rounds: int = 5
    round_s: float = 0.4
    without_graphs: bool = False


def make_trainer(cell: Cell, method: str, data: DataSplits, device: torch.device, *settings: str) -> Trainer:
    """A trainer at its last epoch, where the last stage of every method applies."""
    wanted = [f"data.batch_size={cell.batch_size}", *cell.settings, *settings]
    trainer = Trainer(validate.check_recipe(*resolve_config("cifar10", method + cell.suffix, wanted)), data, device)
    trainer.epoch = trainer.recipe.train.epochs - 1
    trainer.start_stage(trainer.epoch)
    return trainer


def training_steps(trainer: Trainer) -> StepFunction:
    """One minibatch per call, epoch after epoch in the same order."""
    order = trainer.batch_order()

    def step() -> None:
        trainer.batch %= trainer.batches
        trainer.run_batch(order)

    return step


def authors_step(trainer: Trainer, method: str) -> StepFunction:
    model = copy.deepcopy(trainer.model).to(memory_format=torch.contiguous_format)
    objective = method.split("+")[0]
    gamma = {"at": 0.01, "trades": 0.005}[objective] if "awp" in method else 0.0
    step = AuthorsStep(model, objective=objective, gamma=gamma)  # type: ignore[arg-type]
    x, y = first_minibatch(trainer)
    return lambda: step(x, y)
