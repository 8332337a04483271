"""The contract of the four kinds of method, and of schedules and augmentations. Protocols only: nothing to inherit.

    kind           role                                             choose it for a method that needs
    objective      crafts adversarial examples, computes the loss   the labels
    perturbation   shifts the weights for one backward pass         a second pass on the same minibatch
    optimizer      turns gradients into weights                     a fresh minibatch
    averaging      averages the weights over time                   the weights only

One training step (`rb_smooth.training.step.training_step`) calls all four:

    x_adv = objective.craft(model, x, y)
    with perturbation(model, lambda: objective.loss(model, x, x_adv, y).loss):
        objective.loss(model, x, x_adv, y).loss.backward()    # at w' + v
    optimizer.step()                                          # from w'
    averaging.update(optimizer.deployed(), t)                 # of w

They share nothing else, so any objective combines with any perturbation, optimizer and averaging.

Symbols: x images (B, C, H, W) in [0, 1]; y labels (B,) int64; x_adv adversarial examples, of x's shape; t minibatch
number of the run, from 0; w deployed weights, which are averaged, evaluated and saved; w' weights at which the gradient
is taken (w' = w for SGD; for EntropySGD the Langevin chain); v weight perturbation.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from torch import Generator, Tensor, nn

from rb_smooth.core.threat import Threat


class Outcome(NamedTuple):
    """Result of `Objective.loss`. loss: scalar. logits: (B, classes) at x_adv, logged without a second forward pass."""

    loss: Tensor
    logits: Tensor


class Objective(Protocol):
    """The attack and the loss. Two methods, since the perturbation is applied between them."""

    threat: Threat | None
    """Threat model of training; robust accuracy under it selects the best epoch. None: clean accuracy selects it."""

    def craft(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return x_adv: x's shape, in [0, 1], detached.

        Must not change train/eval modes, p.grad, requires_grad or BatchNorm buffers, also if the model raises.
        """
        ...

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Outcome:
        """Compute the loss at the current weights, without changing the model's mode."""
        ...


class Perturbation(Protocol):
    """A shift of the weights during one backward pass."""

    def __call__(self, model: nn.Module, loss: Callable[[], Tensor]) -> AbstractContextManager[None]:
        """Context manager: weights are w' + v inside, and w' bit for bit after it, also on an exception.

        loss: computes the objective's loss on this minibatch at the current weights, a scalar; may be called any number
        of times. BatchNorm statistics, modes and p.grad must not change, and parameters must keep their storage.
        """
        ...


class Optimizer(Protocol):
    """A torch.optim.Optimizer with two sets of weights, w' and w, and train() and eval() as in schedule_free."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self, set_to_none: bool = True) -> None: ...

    def step(self) -> None:
        """Update from p.grad, once per minibatch. Raises RuntimeError in eval mode: "call optimizer.train()"."""
        ...

    def train(self) -> None:
        """Parameters := w', for taking gradients."""
        ...

    def eval(self) -> None:
        """Parameters := w, for evaluating and saving. train() undoes it bit for bit; storage never moves."""
        ...

    def deployed(self) -> list[Tensor]:
        """Return w in parameter order, in either mode. Not a copy: valid until the next step()."""
        ...

    def report(self) -> dict[str, float]:
        """Return the optimizer's own numbers for the log, counted since the last call. Called once per epoch."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class Averaging(Protocol):
    """An average of the deployed weights over time."""

    def update(self, deployed: list[Tensor], t: int) -> None:
        """Add w after minibatch t = 0, 1, …; called after every minibatch, for every optimizer."""
        ...

    def weights(self, deployed: list[Tensor]) -> list[Tensor]:
        """Return the weights to evaluate and save: the average, or `deployed` itself."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class Schedule(Protocol):
    """A factor on the optimizer's learning rate."""

    def __call__(self, epoch: float, epochs: int) -> float:
        """epoch: fractional, from 0. epochs: length of the run."""
        ...


class Augmentation(Protocol):
    """A label-preserving transformation of training images."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """x: (B, C, H, W) uint8, as is the result. All randomness comes from `generator`, which is on the CPU."""
        ...
