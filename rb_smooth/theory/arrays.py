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
