"""Checks of Proposition 1, Eq. (13), Lemmas 2 and 3, Theorems 1 and 2 on logistic regression, in closed form.

The problem is one point x = (1, 2) with y = 1 and eps = 0.6, and parameters theta of norm up to 1.
Counterexamples approach a kink: theta and -theta in L2, and theta on both sides of theta_2 = 0 in L-infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import expit

from rb_smooth.analysis.theory import linear
from rb_smooth.analysis.theory.numeric import (
    NEAR,
    PAIRS,
    Array,
    central_differences,
    derivative_error,
    distances,
    largest_ratio,
    random_pairs,
    ratios,
    same_signs,
)
from rb_smooth.analysis.theory.results import BoundCheck

X, Y, EPS = np.array([1.0, 2.0]), 1, 0.6
RADIUS, THETA_MIN = 1.0, 0.1

_SMALL_STEP = 1e-4
"""Smallest norm of theta for claims about all theta other than 0."""


def proposition_1(rng: np.random.Generator) -> Iterator[BoundCheck]:
    """Eq. (8), and Eq. (9) in both norms; the L-infinity ball's diameter is 2 eps sqrt(d)."""
    C = linear.constants(X, EPS, "L2", RADIUS)
    theta1, theta2 = random_pairs(rng, PAIRS, 2, _SMALL_STEP, RADIUS)
    longer = np.array([1.5, 2.0, 4.0])
    seen = np.linalg.norm(_gradient("L2")(np.outer(longer, -X / np.linalg.norm(X))), axis=-1)
    yield BoundCheck(
        "Eq. (8)",
        "The adversarial loss changes with θ no faster than the loss of a fixed x′ does.",
        "|L_ε(θ₁) − L_ε(θ₂)| ≤ C_θ ‖θ₁ − θ₂‖",
        bound=C.C_theta,
        measured=largest_ratio(
            lambda theta: linear.logistic_adversarial_loss(theta, X, Y, EPS, "L2")[:, None], theta1, theta2
        ),
        constants={"C_θ": C.C_theta, "‖θ‖ ≤": RADIUS},
    ).broken_by(f"Beyond ‖θ‖ ≤ {RADIUS:g}, for which C_θ was computed, the slope is {{}} at ‖θ‖ = {{}}.", seen, longer)
    yield _constant_term(rng, "L2", 2 * EPS, "2ε")
    yield _constant_term(rng, "Linf", 2 * EPS * 2**0.5, "2ε√d")


def _constant_term(rng: np.random.Generator, norm: str, diameter: float, formula: str) -> BoundCheck:
    C = linear.constants(X, EPS, norm, RADIUS)
    theta1, theta2 = random_pairs(rng, PAIRS, 2, _SMALL_STEP, RADIUS)
    apart = distances(*map(_gradient(norm), (theta1, theta2)))
    return BoundCheck(
        f"Eq. (9), {norm.replace('inf', '∞')}",
        "Its gradients differ by C_θθ‖θ₁ − θ₂‖ at most, and a constant which stays as θ₂ goes to θ₁.",
        f"‖∇L_ε(θ₁) − ∇L_ε(θ₂)‖ − C_θθ ‖θ₁ − θ₂‖ ≤ {formula} C_θx",
        bound=diameter * C.C_theta_x,
        measured=float((apart - C.C_theta_theta * distances(theta1, theta2)).max()),
        constants={"C_θθ": C.C_theta_theta, "C_θx": C.C_theta_x, formula: diameter, "‖θ‖ ≤": RADIUS},
    ).broken_by(
        f"Without the constant no C_θθ would do: across {_KINKS[norm]} gradients differ by {{}} times ‖θ₁ − θ₂‖, "
        "at {} from it.",
        _kink_ratios(_gradient(norm), norm),
        bound=C.C_theta_theta,
    )


def equation_13(rng: np.random.Generator) -> Iterator[BoundCheck]:
    """Eq. (13), Eq. (75) in the appendix; its Lipschitz constant is Theorem 2's."""
    C = linear.constants(X, EPS, "Linf", RADIUS)
    theta, _ = random_pairs(rng, PAIRS, 2, _SMALL_STEP, RADIUS)
    theta = theta[np.abs(theta).min(-1) > _SMALL_STEP]  # so that no difference is taken across a kink
    yield BoundCheck(
        "the Hessian",
        "Where the gradient is C-Lipschitz, the Hessian's spectral norm is at most C; by differences of gradients.",
        "sup σ₁(∇²L_ε(θ)) ≤ C",
        bound=C.C_theta_theta,
        measured=float(np.linalg.norm(central_differences(_gradient("Linf"), theta), 2, (-2, -1)).max()),
        constants={"C = C_θθ": C.C_theta_theta, "‖θ‖ ≤": RADIUS},
    ).broken_by(
        "The converse needs a gradient at every θ: across θ₂ = 0 gradients differ by {} times ‖θ₁ − θ₂‖, at "
        "{} from it, though the Hessian on either side of it is as small.",
        _kink_ratios(_gradient("Linf"), "Linf"),
    )


