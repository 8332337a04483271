"""The floor under a training step: the network's passes that its method prescribes, and SGD's step; nothing else."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from figures import Figure, figure
from interleaved import interleaved, ratios
from subjects import first_minibatch, on_random_images, step_of
from torch import Tensor

from rb_smooth.components import batchnorm, weights
from rb_smooth.training.trainer import Session


def beside_the_floor(
    what: str, method: str, images: int, *settings: str, seconds: float, at_most: float | None = None
) -> tuple[Figure, int]:
    """A step of cifar10/`method` over its bare passes, and the forward passes that both take."""
    session = on_random_images(method, images, *settings)
    x, y = first_minibatch(session)
    contenders = {"ours": step_of(session, x, y), "floor": bare_step(session, x, y)}
    ours, floor = (forwards_of(session, work) for work in contenders.values())  # warms up
    assert ours == floor, f"the floor must have the step's {ours} forward passes, and has {floor}"
    times = interleaved(contenders, seconds=seconds, fewest=3, warm_up=False)
    return figure(what, "×", ratios(times, "ours", "floor"), at_most=at_most), ours


def bare_step(session: Session, x: Tensor, y: Tensor) -> Callable[[], None]:
    """As many passes over x and y as a step of `session`, through its network, in its layout, modes and precision.

    An attack step is one pass to the input, its parameters frozen. A training pass forwards as often as the objective
    does (TRADES: clean and attacked images) and goes back to the parameters; AWP takes one more such pass. TRADES
    forwards once more before its attack, without gradient. The losses are plain cross-entropies.
    """
    model, objective, recipe = session.model, session.objective, session.recipe
    is_trades = recipe.stage("objective").name == "trades"
    forwards = 2 if is_trades else 1
    training_passes = 1 + (recipe.stage("perturbation").name == "awp")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4)

    def attack() -> None:
        with weights.frozen(model), batchnorm.mode(model, objective.bn_mode):  # type: ignore[attr-defined]
            if is_trades:
                with torch.no_grad():
                    model(x)
            for _ in range(objective.steps):  # type: ignore[attr-defined]
                at = x.detach().requires_grad_()
                torch.autograd.grad(F.cross_entropy(model(at), y), at)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        sum(F.cross_entropy(model(x), y) for _ in range(forwards)).backward()  # type: ignore[union-attr]

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=session.precision == "bf16", cache_enabled=False):
            attack()
            for _ in range(training_passes):
                train()
            optimizer.step()

    return step


def forwards_of(session: Session, work: Callable[[], object]) -> int:
    """How often `work` calls the network: by this the floor is held to the step's own number of passes."""
    called = 0

    def count(*_: object) -> None:
        nonlocal called
        called += 1

    handle = session.model.register_forward_hook(count)
    try:
        work()
    finally:
        handle.remove()
    return called
