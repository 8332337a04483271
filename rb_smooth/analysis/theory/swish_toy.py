"""The nonlinear toy model of Kanai et al., arXiv 2103.01400: swish before the logistic output, two parameters.

    loss(x', theta) = log(1 + exp(-y swish(theta . x'))),    swish(z) = z sigma(z)
    L_eps(theta)    = max over ||x' - x||_p <= eps of loss(x', theta), by PGD, Eq. (1)

Swish has a minimum, so the worst x' may also lie inside the ball (Lemma 4), or jump from one end of it to the other.
Arguments: theta (..., d), one x (d,), its y in {-1, 1}, eps >= 0 and norm "L2" or "Linf".
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.special import expit

from rb_smooth.analysis.theory.numeric import Array

_STEPS = 60
_FIRST_STEP_SIZE = 4.0
_STEP_DECAY = 0.8
"""Step k is eps * _FIRST_STEP_SIZE * _STEP_DECAY**k: from twice the ball's diameter to 1e-5 of eps."""


SWISH_ARGMIN = -1.2784645427610738


def swish(z: Array) -> Array:
    """z sigma(z), of z's shape; its minimum is -0.2785, at SWISH_ARGMIN."""
    return z * expit(z)


def swish_loss(theta: Array, x: Array, y: float) -> Array:
    """The standard loss (...) of theta (..., d) at x (..., d); leading axes broadcast."""
    return np.logaddexp(0.0, -y * swish((theta * x).sum(-1)))


def inside_margin(theta: Array, x: Array, eps: float, norm: str) -> Array:
    """How far -1.2785 lies within the outputs theta . x' of the ball, (...); negative where it lies outside.

    Where it is positive and y = 1, the attack is inside the ball and L_eps is constant, log(1 + exp(0.2785)).
    """
    reach = eps * np.linalg.norm(theta, 2 if norm == "L2" else 1, axis=-1)
    return np.asarray(reach - np.abs(theta @ x - SWISH_ARGMIN), float)


def swish_adversarial_loss(theta: Array, x: Array, y: float, eps: float, norm: str) -> Array:
    """L_eps(theta), (...): the largest loss on the PGD trajectories from 3^d starts: x, and the corners and midpoints
    of the sides of the cube of half side eps, projected onto the ball.

    A lower bound of the maximum.
    """
    best = np.full(theta.shape[:-1], -np.inf)
    for start in product((-1.0, 0.0, 1.0), repeat=theta.shape[-1]):
        delta = np.broadcast_to(_project(eps * np.array(start), eps, norm), theta.shape)
        for k in range(_STEPS):
            uphill = _direction(_input_gradient(theta, x + delta, y), norm)
            delta = _project(delta + eps * _FIRST_STEP_SIZE * _STEP_DECAY**k * uphill, eps, norm)
            best = np.maximum(best, swish_loss(theta, x + delta, y))
    return best


def _input_gradient(theta: Array, x: Array, y: float) -> Array:
    """Gradient of the loss by x: -y sigma(-y swish(z)) swish'(z) theta at z = theta . x."""
    z = (theta * x).sum(-1, keepdims=True)
    slope = expit(z) * (1 + z * expit(-z))
    return -y * expit(-y * swish(z)) * slope * theta


def _direction(gradient: Array, norm: str) -> Array:
    """Steepest ascent direction of norm 1; 0 where the gradient is 0."""
    if norm == "Linf":
        return np.sign(gradient)
    length = np.linalg.norm(gradient, axis=-1, keepdims=True)
    return gradient / np.where(length == 0, 1.0, length)


def _project(delta: Array, eps: float, norm: str) -> Array:
    """Project onto the ball around 0."""
    if norm == "Linf":
        return np.clip(delta, -eps, eps)
    length = np.linalg.norm(delta, axis=-1, keepdims=True)
    return delta * (eps / np.maximum(length, eps)) if eps else 0.0 * delta
