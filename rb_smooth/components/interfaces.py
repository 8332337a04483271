"""The four kinds of method and what each may rely on. Read this file first; nothing here runs.

Which box does a new idea belong in? What needs the label is an objective; what needs the same minibatch again is a
perturbation; what needs a fresh minibatch is an optimizer; what only reads the deployed weights is an averaging. One
training step is their whole coupling (`rb_smooth.training.step.training_step`), so that any objective goes with any
perturbation, optimizer and averaging, and none of them knows the others.

Symbols: x images (B, C, H, W) in [0, 1]; y labels (B,) int64; x_adv adversarial examples of x's shape; w the deployed
weights; w' the point where gradients are wanted; v a perturbation of the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from torch import Generator, Tensor, nn

from rb_smooth.core.threat import Threat


class Outcome(NamedTuple):
    """What one forward of an objective gives: logits are (B, classes) at x_adv, so logging needs no second forward."""

    loss: Tensor
    logits: Tensor


class Objective(Protocol):
    """What is minimised. Two functions and not one, because a weight perturbation must stand between them."""

    threat: Threat | None
    """The ball that training defends, by which the best epoch is selected; None: clean accuracy."""

    def craft(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """x_adv, detached, in [0, 1]. Leaves modes, p.grad, requires_grad and BatchNorm's buffers as found."""
        ...

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Outcome:
        """The loss to minimise, in the mode in which the model is."""
        ...


class Perturbation(Protocol):
    """A lasting-one-backward shift of the weights: w' + v inside the context, w' bit for bit after it."""

    def __call__(self, model: nn.Module, loss: Callable[[], Tensor]) -> AbstractContextManager[None]:
        """`loss()` is the objective's loss on this minibatch at the present weights; it may be called or not."""
        ...


class Optimizer(Protocol):
    """A torch.optim.Optimizer with the two points of schedule_free: gradients are taken at w', w is deployed."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self, set_to_none: bool = True) -> None: ...

    def step(self) -> None:
        """Consume p.grad once. Raises RuntimeError in eval mode, naming the cure."""
        ...

    def train(self) -> None:
        """Parameters := w', where gradients are wanted."""
        ...

    def eval(self) -> None:
        """Parameters := w, what is deployed. train() undoes it exactly; storage never moves."""
        ...

    def deployed(self) -> list[Tensor]:
        """w, in the order of the parameters, without swapping. Not a copy: read it, do not keep it."""
        ...

    def report(self) -> dict[str, float]:
        """Figures of its own for the log, counted since the last report. Called once an epoch."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class Averaging(Protocol):
    """What becomes of the deployed weights over time."""

    def update(self, deployed: list[Tensor], t: int) -> None:
        """Called after every minibatch t = 0, 1, …, whatever the optimizer."""
        ...

    def weights(self, deployed: list[Tensor]) -> list[Tensor]:
        """What is evaluated and exported: `deployed` itself, or the average in its place."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class Schedule(Protocol):
    """A factor on the optimizer's learning rate."""

    def __call__(self, epoch: float, epochs: int) -> float:
        """`epoch` counts from 0 in fractions; `epochs` is the length of the whole run."""
        ...


class Augmentation(Protocol):
    """A change of training images that keeps their labels."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """x: (B, C, H, W) uint8, result the same; all randomness from `generator`, on the CPU."""
        ...