def lemma_2(rng: np.random.Generator) -> Iterator[BoundCheck]:
    """The attack itself, Eq. (15), and Eq. (32) behind it, by an attack that is searched for."""
    theta1, theta2 = random_pairs(rng, PAIRS, 2, THETA_MIN, RADIUS)
    seen = _kink_ratios(_attack("L2"), "L2")
    spectra = np.linalg.eigvalsh(central_differences(_searched("L2"), theta1))
    expected = np.stack([-EPS / np.linalg.norm(theta1, axis=-1), np.zeros(len(theta1))], -1)
    by_formula = derivative_error(_searched("L2"), lambda theta: linear.attack_jacobian(theta, Y, EPS), theta1)
    yield BoundCheck(
        "the attack",
        "Of the L2 ball, the worst x′ for a linear model lies against θ; a search over the circle finds the same.",
        "x′(θ) = x − yε θ/‖θ‖",
        bound=1e-9,
        measured=float(distances(_attack("L2")(theta1), _searched("L2")(theta1)).max()),
    )
    yield BoundCheck(
        "Eq. (15)",
        "Against a linear model, the L2 attack is Lipschitz where θ is not too short.",
        "‖x′(θ₁) − x′(θ₂)‖ ≤ (ε/θ_min) ‖θ₁ − θ₂‖",
        bound=EPS / THETA_MIN,
        measured=largest_ratio(_attack("L2"), theta1, theta2),
        constants={"ε": EPS, "θ_min": THETA_MIN},
    ).broken_by("Without θ_min, from θ to −θ it moves {} times as far, at ‖θ‖ = {}.", seen)
    yield BoundCheck(
        "Eq. (32)",
        "Its derivative by θ has the eigenvalue 0 along θ, and −yε/‖θ‖ across it; differences of searched attacks "
        "agree.",
        "∂x′/∂θ = −yε (I/‖θ‖ − θθᵀ/‖θ‖³)",
        bound=1e-5,
        measured=max(by_formula, float(np.abs(spectra - expected).max())),
    )


def theorem_1(rng: np.random.Generator) -> Iterator[BoundCheck]:
    """Eq. (16), and the growth of the Hessian towards theta = 0."""
    C = linear.constants(X, EPS, "L2", RADIUS)
    theta1, theta2 = random_pairs(rng, PAIRS, 2, THETA_MIN, RADIUS)
    bound = C.C_theta_theta + EPS / THETA_MIN * C.C_theta_x
    towards_0 = np.outer(NEAR, [np.cos(0.7), np.sin(0.7)])
    curvatures = np.linalg.eigvalsh(linear.hessian(towards_0, X, Y, EPS, "L2"))[:, -1]
    yield BoundCheck(
        "Eq. (16)",
        "So a linear model's loss under an L2 attack is smooth where θ is not too short.",
        "‖∇L_ε(θ₁) − ∇L_ε(θ₂)‖ ≤ (C_θθ + (ε/θ_min) C_θx) ‖θ₁ − θ₂‖",
        bound=bound,
        measured=largest_ratio(_gradient("L2"), theta1, theta2),
        constants={"C_θθ": C.C_theta_theta, "C_θx": C.C_theta_x, "ε": EPS, "θ_min": THETA_MIN, "‖θ‖ ≤": RADIUS},
    ).broken_by("Without θ_min, the Hessian's largest eigenvalue is {} at ‖θ‖ = {}.", curvatures)
    yield BoundCheck(
        "towards 0",
        "Towards 0, its Hessian's largest eigenvalue grows as ε/(2‖θ‖).",
        "‖θ‖ ‖∇²L_ε(θ)‖₂ → ε/2 for θ → 0",
        bound=1e-5,
        measured=float(abs(NEAR[-1] * curvatures[-1] - EPS / 2)),
        constants={"‖θ‖": float(NEAR[-1])},
    )


