"""Memory of the two papers' methods in copies of the weights (fp32), by bytes of torch's allocator.

AWP's is the difference between the peaks of two training steps. The attack has one step, as all steps need the same
memory. Precision and layout are the recipe's.
"""

from __future__ import annotations

from typing import Any

from allocations import AllocatedBytes, measure_allocations
from benchmark_figure import Figure, figure
from benchmark_runs import SMALL_NET, first_minibatch, on_random_images, training_step_of

from rb_smooth.training.trainer import Trainer

_OPTIMIZERS = {"at": "SGD", "at+ensgd": "EntropySGD", "at+ensgd2": "EntropySGD2"}
_STATE_GOALS = {"EntropySGD": 4.0}  # w, mu, m, M


def measure(toy: bool) -> dict[str, Any]:
    smaller = ("objective.steps=1", *((SMALL_NET,) if toy else ()))
    images = 4 if toy else 128
    peaks = {method: _step_peak(on_random_images(method, images, *smaller)) for method in ("at", "at+awp")}
    trainer = on_random_images("at+wa", images, *smaller)
    weights = _bytes(trainer)
    figures = [
        _copies("AWP: peak memory of a step beyond that of `at`", peaks["at+awp"] - peaks["at"], weights, at_most=1.0)
    ]
    deployed = trainer.optimizer.deployed()
    average = measure_allocations(lambda: trainer.averaging.update(deployed, 0))
    for method, name in _OPTIMIZERS.items():
        first, most = _optimizer(on_random_images(method, images, *smaller))
        figures.append(_copies(f"{name}: optimizer state", first.retained, weights, _STATE_GOALS.get(name)))
        goal = 1.0 if name in _STATE_GOALS else None
        figures.append(_copies(f"{name}: temporary memory of a step, at most", most, weights, goal))
    figures.append(_copies("EMA: state", average.retained, weights))
    return {"figures": figures, "batch_size": images, "bytes_of_the_weights": weights, "peak_bytes_of_a_step": peaks}


def _copies(what: str, held: int, weights: int, at_most: float | None = None) -> Figure:
    return figure(what, "copies", [held / weights], at_most=at_most)


def _bytes(trainer: Trainer) -> int:
    return sum(parameter.nbytes for parameter in trainer.model.parameters())


def _step_peak(trainer: Trainer) -> int:
    """Peak of the second step, when optimizer state and gradients exist."""
    step = training_step_of(trainer, *first_minibatch(trainer))
    return measure_allocations(step, after=step).peak


def _optimizer(trainer: Trainer) -> tuple[AllocatedBytes, int]:
    """Allocations of the first step, which creates the state, and the highest peak of the steps up to the outer one."""
    for parameter in trainer.model.parameters():
        parameter.grad = 1e-3 * parameter.detach().clone()
    first = measure_allocations(trainer.optimizer.step)
    later = [
        measure_allocations(trainer.optimizer.step).peak
        for _ in range(trainer.optimizer.param_groups[0].get("inner_steps", 2))
    ]
    return first, max(later)
