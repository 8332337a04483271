"""Checks of Theorem 3 and Eq. (77) on EntropySGD's loss, by quadrature and in closed form.

Two losses of two parameters: the L-infinity adversarial loss of a linear model, convex with kinks, and a plateau around
0, neither convex nor continuous.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from rb_smooth.analysis.theory import linear
from rb_smooth.analysis.theory.entropy import (
    EntropyLoss,
    Moments,
    covering_rule,
    gauss_legendre,
    smoothed_absolute_value,
)
from rb_smooth.analysis.theory.linear_statements import EPS, X, Y
from rb_smooth.analysis.theory.numeric import NEAR, Array, derivative_error, largest_ratio, ratios
from rb_smooth.analysis.theory.results import BoundCheck

HEIGHT = 2.0
"""Height of the plateau."""

_REACH = 2.0
"""Largest absolute coordinate of a parameter."""
_COUNT = 30
"""Number of parameters at which integrals are computed."""


def kinked_loss(theta: Array) -> Array:
    """The linear model's L-infinity loss, (..., 2) -> (...)."""
    return linear.logistic_adversarial_loss(theta, X, Y, EPS, "Linf")


def plateau_loss(edge: float) -> Callable[[Array], Array]:
    """HEIGHT if both absolute coordinates are below `edge`, else 0, (..., 2) -> (...)."""
    return lambda theta: np.where(np.abs(theta).max(-1) < edge, HEIGHT, 0.0)


def theorem_3(rng: np.random.Generator, gamma: float) -> Iterator[BoundCheck]:
    """Eq. (23), Eq. (11) behind it, and the Lipschitz constants that follow for two kinds of losses."""
    edge = 2 / gamma**0.5  # the width at which the smoothed loss is least convex
    rule = covering_rule(_REACH + 0.5, gamma, 2, kinks=(-edge, 0.0, edge))
    convex, jumping = EntropyLoss(kinked_loss, gamma, rule), EntropyLoss(plateau_loss(edge), gamma, rule)
    theta = rng.uniform(-_REACH, _REACH, (_COUNT, 2))
    nearby = theta + 10 ** rng.uniform(-3, -1, (_COUNT, 1)) * rng.standard_normal((_COUNT, 2))
    yield BoundCheck(
        "Eq. (11)",
        "The smoothed loss's gradient is γ times the way from the mean of p_θ; differences of the loss agree.",
        "∇L_γ(θ) = γ (θ − E[θ′])",
        bound=1e-7,
        measured=max(derivative_error(each.value, each.gradient, theta) for each in (convex, jumping)),
        constants={"γ": gamma},
    )
    yield BoundCheck(
        "Eq. (23)",
        "Its Hessian is γ less γ² times the covariance of p_θ, kinks or not; differences of gradients agree.",
        "∇²L_γ(θ) = γI − γ²Σ_θ",
        bound=1e-7,
        measured=max(derivative_error(each.gradient, each.hessian, theta) for each in (convex, jumping)),
        constants={"γ": gamma},
    )
    yield _absolute_value(gamma)
    yield BoundCheck(
        "upper bound",
        "Whatever the loss, no eigenvalue of that Hessian is above γ; by second differences of the loss.",
        "λ_max(∇²L_γ(θ)) ≤ γ",
        bound=gamma,
        measured=max(_steepest_bend(each, theta, (nearby - theta)) for each in (convex, jumping)),
        constants={"γ": gamma},
    )
    yield _convex(convex, theta, nearby)
    yield _bounded(jumping, theta, nearby)


def _steepest_bend(smoothed: EntropyLoss, theta: Array, directions: Array) -> float:
    """The largest second derivative along `directions`, by differences of the loss's values."""
    step = 1e-3 * directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    bends = smoothed.value(theta + step) + smoothed.value(theta - step) - 2 * smoothed.value(theta)
    return float(bends.max() / 1e-6)


def _absolute_value(gamma: float) -> BoundCheck:
    """Eq. (23) for L = |t|, whose integral is known in closed form."""
    theta = np.linspace(-_REACH, _REACH, 401)
    by_quadrature = EntropyLoss(lambda t: np.abs(t[:, 0]), gamma, covering_rule(_REACH, gamma, 1)).hessian(
        theta[:, None]
    )
    exact = smoothed_absolute_value(theta, gamma).curvature
    return BoundCheck(
        "of |θ|",
        "Of the loss |θ|, whose integral is known, quadrature gives the same second derivative at every θ.",
        "γ − γ²Var[θ′] = d²/dθ² (−log ∫ exp(−|θ′| − γ/2 (θ − θ′)²) dθ′)",
        bound=1e-9,
        measured=float(np.abs(by_quadrature[:, 0, 0] - exact).max()),
        constants={"γ": gamma, "L_γ″(0)": float(exact[200])},
    )


