"""The two-parameter nonlinear toy of Kanai et al., arXiv 2103.01400: swish before the logistic output.

    loss(x', theta) = log(1 + exp(-y swish(theta . x'))),    swish(z) = z sigma(z)
    L_eps(theta)    = max over ||x' - x||_p <= eps of loss(x', theta), by PGD, Eq. (1)

Swish has a minimum, so that the worst x' may also lie inside the ball (Lemma 4), or jump from one of its ends to the
other.

Every function takes theta (..., d), one x (d,), its y in {-1, 1}, eps >= 0 and norm "L2" or "Linf".
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.special import expit

from rb_smooth.refusal import Refused, nearest
from rb_smooth.theory.arrays import Array
from rb_smooth.theory.linear import NORMS

_STEPS = 60
_FIRST = 4.0
_SHRINK = 0.8
"""Steps are eps * _FIRST * _SHRINK**k: across the ball at first, 1e-5 of it in the end."""


def swish(z: Array) -> Array:
    """z sigma(z), of z's shape; its minimum is -0.2785, at z = -1.2785."""
    return z * expit(z)


def swish_loss(theta: Array, x: Array, y: float) -> Array:
    """The loss of theta (..., d) at x (..., d) without an attack, (...); leading axes broadcast."""
    return np.logaddexp(0.0, -y * swish((theta * x).sum(-1)))


def swish_adversarial_loss(theta: Array, x: Array, y: float, eps: float, norm: str) -> Array:
    """L_eps(theta), (...): the largest loss that PGD met on its way from 3^d starts, x itself, the ball's corners and
    the middles of its sides among them; all theta and starts at once.

    It never exceeds the maximum. Raises Refused for an unknown norm.
    """
    if norm not in NORMS:
        raise Refused(f"expected a norm, {nearest(norm, NORMS)}")
    best = np.full(theta.shape[:-1], -np.inf)
    for start in product((-1.0, 0.0, 1.0), repeat=theta.shape[-1]):
        delta = np.broadcast_to(_projected(eps * np.array(start), eps, norm), theta.shape)
        for k in range(_STEPS):
            uphill = _direction(_gradient_by_x(theta, x + delta, y), norm)
            delta = _projected(delta + eps * _FIRST * _SHRINK**k * uphill, eps, norm)
            best = np.maximum(best, swish_loss(theta, x + delta, y))
    return best


def _gradient_by_x(theta: Array, x: Array, y: float) -> Array:
    """Of the loss: -y sigma(-y swish(z)) swish'(z) theta at z = theta . x."""
    z = (theta * x).sum(-1, keepdims=True)
    slope = expit(z) * (1 + z * expit(-z))
    return -y * expit(-y * swish(z)) * slope * theta


def _direction(gradient: Array, norm: str) -> Array:
    """Steepest ascent among steps of length 1; no step where there is no gradient."""
    if norm == "Linf":
        return np.sign(gradient)
    length = np.linalg.norm(gradient, axis=-1, keepdims=True)
    return gradient / np.where(length == 0, 1.0, length)


def _projected(delta: Array, eps: float, norm: str) -> Array:
    """The nearest point of the ball around 0."""
    if norm == "Linf":
        return np.clip(delta, -eps, eps)
    length = np.linalg.norm(delta, axis=-1, keepdims=True)
    return delta * (eps / np.maximum(length, eps)) if eps else 0.0 * delta
