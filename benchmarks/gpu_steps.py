"""Ways of one training step: ours, what it cannot be faster than, and the AWP authors'.

ours     `Trainer.run_batch`: draw, augment, craft, perturb, step, count; on a GPU compiled into CUDA graphs
compiled the same with `train.compile: true`, without graphs
floor    bare forward and backward passes, as many as ours has, through the same compiled network
authors  `AuthorsStep` on the same network, eager, fp32, NCHW (TF32 as torch has it by default), on one minibatch
         that is drawn already; EntropySGD, which it lacks, is compared with its SGD
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from authors_step import AuthorsStep
from torch import Tensor

from rb_smooth.components import batchnorm, weights
from rb_smooth.components.flops import count_flops
from rb_smooth.config.overrides import resolve_config
from rb_smooth.data.splits import DataSplits
from rb_smooth.training import validate
from rb_smooth.training.trainer import Trainer

METHODS = ("at", "at+ensgd", "at+awp", "at+awp+ensgd", "trades+awp")
COMPARED_AS = {"at+ensgd": "at", "at+awp+ensgd": "at+awp"}
"""The same passes; and the authors' script has no EntropySGD."""

StepFunction = Callable[[], object]


@dataclass(frozen=True)
class Cell:
    """A network at a batch size, and for how long it is timed."""

    suffix: str
    batch_size: int
    settings: tuple[str, ...] = ()
    rounds: int = 5
    round_s: float = 0.4
    without_graphs: bool = False


def make_trainer(cell: Cell, method: str, data: DataSplits, device: torch.device, *settings: str) -> Trainer:
    """As in the last epoch: with every stage's last method in force."""
    wanted = [f"data.batch_size={cell.batch_size}", *cell.settings, *settings]
    trainer = Trainer(validate.check_recipe(*resolve_config("cifar10", method + cell.suffix, wanted)), data, device)
    trainer.epoch = trainer.recipe.train.epochs - 1
    trainer.start_stage(trainer.epoch)
    return trainer


def training_steps(trainer: Trainer) -> StepFunction:
    """One minibatch of training, epoch after epoch in the same order."""
    order = trainer.batch_order()

    def step() -> None:
        trainer.batch %= trainer.batches
        trainer.run_batch(order)

    return step


class BarePasses:
    """The forward and backward passes of one training step, and nothing else."""

    def __init__(self, trainer: Trainer) -> None:
        objective = trainer.recipe.stage("objective", trainer.epoch)
        self.session, self.steps, self.bn_mode = trainer, trainer.objective.steps, trainer.objective.bn_mode  # type: ignore[attr-defined]
        self.compares = objective.name == "trades"  # with predictions for x: in the attack, and in the loss
        losses = 2 if trainer.recipe.stage("perturbation", trainer.epoch).name == "awp" else 1
        self.trained = losses * (2 if self.compares else 1)
        x, self.y = trainer.batch_loader.draw(trainer.batch_order(), 0, 0)
        self.x = x.contiguous()

    def __call__(self) -> None:
        trainer = self.session
        with torch.autocast(
            trainer.device.type, torch.bfloat16, enabled=trainer.precision == "bf16", cache_enabled=False
        ):
            self._passes(trainer.trained, self.x, self.y)

    def flop_per_image(self) -> float:
        """Counted on two images, through the network that is not compiled."""
        return count_flops(lambda: self._passes(self.session.model, self.x[:2], self.y[:2])) / 2

    def _passes(self, model: torch.nn.Module, x: Tensor, y: Tensor) -> None:
        with batchnorm.batchnorm_mode(model, self.bn_mode), weights.no_param_grad(model):
            if self.compares:
                model(x)
            for _ in range(self.steps):
                images = x.detach().requires_grad_()
                torch.autograd.grad(F.cross_entropy(model(images), y), images)
        parameters = [p for p in model.parameters() if p.requires_grad]
        for _ in range(self.trained):
            torch.autograd.grad(F.cross_entropy(model(x), y), parameters)


def authors_step(trainer: Trainer, method: str) -> StepFunction:
    model = copy.deepcopy(trainer.model).to(memory_format=torch.contiguous_format)
    objective = method.split("+")[0]
    gamma = {"at": 0.01, "trades": 0.005}[objective] if "awp" in method else 0.0
    step = AuthorsStep(model, objective=objective, gamma=gamma)  # type: ignore[arg-type]
    x, y = trainer.batch_loader.draw(trainer.batch_order(), 0, 0)
    return lambda: step(x, y)
