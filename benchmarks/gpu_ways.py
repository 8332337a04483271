"""Ways of one training step: ours, what it cannot be faster than, and the AWP authors'.

ours     `Session.run_batch`: draw, augment, craft, perturb, step, count; on a GPU compiled into CUDA graphs
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
from authors_way import AuthorsStep
from torch import Tensor

from rb_smooth.components import batchnorm, weights
from rb_smooth.components.flops import counted_flop
from rb_smooth.config.overrides import gather
from rb_smooth.data.splits import Dataset
from rb_smooth.training import validate
from rb_smooth.training.trainer import Session

METHODS = ("at", "at+ensgd", "at+awp", "at+awp+ensgd", "trades+awp")
COMPARED_AS = {"at+ensgd": "at", "at+awp+ensgd": "at+awp"}
"""The same passes; and the authors' script has no EntropySGD."""

Way = Callable[[], object]


@dataclass(frozen=True)
class Cell:
    """A network at a batch size, and for how long it is timed."""

    suffix: str
    batch_size: int
    settings: tuple[str, ...] = ()
    rounds: int = 5
    round_s: float = 0.4
    without_graphs: bool = False


def session_of(cell: Cell, method: str, data: Dataset, device: torch.device, *settings: str) -> Session:
    """As in the last epoch: with every stage's last method in force."""
    wanted = [f"data.batch_size={cell.batch_size}", *cell.settings, *settings]
    session = Session(validate.check(*gather("cifar10", method + cell.suffix, wanted)), data, device)
    session.epoch = session.recipe.train.epochs - 1
    session.enter(session.epoch)
    return session


def stepping(session: Session) -> Way:
    """One minibatch of training, epoch after epoch in the same order."""
    order = session.order()

    def step() -> None:
        session.batch %= session.batches
        session.run_batch(order)

    return step


class Floor:
    """The forward and backward passes of one training step, and nothing else."""

    def __init__(self, session: Session) -> None:
        objective = session.recipe.stage("objective", session.epoch)
        self.session, self.steps, self.bn_mode = session, session.objective.steps, session.objective.bn_mode  # type: ignore[attr-defined]
        self.compares = objective.name == "trades"  # with predictions for x: in the attack, and in the loss
        losses = 2 if session.recipe.stage("perturbation", session.epoch).name == "awp" else 1
        self.trained = losses * (2 if self.compares else 1)
        x, self.y = session.minibatches.draw(session.order(), 0, 0)
        self.x = x.contiguous()

    def __call__(self) -> None:
        session = self.session
        with torch.autocast(
            session.device.type, torch.bfloat16, enabled=session.precision == "bf16", cache_enabled=False
        ):
            self._passes(session.trained, self.x, self.y)

    def flop_per_image(self) -> float:
        """Counted on two images, through the network that is not compiled."""
        return counted_flop(lambda: self._passes(self.session.model, self.x[:2], self.y[:2])) / 2

    def _passes(self, model: torch.nn.Module, x: Tensor, y: Tensor) -> None:
        with batchnorm.mode(model, self.bn_mode), weights.frozen(model):
            if self.compares:
                model(x)
            for _ in range(self.steps):
                images = x.detach().requires_grad_()
                torch.autograd.grad(F.cross_entropy(model(images), y), images)
        parameters = [p for p in model.parameters() if p.requires_grad]
        for _ in range(self.trained):
            torch.autograd.grad(F.cross_entropy(model(x), y), parameters)


def authors(session: Session, method: str) -> Way:
    model = copy.deepcopy(session.model).to(memory_format=torch.contiguous_format)
    objective = method.split("+")[0]
    gamma = {"at": 0.01, "trades": 0.005}[objective] if "awp" in method else 0.0
    step = AuthorsStep(model, objective=objective, gamma=gamma)  # type: ignore[arg-type]
    x, y = session.minibatches.draw(session.order(), 0, 0)
    return lambda: step(x, y)
