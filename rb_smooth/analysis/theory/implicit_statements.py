"""Checks of Lemmas 1, 4 and 5 on a smooth loss whose attack is differentiated implicitly (implicit.py).

Three instances of the loss: all attacks inside the ball, all on its surface, and both kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import expit

from rb_smooth.analysis.theory import linear
from rb_smooth.analysis.theory.implicit import ConcaveLoss, build_bordered_hessian, implicit_jacobian
from rb_smooth.analysis.theory.linear_statements import EPS, X, Y
from rb_smooth.analysis.theory.numeric import NEAR, Array, derivative_error, distances, largest_ratio, ratios
from rb_smooth.analysis.theory.results import BoundCheck
from rb_smooth.analysis.theory.swish_toy import swish_adversarial_loss

_COUNT = 5_000
"""Number of pairs of parameters."""


def concave_loss(c: tuple[float, float], eps: float) -> ConcaveLoss:
    """A ConcaveLoss of two parameters in two dimensions."""
    A, Q = np.array([[1.0, -0.5], [0.3, 0.8]]), np.array([[1.5, 0.5], [0.5, 1.5]])
    return ConcaveLoss(np.array(c), A, Q, kappa=0.5, eps=eps)


INSIDE, BOTH, ON_SURFACE = concave_loss((0, 0), 1.5), concave_loss((3, 1.5), 2.0), concave_loss((8, 6), 3.0)


def lemma_1(rng: np.random.Generator) -> Iterator[BoundCheck]:
    """Eqs. (24) and (25), with attacks inside the ball and on its surface.

    The attack's Lipschitz constant follows without derivatives: on any convex set, the maximum over x' of an m-strongly
    concave function is C_theta_x / m-Lipschitz in theta.
    """
    C, theta1, theta2 = BOTH.constants, *_parameter_pairs(rng)
    lipschitz = C.C_theta_x / C.C_xx
    bound = C.C_theta_theta + lipschitz * C.C_theta_x
    yield BoundCheck(
        "Eq. (24)",
        "Where the attack is C-Lipschitz, the adversarial loss is smooth.",
        "‖∇L_ε(θ₁) − ∇L_ε(θ₂)‖ ≤ (C_θθ + C C_θx) ‖θ₁ − θ₂‖",
        bound=bound,
        measured=largest_ratio(BOTH.gradient, theta1, theta2),
        constants={"C_θθ": C.C_theta_theta, "C": lipschitz, "C_θx": C.C_theta_x},
    ).broken_by(
        "Where it is not (of the loss θx′ on |x′| ≤ 1 it is sign θ), gradients differ across 0 by {} times "
        "‖θ₁ − θ₂‖, at |θ| = {}.",
        _ratios_across_0(np.sign),
    )


def lemma_4(rng: np.random.Generator) -> Iterator[BoundCheck]:
    """Eq. (19), the derivative behind it, and the smoothness it implies."""
    C, theta1, theta2 = INSIDE.constants, *_parameter_pairs(rng)
    constants = {"C_θx": C.C_theta_x, "C_xx": C.C_xx}
    yield BoundCheck(
        "Eq. (19)",
        "An attack inside the ball is Lipschitz where the loss is curved in every direction of x′.",
        "‖x′(θ₁) − x′(θ₂)‖ ≤ (C_θx/C_xx) ‖θ₁ − θ₂‖",
        bound=C.C_theta_x / C.C_xx,
        measured=largest_ratio(INSIDE.attack, theta1, theta2),
        constants=constants,
    ).broken_by(
        "Where the Hessian by x′ is singular (of the loss θx′ − x′⁴/4, whose attack is ∛θ, at 0), it moves {} "
        "times as far as θ, at |θ| = {}.",
        _ratios_across_0(np.cbrt),
    )
    yield BoundCheck(
        "the derivative",
        "There its derivative is that of the implicit function; differences of attacks agree.",
        "∂x′/∂θ = −(∇ₓ²ℓ)⁻¹ ∇_θ∇ₓℓ",
        bound=1e-7,
        measured=derivative_error(INSIDE.attack, INSIDE.jacobian_inside, theta1),
    )
    yield BoundCheck(
        "smoothness",
        "So there the adversarial loss is smooth.",
        "‖∇L_ε(θ₁) − ∇L_ε(θ₂)‖ ≤ (C_θθ + C_θx²/C_xx) ‖θ₁ − θ₂‖",
        bound=C.C_theta_theta + C.C_theta_x**2 / C.C_xx,
        measured=largest_ratio(INSIDE.gradient, theta1, theta2),
        constants={"C_θθ": C.C_theta_theta} | constants,
    )
    yield _swish_inside()


def _swish_inside() -> BoundCheck:
    """The paper's nonlinear toy: jumps of the slope of its L-infinity loss across theta_2 = 0, by PGD."""
    x, eps, h = np.array([-1.0, -0.5]), 1.5, 1e-4

    def jumps(theta_1: Array) -> Array:
        below, at, above = (
            swish_adversarial_loss(np.stack([theta_1, np.full_like(theta_1, side)], -1), x, 1.0, eps, "Linf")
            for side in (-h, 0.0, h)
        )
        return (above + below - 2 * at) / h

    corners = np.array([0.4, 0.3, 0.2])
    return BoundCheck(
        "with swish",
        "So with swish before the output (y = 1) the L∞ loss has no kink where θ₂ changes its sign, as long as the "
        "ball reaches swish's minimum.",
        "−1.2785 ∈ {θᵀx′ : ‖x′ − x‖_∞ ≤ ε} ⇒ ∇L_ε(θ₂ = 0₊) − ∇L_ε(θ₂ = 0₋) = 0, at θ₁ = 0.6 to 1.4",
        bound=1e-5,
        measured=float(np.abs(jumps(np.linspace(0.6, 1.4, 9))).max()),
    ).broken_by(
        "Where the ball does not reach it, the attack is at a corner, and the slope jumps by {}, at θ₁ = {}.",
        jumps(corners),
        corners,
    )


