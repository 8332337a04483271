"""Distances of parameters, difference quotients of functions, and random pairs of parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
"""A float64 array of any shape."""

_STEP = 1e-5
"""Step of central differences: balances rounding and truncation, each about 1e-10 for values of order 1."""


def distances(a: Array, b: Array) -> Array:
    """||a - b||, (n, d), (n, d) -> (n,)."""
    return np.linalg.norm(a - b, axis=-1)


def ratios(f: Callable[[Array], Array], theta1: Array, theta2: Array) -> Array:
    """||f(theta1) - f(theta2)|| / ||theta1 - theta2|| of pairs (n, d), as (n,); f maps (n, d) to (n, m)."""
    return distances(f(theta1), f(theta2)) / distances(theta1, theta2)


def largest_ratio(f: Callable[[Array], Array], theta1: Array, theta2: Array) -> float:
    """The largest of `ratios`, without pairs closer than 1e-6, whose ratios rounding errors of f would dominate."""
    return float(np.where(distances(theta1, theta2) < 1e-6, 0, ratios(f, theta1, theta2)).max())


def central_differences(f: Callable[[Array], Array], theta: Array) -> Array:
    """The derivative of f, which maps (n, d) to (n, ...), by central differences at theta (n, d): (n, ..., d)."""
    steps = _STEP * np.eye(theta.shape[-1])
    return np.stack([(f(theta + step) - f(theta - step)) / (2 * _STEP) for step in steps], -1)


def derivative_error(f: Callable[[Array], Array], derivative: Callable[[Array], Array], theta: Array) -> float:
    """The largest absolute difference between `derivative` and `central_differences` of f."""
    return float(np.abs(central_differences(f, theta) - derivative(theta)).max())


PAIRS = 20_000
"""Number of pairs on which closed-form claims are checked."""

NEAR = np.array([1e-2, 1e-4, 1e-6])
"""Distances of counterexamples from the point where a bound breaks."""


def random_pairs(rng: np.random.Generator, count: int, dimension: int, low: float, high: float) -> tuple[Array, Array]:
    """theta1 and theta2, (count, dimension) each, with low <= ||theta|| <= high and 0 < low.

    Norms are log-uniform, with a third of them at `low` or `high`. Half of the pairs are independent; in the other half
    the distance is 1e-3 to 1e-1 of the norm of theta1.
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
    """theta1, and theta2 with the signs of theta1."""
    return theta1, np.copysign(theta2, theta1)


def _random_norms(rng: np.random.Generator, count: int, low: float, high: float) -> Array:
    return low * (high / low) ** rng.uniform(-0.25, 1.25, (count, 1)).clip(0, 1)


def _random_directions(rng: np.random.Generator, count: int, dimension: int) -> Array:
    drawn = rng.standard_normal((count, dimension))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _scale_into_shell(theta: Array, low: float, high: float) -> Array:
    length = np.linalg.norm(theta, axis=1, keepdims=True)
    return theta * length.clip(low, high) / length