def lemma_3(rng: np.random.Generator) -> Iterator[BoundCheck]:
    """Eq. (17), and the attack's jump if k of 5 signs differ; each attack is the worst of the cube's 32 corners."""
    theta1, theta2 = same_signs(*random_pairs(rng, PAIRS, 5, _SMALL_STEP, RADIUS))
    flipped = rng.random(theta2.shape) < 0.5
    x = np.arange(5.0)
    here, there, across = (
        linear.searched_attack(theta, x, Y, EPS, "Linf")
        for theta in (theta1, theta2, np.where(flipped, -theta2, theta2))
    )
    seen = _kink_ratios(_searched("Linf"), "Linf")
    yield BoundCheck(
        "the attack",
        "Of the L∞ ball, the worst x′ for a linear model is a corner; a search over the corners finds the same.",
        "x′(θ) = x − yε sign θ",
        bound=0.0,
        measured=float(distances(linear.closed_form_attack(theta1, x, Y, EPS, "Linf"), here).max()),
    )
    yield BoundCheck(
        "same signs",
        "Against a linear model, the L∞ attack stays the same while no coordinate of θ changes its sign.",
        "sign θ₁ = sign θ₂ ⇒ ‖x′(θ₁) − x′(θ₂)‖ = 0",
        bound=0.0,
        measured=float(distances(here, there).max()),
    ).broken_by("Where one sign changes it jumps, {} times as far as θ moves, at |θ₂| = {}.", seen)
    yield BoundCheck(
        "k signs differ",
        "It jumps by 2ε in each coordinate whose sign differs, however near the two parameters are.",
        "‖x′(θ₁) − x′(θ₂)‖ = 2ε√k",
        bound=1e-12,
        measured=float(np.abs(distances(here, across) - 2 * EPS * np.sqrt(flipped.sum(-1))).max()),
        constants={"ε": EPS, "d": 5},
    )


def theorem_2(rng: np.random.Generator) -> Iterator[BoundCheck]:
    """Eq. (18), and the gradient's jump at a sign change."""
    C = linear.constants(X, EPS, "Linf", RADIUS)
    theta1, theta2 = same_signs(*random_pairs(rng, PAIRS, 2, _SMALL_STEP, RADIUS))
    seen = _kink_ratios(_gradient("Linf"), "Linf")
    above, below = _gradient("Linf")(np.array([[1.0, 1e-14], [1.0, -1e-14]]))
    jump = 2 * EPS * expit(-Y * X[0] + EPS)
    yield BoundCheck(
        "Eq. (18)",
        "So under an L∞ attack the loss is as smooth as without one, while no coordinate of θ changes its sign.",
        "sign θ₁ = sign θ₂ ⇒ ‖∇L_ε(θ₁) − ∇L_ε(θ₂)‖ ≤ C_θθ ‖θ₁ − θ₂‖",
        bound=C.C_theta_theta,
        measured=largest_ratio(_gradient("Linf"), theta1, theta2),
        constants={"C_θθ": C.C_theta_theta},
    ).broken_by("Where one sign changes, gradients differ by {} times ‖θ₁ − θ₂‖, at |θ₂| = {}.", seen)
    yield BoundCheck(
        "at a sign change",
        "Where θ_i passes 0, the gradient jumps by exactly 2ε σ(z) in coordinate i, and in no other.",
        "∇L_ε(θ_i = 0₊) − ∇L_ε(θ_i = 0₋) = 2ε σ(z) e_i, z = −yθᵀx + ε‖θ‖₁",
        bound=1e-12,
        measured=float(np.abs(above - below - [0, jump]).max()),
        constants={"2ε σ(z)": float(jump)},
    )


_KINKS = {"L2": "θ = 0", "Linf": "θ₂ = 0"}


def _kink_ratios(f: Callable[[Array], Array], norm: str) -> Array:
    """Difference quotients of f across the norm's kink, at the distances NEAR."""
    side = np.outer(NEAR, [0.0, 1.0])
    on_kink = np.array([0.0, 0.0] if norm == "L2" else [RADIUS / 2, 0.0])
    return ratios(f, on_kink + side, on_kink - side)


def _attack(norm: str) -> Callable[[Array], Array]:
    return lambda theta: linear.closed_form_attack(theta, X, Y, EPS, norm)


def _searched(norm: str) -> Callable[[Array], Array]:
    return lambda theta: linear.searched_attack(theta, X, Y, EPS, norm)


def _gradient(norm: str) -> Callable[[Array], Array]:
    return lambda theta: linear.gradient(theta, X, Y, EPS, norm)