def lemma_5(rng: np.random.Generator) -> Iterator[BoundCheck]:
    """Eq. (21), and the derivative behind it, which for a linear model is Eq. (32)."""
    C, theta1, theta2 = ON_SURFACE.constants, *_parameter_pairs(rng)
    near = np.outer(NEAR, [np.cos(0.7), np.sin(0.7)])
    seen = ratios(lambda theta: linear.closed_form_attack(theta, X, Y, EPS, "L2"), near, -near)
    singular = np.linalg.svd(_linear_border(near), compute_uv=False)[:, -1]
    away_from_0 = theta1[distances(theta1, 0 * theta1) > 0.5]
    yield BoundCheck(
        "Eq. (21)",
        "An attack on the L2 ball's surface is Lipschitz where the bordered Hessian is far from singular.",
        "‖x′(θ₁) − x′(θ₂)‖ ≤ (C_θx/C_H) ‖θ₁ − θ₂‖",
        bound=C.C_theta_x / C.C_H,
        measured=largest_ratio(ON_SURFACE.attack, theta1, theta2),
        constants={"C_θx": C.C_theta_x, "C_H": C.C_H},
    ).broken_by(
        "Where that becomes singular (the linear model's towards θ = 0, whose least singular value is at most "
        f"{singular[0]:.3g}), it moves {{}} times as far as θ, at ‖θ‖ = {{}}.",
        seen,
    )
    yield BoundCheck(
        "the derivative",
        "There the bordered Hessian gives its derivative; differences of attacks agree.",
        "∂(ν, x′)/∂θ = −H⁻¹ [0; ∇_θ∇ₓℓ], H = [[0, −δᵀ], [−δ, ∇ₓ²ℓ − νI]]",
        bound=1e-7,
        measured=derivative_error(ON_SURFACE.attack, ON_SURFACE.jacobian_on_surface, theta1),
    )
    yield BoundCheck(
        "of a linear model",
        "Of a linear model, it gives Lemma 2's derivative; differences of searched attacks agree.",
        "−H⁻¹ [0; ∇_θ∇ₓℓ] = [∂ν/∂θ; −yε (I/‖θ‖ − θθᵀ/‖θ‖³)]",
        bound=1e-7,
        measured=derivative_error(
            lambda theta: linear.searched_attack(theta, X, Y, EPS, "L2"), _linear_jacobian, away_from_0
        ),
    )


def _parameter_pairs(rng: np.random.Generator) -> tuple[Array, Array]:
    """Random pairs in a square that contains a period of b, with distances of the order of 1e-3 to 1."""
    theta = rng.uniform(-4, 4, (_COUNT, 2))
    return theta, theta + 10 ** rng.uniform(-3, 0, (_COUNT, 1)) * rng.standard_normal((_COUNT, 2))


def _ratios_across_0(f: Callable[[Array], Array]) -> Array:
    """|f(h) - f(-h)| / 2h for h in NEAR."""
    return ratios(f, NEAR[:, None], -NEAR[:, None])


def _linear_border(theta: Array) -> Array:
    """The bordered Hessian of log(1 + exp(-y theta . x')) at the L2 attack."""
    x_adv = linear.closed_form_attack(theta, X, Y, EPS, "L2")
    s = expit(-Y * (theta * x_adv).sum(-1, keepdims=True))
    return build_bordered_hessian(
        (s * (1 - s))[..., None] * theta[..., :, None] * theta[..., None, :], x_adv - X, -Y * s * theta
    )


def _linear_jacobian(theta: Array) -> Array:
    """The attack's derivative for that loss, by the bordered Hessian."""
    x_adv = linear.closed_form_attack(theta, X, Y, EPS, "L2")
    s = expit(-Y * (theta * x_adv).sum(-1))[..., None, None]
    mixed = s * (1 - s) * theta[..., :, None] * x_adv[..., None, :] - Y * s * np.eye(theta.shape[-1])
    return implicit_jacobian(_linear_border(theta), mixed)