def _convex(smoothed: EntropyLoss, theta1: Array, theta2: Array) -> BoundCheck:
    above, below = (np.stack([np.full(len(NEAR), 0.5), sign * NEAR], axis=-1) for sign in (1, -1))
    seen = ratios(lambda theta: linear.gradient(theta, X, Y, EPS, "Linf"), above, below)
    return BoundCheck(
        "convex with kinks",
        "So EntropySGD smooths the L∞-adversarial loss of a linear model, kinks and all.",
        "‖∇L_γ(θ₁) − ∇L_γ(θ₂)‖ ≤ γ ‖θ₁ − θ₂‖",
        bound=smoothed.gamma,
        measured=largest_ratio(smoothed.gradient, theta1, theta2),
        constants={"γ": smoothed.gamma},
    ).broken_by(
        "Without smoothing, that loss's gradients differ across θ₂ = 0 by {} times ‖θ₁ − θ₂‖, at |θ₂| = {}.", seen
    )


def _bounded(smoothed: EntropyLoss, theta1: Array, theta2: Array) -> BoundCheck:
    """For 0 <= L <= B, variances under p_theta are at most e^B / gamma, as the Gaussian's is 1 / gamma."""
    gamma, spread = smoothed.gamma, float(np.expm1(HEIGHT))
    bound = gamma * max(1.0, spread)
    boxes = np.array([4.0, 8.0, 16.0]) / gamma**0.5
    seen = [_log_mass(lambda t: -gamma * t[:, 0] ** 2, gamma, half) for half in boxes]
    return BoundCheck(
        "bounded with jumps",
        "It smooths losses that are not convex and jump, too; for those between 0 and B a constant is known.",
        "0 ≤ L ≤ B ⇒ ‖∇L_γ(θ₁) − ∇L_γ(θ₂)‖ ≤ γ max(1, e^B − 1) ‖θ₁ − θ₂‖",
        bound=bound,
        measured=largest_ratio(smoothed.gradient, theta1, theta2),
        constants={"γ": gamma, "B": HEIGHT},
    ).broken_by(
        "Without L ≥ 0 (of L = −γθ²) there is no L_γ: log ∫ exp(−L − γ/2 θ²) dθ is {} over |θ| ≤ {}, and no more "
        "than the Gaussian's where L ≥ 0.",
        seen,
        boxes,
        bound=float(np.log(2 * np.pi / gamma) / 2),
    )


def equation_77(rng: np.random.Generator, gamma: float) -> Iterator[BoundCheck]:
    """One step with eta = 1 on quadratic losses with minimum at 0."""
    theta = rng.uniform(-_REACH, _REACH, (_COUNT, 2))
    aligned, tilted = np.diag([0.5, 4.0]), np.array([[2.0, 1.0], [1.0, 1.5]])
    correlations = (0.1, 0.3, 0.9)
    missed = [
        _distance_to_minimum(np.array([[1, r], [r, 1]]), gamma, theta, diagonal_newton_step) for r in correlations
    ]
    yield BoundCheck(
        "aligned",
        "On a quadratic loss along the axes, one second-order step with η = 1 lands on the minimum.",
        "θ − η (θ − E[θ′]) ⊙ 1/(1 − γσ²) = 0, L = ½ Σ aᵢθᵢ²",
        bound=1e-9,
        measured=_distance_to_minimum(aligned, gamma, theta, diagonal_newton_step),
        constants={"γ": gamma, "a₁": 0.5, "a₂": 4.0},
    ).broken_by(
        "It misses by {} where parameters are correlated, by {}, for σ² is the diagonal of Σ alone.",
        missed,
        correlations,
    )
    yield BoundCheck(
        "tilted",
        "With the whole covariance the step is Newton's, and lands on the minimum of any quadratic loss.",
        "θ − (γI − γ²Σ)⁻¹ γ (θ − E[θ′]) = 0, L = ½ θᵀAθ",
        bound=1e-9,
        measured=_distance_to_minimum(tilted, gamma, theta, newton_step),
        constants={"γ": gamma},
    )


def diagonal_newton_step(theta: Array, moments: Moments, gamma: float, eta: float = 1.0) -> Array:
    """Eq. (77): theta - eta (theta - E[t]) / (1 - gamma sigma^2), of each coordinate; sigma^2 are Sigma's diagonal."""
    variance = np.diagonal(moments.covariance, axis1=-2, axis2=-1)
    return theta - eta * (theta - moments.mean) / (1 - gamma * variance)


def newton_step(theta: Array, moments: Moments, gamma: float) -> Array:
    """Newton's step: theta - (gamma I - gamma^2 Sigma)^-1 gamma (theta - E[t])."""
    hessian = gamma * np.eye(theta.shape[-1]) - gamma**2 * moments.covariance
    return theta - np.linalg.solve(hessian, gamma * (theta - moments.mean)[..., None])[..., 0]


def _distance_to_minimum(A: Array, gamma: float, theta: Array, step: Callable[[Array, Moments, float], Array]) -> float:
    """Largest distance from 0 after one step on theta^T A theta / 2."""
    smoothed = EntropyLoss(lambda t: ((t @ A) * t).sum(-1) / 2, gamma, covering_rule(_REACH, gamma, 2))
    return float(np.linalg.norm(step(theta, smoothed.moments(theta), gamma), axis=-1).max())


def _log_mass(loss: Callable[[Array], Array], gamma: float, half: float) -> float:
    """log of the integral of exp(-L(t) - gamma/2 t^2) over |t| <= half, of one parameter."""
    rule = gauss_legendre([np.linspace(-half, half, 201)])
    return float(EntropyLoss(loss, gamma, rule).moments([0.0]).log_mass)
