"""The loss of EntropySGD and its derivatives, by quadrature: Eqs. (10)-(12) and Theorem 3 of Kanai et al.

    L_gamma(theta)   = -log of the integral of exp(-L(t) - gamma/2 ||theta - t||^2) dt                   (10)
    its gradient     = gamma (theta - E[t])                                                              (11)
    its Hessian      = gamma I - gamma^2 Cov[t]                                                  (Theorem 3)

with E and Cov under p_theta, the integrand over its integral (12). L >= 0 may have kinks, and need not be convex.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, log_ndtr, roots_legendre

from rb_smooth.analysis.theory.numeric import Array

_CHUNK_SIZE = 2**22
"""Most elements of an intermediate array."""


class QuadratureRule(NamedTuple):
    """Quadrature nodes and weights: the integral of f is about weights @ f(nodes)."""

    nodes: Array
    """(m, d)."""
    weights: Array
    """(m,), all > 0."""


def gauss_legendre(edges: Sequence[ArrayLike], order: int = 12) -> QuadratureRule:
    """Gauss-Legendre quadrature of `order` nodes on each panel of a box. edges: ascending, one list per coordinate.

    Exact to rounding if f is smooth within panels: put edges at the kinks of f.
    """
    unit_nodes, unit_weights = roots_legendre(order)
    nodes_of, weights_of = [], []
    for each in edges:
        low, high = np.asarray(each, float)[:-1, None], np.asarray(each, float)[1:, None]
        nodes_of.append(((low + high) / 2 + (high - low) / 2 * unit_nodes).ravel())
        weights_of.append(((high - low) / 2 * unit_weights).ravel())
    nodes = np.stack(np.meshgrid(*nodes_of, indexing="ij"), -1).reshape(-1, len(edges))
    return QuadratureRule(nodes, np.prod(np.meshgrid(*weights_of, indexing="ij"), axis=0).ravel())


def covering_rule(
    max_abs_theta: float,
    gamma: float,
    dimension: int,
    order: int = 10,
    kinks: Sequence[float] = (0.0,),
) -> QuadratureRule:
    """A rule for every theta with all |theta_i| <= `max_abs_theta`.

    Panels are at most 1 (the length scale of L) and 1.5 standard deviations of the Gaussian wide; coordinates in
    `kinks` are edges. One rule serves all theta, so that differences in theta are those of the loss, not of a grid.
    The box extends 8 standard deviations further: with e^-L <= 1, the rest is at most 2e-15 of the Gaussian's integral
    for each coordinate.
    """
    deviation = 1 / np.sqrt(gamma)
    half = max_abs_theta + 8 * deviation
    ends = np.unique([-half, *kinks, half])
    panels = np.ceil(np.diff(ends) / min(1.0, 1.5 * deviation)).astype(int)
    between = [np.linspace(a, b, n, endpoint=False) for (a, b), n in zip(pairwise(ends), panels, strict=True)]
    return gauss_legendre([np.append(np.concatenate(between), half)] * dimension, order)


class Moments(NamedTuple):
    """Moments of p_theta at each theta (...)."""

    log_mass: Array
    """log of the integral, (...)."""
    mean: Array
    """E[t], (..., d)."""
    covariance: Array
    """Cov[t], (..., d, d)."""


@dataclass(frozen=True)
class EntropyLoss:
    """L_gamma of a loss L that maps (m, d) to (m,), integrated by `rule`.

    Every method takes theta (..., d).
    """

    loss: Callable[[Array], Array]
    gamma: float
    rule: QuadratureRule

    def value(self, theta: ArrayLike) -> Array:
        """L_gamma(theta), (...)."""
        return -self.moments(theta).log_mass

    def gradient(self, theta: ArrayLike) -> Array:
        """Gradient by Eq. (11), (..., d)."""
        return self.gamma * (np.asarray(theta, float) - self.moments(theta).mean)

    def hessian(self, theta: ArrayLike) -> Array:
        """Hessian by Theorem 3, (..., d, d)."""
        covariance = self.moments(theta).covariance
        return self.gamma * np.eye(covariance.shape[-1]) - self.gamma**2 * covariance

    def moments(self, theta: ArrayLike) -> Moments:
        """Log normalisation, mean and covariance of p_theta."""
        theta = np.asarray(theta, float)
        rows, d = theta.reshape(-1, theta.shape[-1]), theta.shape[-1]
        pieces = np.array_split(rows, 1 + len(rows) * len(self._log_density) // _CHUNK_SIZE)
        log_mass, first, second = map(np.concatenate, zip(*map(self._raw_moments, pieces), strict=True))
        covariance = second.reshape(-1, d, d) - first[:, :, None] * first[:, None, :]
        at = theta.shape[:-1]
        return Moments(log_mass.reshape(at), first.reshape(theta.shape), covariance.reshape(*at, d, d))

    @cached_property
    def _log_density(self) -> Array:
        """log(weight) - L at each node, (m,); independent of theta."""
        return np.log(self.rule.weights) - self.loss(self.rule.nodes)

    @cached_property
    def _powers(self) -> Array:
        """t and t t^T at each node, (m, d + d^2)."""
        t = self.rule.nodes
        return np.concatenate([t, (t[:, :, None] * t[:, None, :]).reshape(len(t), -1)], axis=1)

    def _raw_moments(self, theta: Array) -> tuple[Array, Array, Array]:
        """log of the integral (n,), E[t] (n, d) and E[t t^T] (n, d^2) at theta (n, d)."""
        t = self.rule.nodes
        squares = (theta**2).sum(1)[:, None] + (t**2).sum(1) - 2 * theta @ t.T
        logs = self._log_density - self.gamma / 2 * squares
        highest = logs.max(1, keepdims=True)  # subtracted against overflow and underflow
        density = np.exp(logs - highest)
        mass = density.sum(1)
        means = density @ self._powers / mass[:, None]
        return highest[:, 0] + np.log(mass), means[:, : t.shape[1]], means[:, t.shape[1] :]


class SmoothedLoss(NamedTuple):
    """A smoothed loss of one parameter and its first two derivatives, each of theta's shape."""

    value: Array
    gradient: Array
    curvature: Array


def smoothed_absolute_value(theta: ArrayLike, gamma: float) -> SmoothedLoss:
    """L_gamma of L(t) = |t| in closed form, from the integrals over t > 0 and t < 0.

        L_gamma = 1/2 log(gamma / 2 pi) - log(e^a + e^b)
        a = 1/(2 gamma) - theta + log Phi( sqrt(gamma) theta - 1/sqrt(gamma))
        b = 1/(2 gamma) + theta + log Phi(-sqrt(gamma) theta - 1/sqrt(gamma))

    With p = sigma(a - b), the mass of p_theta on t > 0: L_gamma' = E[sign t] = 2 p - 1.
    """
    theta, root = np.asarray(theta, float), np.sqrt(gamma)
    right, left = root * theta - 1 / root, -root * theta - 1 / root
    a = 1 / (2 * gamma) - theta + log_ndtr(right)
    b = 1 / (2 * gamma) + theta + log_ndtr(left)
    p = expit(a - b)
    slope = root * (_hazard(right) + _hazard(left)) - 2  # of a - b
    return SmoothedLoss(np.log(gamma / (2 * np.pi)) / 2 - np.logaddexp(a, b), 2 * p - 1, 2 * p * (1 - p) * slope)


def _hazard(z: Array) -> Array:
    """Derivative of log Phi."""
    return np.exp(-(z**2) / 2 - np.log(2 * np.pi) / 2 - log_ndtr(z))
