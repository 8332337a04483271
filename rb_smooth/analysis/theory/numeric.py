"""Arrays of parameters: distances between them, and how a function of them changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
"""Numbers of any shape, float64."""

_STEP = 1e-5
"""Of differences: rounding and the third derivative then weigh about the same, 1e-10 of what is of the order of 1."""


def distances(a: Array, b: Array) -> Array:
    """||a - b||, (n, d), (n, d) -> (n,)."""
    return np.linalg.norm(a - b, axis=-1)


def ratios(f: Callable[[Array], Array], theta1: Array, theta2: Array) -> Array:
    """||f(theta1) - f(theta2)|| / ||theta1 - theta2|| of pairs (n, d), as (n,); f maps (n, d) to (n, m)."""
    return distances(f(theta1), f(theta2)) / distances(theta1, theta2)


def largest_ratio(f: Callable[[Array], Array], theta1: Array, theta2: Array) -> float:
    """The largest of the ratios.

    Pairs at less than 1e-6 of each other do not count: rounding f, at about 1e-16, would be seen in their ratios.
    """
    return float(np.where(distances(theta1, theta2) < 1e-6, 0, ratios(f, theta1, theta2)).max())


def derivative_error(f: Callable[[Array], Array], derivative: Callable[[Array], Array], theta: Array) -> float:
    """The largest difference between what `derivative` gives and central differences of f.

    theta: (n, d); f maps (n, d) to (n, ...) and `derivative` to (n, ..., d).
    """
    steps = _STEP * np.eye(theta.shape[-1])
    columns = [(f(theta + step) - f(theta - step)) / (2 * _STEP) for step in steps]
    return float(np.abs(np.stack(columns, -1) - derivative(theta)).max())


PAIRS = 20_000
"""As many as a claim in closed form is tried on."""

NEAR = np.array([1e-2, 1e-4, 1e-6])
"""How far from the place where a bound breaks it is shown to."""


def random_pairs(rng: np.random.Generator, count: int, dimension: int, low: float, high: float) -> tuple[Array, Array]:
    """theta1 and theta2, (count, dimension) each, with low <= ||theta|| <= high and 0 < low.

    The lengths are uniform in their logarithm, with a third of them at one of the two ends. Half of the pairs are of
    two independent parameters, half of two that are close, at 1e-3 to 1e-1 of the first one's length.
    """
    theta1, theta2 = (
        _random_norms(rng, count, low, high) * _random_directions(rng, count, dimension) for _ in range(2)
    )
    close = np.arange(count) % 2 == 0
    apart = 10 ** rng.uniform(-3, -1, (count, 1)) * np.linalg.norm(theta1, axis=1, keepdims=True)
    nearby = theta1 + apart * _random_directions(rng, count, dimension)
    theta2[close] = _scale_into_shell(nearby, low, high)[close]
    return theta1, theta2


def same_signs(theta1: Array, theta2: Array) -> tuple[Array, Array]:
    """The pairs with theta2's signs made those of theta1."""
    return theta1, np.copysign(theta2, theta1)


def _random_norms(rng: np.random.Generator, count: int, low: float, high: float) -> Array:
    return low * (high / low) ** rng.uniform(-0.25, 1.25, (count, 1)).clip(0, 1)


def _random_directions(rng: np.random.Generator, count: int, dimension: int) -> Array:
    drawn = rng.standard_normal((count, dimension))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _scale_into_shell(theta: Array, low: float, high: float) -> Array:
    length = np.linalg.norm(theta, axis=1, keepdims=True)
    return theta * length.clip(low, high) / length
