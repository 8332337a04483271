"""The floor under a training step: the network's passes that its method prescribes, and SGD's step; nothing else."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from benchmark_figure import Figure, figure
from benchmark_runs import first_minibatch, on_random_images, training_step_of
from interleaved_timing import ratios, time_interleaved
from torch import Tensor

from rb_smooth.components import batchnorm, weights
from rb_smooth.training.trainer import Trainer


def compare_with_bare_passes(
    what: str, method: str, images: int, *settings: str, seconds: float, at_most: float | None = None
) -> tuple[Figure, int]:
    """A step of cifar10/`method` over its bare passes, and the forward passes that both take."""
    trainer = on_random_images(method, images, *settings)
    x, y = first_minibatch(trainer)
    contenders = {"ours": training_step_of(trainer, x, y), "floor": bare_step(trainer, x, y)}
    ours, floor = (count_forwards(trainer, work) for work in contenders.values())  # warms up
    assert ours == floor, f"the floor must have the step's {ours} forward passes, and has {floor}"
    times = time_interleaved(contenders, seconds=seconds, fewest=3, warm_up=False)
    return figure(what, "×", ratios(times, "ours", "floor"), at_most=at_most), ours


def bare_step(trainer: Trainer, x: Tensor, y: Tensor) -> Callable[[], None]:
    """As many passes over x and y as a step of `trainer`, through its network, in its layout, modes and precision.

    An attack step is one pass to the input, its parameters frozen. A training pass forwards as often as the objective
    does (TRADES: clean and attacked images) and goes back to the parameters; AWP takes one more such pass. TRADES
    forwards once more before its attack, without gradient. The losses are plain cross-entropies.
    """
    model, objective, recipe = trainer.model, trainer.objective, trainer.recipe
    is_trades = recipe.stage("objective").name == "trades"
    forwards = 2 if is_trades else 1
    training_passes = 1 + (recipe.stage("perturbation").name == "awp")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4)

    def attack() -> None:
        with weights.no_param_grad(model), batchnorm.batchnorm_mode(model, objective.bn_mode):  # type: ignore[attr-defined]
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
        with torch.autocast("cpu", torch.bfloat16, enabled=trainer.precision == "bf16", cache_enabled=False):
            attack()
            for _ in range(training_passes):
                train()
            optimizer.step()

    return step


def count_forwards(trainer: Trainer, work: Callable[[], object]) -> int:
    """How often `work` calls the network: by this the floor is held to the step's own number of passes."""
    called = 0

    def count(*_: object) -> None:
        nonlocal called
        called += 1

    handle = trainer.model.register_forward_hook(count)
    try:
        work()
    finally:
        handle.remove()
    return called
