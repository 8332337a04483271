"""Logistic regression under attack, in closed form: the problem of Section 3.1 of Kanai et al., arXiv 2103.01400.

    L_eps(theta) = max over ||delta||_p <= eps of log(1 + exp(-y theta . (x + delta)))
                 = log(1 + exp(-m)),    m = y theta . x - eps ||theta||_q,    1/p + 1/q = 1

with the maximum at delta = -y eps theta / ||theta|| in L2 (Eqs. 27-31) and at -y eps sign(theta) in L-infinity (Lemma
3). L2's loss is twice differentiable except at theta = 0, L-infinity's except where a coordinate of theta is 0.

Every function takes theta (..., d), x (..., d) and y (...) in {-1, 1}, which broadcast; eps >= 0; norm "L2" or "Linf".
Everything is float64.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rb_smooth.analysis.theory.numeric import Array

NORMS = ("L2", "Linf")


def logistic_loss(theta: ArrayLike, x: ArrayLike, y: ArrayLike) -> Array:
    """The standard loss log(1 + exp(-y theta . x)), of shape (...)."""
    return logistic_adversarial_loss(theta, x, y, 0.0, "L2")


def logistic_adversarial_loss(theta: ArrayLike, x: ArrayLike, y: ArrayLike, eps: float, norm: str) -> Array:
    """L_eps(theta), of shape (...)."""
    return np.logaddexp(0.0, -_margin(np.asarray(theta, float), x, y, eps, norm))


def closed_form_attack(theta: ArrayLike, x: ArrayLike, y: ArrayLike, eps: float, norm: str) -> Array:
    """The adversarial example x'(theta), of shape (..., d).

    Where theta (L2) or a coordinate of it (L-infinity) is 0, every delta is a maximum; this returns delta = 0.
    """
    return np.asarray(x, float) - eps * _column(y) * _direction(np.asarray(theta, float), norm)


def searched_attack(theta: Array, x: Array, y: float, eps: float, norm: str) -> Array:
    """x'(theta), (n, d), without the closed form: the best corner of the cube, or, for d = 2, direction of the circle.

    The loss rises with -y theta . x', so that its maximum is at a corner in L-infinity and on the sphere in L2. There
    the best of 64 directions is improved by Newton's method on its angle.
    """
    if norm == "Linf":
        corners = np.array(list(product((-1.0, 1.0), repeat=len(x))))
        return x + eps * corners[(-y * theta @ corners.T).argmax(-1)]
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    angle = angles[(-y * theta @ np.stack([np.cos(angles), np.sin(angles)])).argmax(-1)]
    for _ in range(5):
        along, across = np.stack([np.cos(angle), np.sin(angle)], -1), np.stack([-np.sin(angle), np.cos(angle)], -1)
        angle = angle + (theta * across).sum(-1) / (theta * along).sum(-1)
    return x + eps * np.stack([np.cos(angle), np.sin(angle)], -1)


def gradient(theta: ArrayLike, x: ArrayLike, y: ArrayLike, eps: float, norm: str) -> Array:
    """The gradient of L_eps by theta, -sigma(-m) y x'(theta), of shape (..., d).

    Raises ValueError where L_eps is not differentiable.
    """
    theta = _check_differentiable(theta, eps, norm)
    return -_column(y) * expit(-_margin(theta, x, y, eps, norm))[..., None] * closed_form_attack(theta, x, y, eps, norm)


def hessian(theta: ArrayLike, x: ArrayLike, y: ArrayLike, eps: float, norm: str) -> Array:
    """The Hessian of L_eps by theta, of shape (..., d, d): with s = sigma(-m) and v = y x'(theta),

        s (1 - s) v v^T                                                 in L-infinity, and in L2
        s (1 - s) v v^T + s eps (I - theta theta^T / ||theta||^2) / ||theta||

    whose second term is unbounded towards theta = 0. Raises ValueError where L_eps is not differentiable.
    """
    theta = _check_differentiable(theta, eps, norm)
    s = expit(-_margin(theta, x, y, eps, norm))[..., None, None]
    v = closed_form_attack(theta, x, y, eps, norm)  # the sign y cancels in v v^T
    curved = s * (1 - s) * _outer(v)
    return curved + s * eps * _jacobian_of_direction(theta) if norm == "L2" and eps else curved


def attack_jacobian(theta: ArrayLike, y: ArrayLike, eps: float) -> Array:
    """The derivative of the L2 attack x' by theta, (..., d, d), Eq. (32): -y eps (I - theta theta^T/||theta||^2) /
    ||theta||. In L-infinity it is 0. Raises ValueError for theta = 0.
    """
    return -eps * _column(y)[..., None] * _jacobian_of_direction(_check_differentiable(theta, eps, "L2"))


class LogisticLossConstants(NamedTuple):
    """Lipschitz constants of Assumption 1, for ||theta|| <= radius and every x' in the ball around x."""

    C_theta: float
    """Eq. (5): of the loss in theta."""
    C_theta_theta: float
    """Eq. (6): of the gradient by theta, in theta."""
    C_theta_x: float
    """Eq. (7): of the gradient by theta, in x'."""


def constants(x: ArrayLike, eps: float, norm: str, radius: float) -> LogisticLossConstants:
    """The constants in closed form. With X the largest ||x'||, r the radius and s = sigma(-y theta . x') <= sigma(r X):

        the gradient by theta   -s y x'                       has norm  <= X sigma(r X)
        its derivative by theta  s (1 - s) x' x'^T            has norm  <= X^2 / 4
        its derivative by x'     s (1 - s) x' theta^T - s y I has norm  <= sigma(r X) + r X / 4

    x: (d,), or (n, d) for n points; then the constants hold for all of them.
    """
    x = np.asarray(x, float)
    in_l2 = np.linalg.norm(x, axis=-1) + eps
    largest = float(np.max(in_l2 if norm == "L2" else np.linalg.norm(np.abs(x) + eps, axis=-1)))
    surest = float(expit(radius * largest))
    return LogisticLossConstants(largest * surest, largest**2 / 4, surest + radius * largest / 4)


def _margin(theta: Array, x: ArrayLike, y: ArrayLike, eps: float, norm: str) -> Array:
    """The margin m, of shape (...)."""
    dual = np.linalg.norm(theta, axis=-1) if norm == "L2" else np.abs(theta).sum(-1)
    return np.asarray(y, float) * (theta * np.asarray(x, float)).sum(-1) - eps * dual


def _direction(theta: Array, norm: str) -> Array:
    """The ascent direction of the attack, of norm 1 in the attack's norm."""
    if norm == "Linf":
        return np.sign(theta)
    length = np.linalg.norm(theta, axis=-1, keepdims=True)
    return theta / np.where(length == 0, 1.0, length)


def _jacobian_of_direction(theta: Array) -> Array:
    """The derivative of theta / ||theta||: (I - theta theta^T / ||theta||^2) / ||theta||."""
    length = np.linalg.norm(theta, axis=-1)[..., None, None]
    return (np.eye(theta.shape[-1]) - _outer(theta / length[..., 0])) / length


def _outer(v: Array) -> Array:
    return v[..., :, None] * v[..., None, :]


def _column(y: ArrayLike) -> Array:
    """(...) -> (..., 1)."""
    return np.asarray(y, float)[..., None]


def _check_differentiable(theta: ArrayLike, eps: float, norm: str) -> Array:
    theta = np.asarray(theta, float)
    kinks = (theta == 0).all(-1) if norm == "L2" else (theta == 0).any(-1)
    if eps and kinks.any():
        raise ValueError(f"the {norm} loss is not differentiable at {theta[kinks][0]}")
    return theta
