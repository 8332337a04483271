"""Memory of the two papers' methods in copies of the weights: exact bytes of torch's allocator, not the process's size.

AWP's is the difference between two training steps' peaks. The attack is of one step: all its steps need the same.
Precision and layout are the recipe's own; a copy is of the parameters, fp32.
"""

from __future__ import annotations

from typing import Any

from allocations import Held, held_by
from figures import Figure, figure
from subjects import SMALL_NET, first_minibatch, on_random_images, step_of

from rb_smooth.training.trainer import Session

_OPTIMIZERS = {"at": "SGD", "at+ensgd": "EntropySGD", "at+ensgd2": "EntropySGD2"}
_KEPT = {"EntropySGD": 4.0}  # w, mu, m, M


def measure(toy: bool) -> dict[str, Any]:
    smaller = ("objective.steps=1", *((SMALL_NET,) if toy else ()))
    images = 4 if toy else 128
    peaks = {method: _step_peak(on_random_images(method, images, *smaller)) for method in ("at", "at+awp")}
    session = on_random_images("at+wa", images, *smaller)
    weights = _bytes(session)
    figures = [_copies("AWP: peak of a step beyond AT's", peaks["at+awp"] - peaks["at"], weights, at_most=1.0)]
    deployed = session.optimizer.deployed()
    average = held_by(lambda: session.averaging.update(deployed, 0))
    for method, name in _OPTIMIZERS.items():
        first, most = _optimizer(on_random_images(method, images, *smaller))
        figures.append(_copies(f"{name}: kept beyond parameters and gradients", first.kept, weights, _KEPT.get(name)))
        goal = 1.0 if name in _KEPT else None
        figures.append(_copies(f"{name}: for a moment within a step, at most", most, weights, goal))
    figures.append(_copies("EMA: kept", average.kept, weights))
    return {"figures": figures, "batch_size": images, "bytes_of_the_weights": weights, "peak_bytes_of_a_step": peaks}


def _copies(what: str, held: int, weights: int, at_most: float | None = None) -> Figure:
    return figure(what, "copies", [held / weights], at_most=at_most)


def _bytes(session: Session) -> int:
    return sum(parameter.nbytes for parameter in session.model.parameters())


def _step_peak(session: Session) -> int:
    """Of a step that follows another: the optimizer's state and the last gradients are there already."""
    step = step_of(session, *first_minibatch(session))
    return held_by(step, after=step).peak


def _optimizer(session: Session) -> tuple[Held, int]:
    """The first step, which makes the state, and the most that any of the steps up to the outer one needs beyond it."""
    for parameter in session.model.parameters():
        parameter.grad = 1e-3 * parameter.detach().clone()
    first = held_by(session.optimizer.step)
    later = [
        held_by(session.optimizer.step).peak for _ in range(session.optimizer.param_groups[0].get("inner_steps", 2))
    ]
    return first, max(later)
