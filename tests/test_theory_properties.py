"""Property-based search for counterexamples: 1,000 cases of each closed form, 50 of each integral."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import expit

from rb_smooth.analysis.theory import linear
from rb_smooth.analysis.theory.entropy import EntropyLoss, covering_rule, smoothed_absolute_value
from rb_smooth.analysis.theory.implicit import ConcaveLoss, build_bordered_hessian
from rb_smooth.analysis.theory.numeric import derivative_error
from rb_smooth.analysis.theory.smoothing_statements import diagonal_newton_step, newton_step

pytestmark = pytest.mark.slow

REPEATABLY = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}
closed_form = settings(max_examples=1000, **REPEATABLY)
integral = settings(max_examples=50, **REPEATABLY)

NUMBERS = st.integers(0, 2**32 - 1).map(np.random.default_rng)
"""A NumPy generator: drawing each number by hypothesis would dominate the running time."""
RADII = st.floats(0.01, 2)
GAMMAS = st.floats(0.2, 10)


def size(vector):
    return float(np.linalg.norm(vector))


def at_most(left, right, scale=1.0):
    """left <= right up to rounding of numbers of size `scale`."""
    return left <= right * (1 + 1e-9) + 1e-13 * scale


class Case(NamedTuple):
    """Two parameters, data points with labels, and a ball. The loss is the mean over the points."""

    theta1: np.ndarray
    theta2: np.ndarray
    x: np.ndarray
    y: np.ndarray
    eps: float
    norm: str

    @property
    def distance(self):
        return size(self.theta1 - self.theta2)

    @property
    def smallest_norm(self):
        return min(size(self.theta1), size(self.theta2))

    def change(self, function):
        """||f(theta1) - f(theta2)|| of the mean over the points."""
        one, other = (function(theta, *self[2:]).mean(0) for theta in self[:2])
        return size(one - other)

    def constants(self):
        return linear.constants(self.x, self.eps, self.norm, max(size(self.theta1), size(self.theta2)))


SECOND = {
    "any": lambda theta, rng: rng.standard_normal(len(theta)),
    "close": lambda theta, rng: theta + 10 ** rng.uniform(-6, -1) * rng.standard_normal(len(theta)),
    "opposite": lambda theta, rng: -theta * rng.uniform(0.5, 2),
    "a sign": lambda theta, rng: theta * np.where(np.arange(len(theta)) == 0, -1, 1),
    "along": lambda theta, rng: theta * rng.uniform(0.5, 2),
}
"""How the second parameter is made of the first."""


@st.composite
def cases(draw, norm=None):
    rng, second, exponent = draw(NUMBERS), draw(st.sampled_from(sorted(SECOND))), draw(st.floats(-4, 1))
    d, n = rng.integers(1, 6), rng.integers(1, 4)
    theta, x = rng.standard_normal(d), 2 * rng.standard_normal((n, d))
    scale = 10**exponent
    y = rng.choice([-1, 1], n)
    norm = norm or draw(st.sampled_from(linear.NORMS))
    return Case(scale * theta, scale * SECOND[second](theta, rng), x, y, draw(RADII), norm)


@closed_form
@given(cases(), NUMBERS)
def test_the_attack_is_the_worst_of_the_ball(case, rng):
    theta, _, x, y, eps, norm = case
    delta = rng.standard_normal((20, 1, x.shape[1]))
    longest = np.linalg.norm(delta, axis=-1, keepdims=True) if norm == "L2" else abs(delta).max(-1, keepdims=True)
    others = linear.logistic_loss(theta, x + eps * rng.uniform(0, 1, (20, 1, 1)) * delta / longest, y)
    worst = linear.logistic_adversarial_loss(theta, x, y, eps, norm)
    assert (others <= worst * (1 + 1e-12) + 1e-14).all()
    attacked = linear.logistic_loss(theta, linear.closed_form_attack(theta, x, y, eps, norm), y)
    np.testing.assert_allclose(attacked, worst, rtol=1e-10, atol=1e-14)


@closed_form
@given(cases())
def test_proposition_1(case):
    C = case.constants()
    assert at_most(case.change(linear.logistic_adversarial_loss), C.C_theta * case.distance, scale=10)
    diameter = 2 * case.eps * (1 if case.norm == "L2" else case.x.shape[1] ** 0.5)
    assert at_most(case.change(linear.gradient), C.C_theta_theta * case.distance + diameter * C.C_theta_x)


@closed_form
@given(cases("L2"))
def test_lemma_2_and_theorem_1(case):
    theta, _, x, y, eps, _ = case
    moved = np.linalg.norm(
        np.subtract(*(linear.closed_form_attack(each, x, y, eps, "L2") for each in case[:2])), axis=1
    )
    assert at_most(moved.max(), eps / case.smallest_norm * case.distance, scale=10)
    C = case.constants()
    smooth = C.C_theta_theta + eps / case.smallest_norm * C.C_theta_x
    assert at_most(case.change(linear.gradient), smooth * case.distance, scale=10)
    spectrum = np.sort(np.abs(np.linalg.eigvalsh(linear.attack_jacobian(theta, y[0], eps))))
    steepest = eps / size(theta)
    np.testing.assert_allclose(spectrum, [0.0] + [steepest] * (len(theta) - 1), atol=1e-9 * steepest)


@closed_form
@given(cases("Linf"))
def test_lemma_3_and_theorem_2(case):
    theta1, theta2, x, y, eps, _ = case
    moved = np.linalg.norm(
        np.subtract(*(linear.closed_form_attack(each, x, y, eps, "Linf") for each in case[:2])), axis=1
    )
    differ = (np.sign(theta1) != np.sign(theta2)).sum()
    np.testing.assert_allclose(moved, 2 * eps * differ**0.5, atol=1e-12)
    same = case._replace(theta2=np.copysign(theta2, theta1))
    assert at_most(same.change(linear.gradient), same.constants().C_theta_theta * same.distance, scale=10)
    first = np.arange(len(theta1)) == 0  # where its sign changes, the gradient jumps
    above, below = (linear.gradient(np.where(first, side, theta1), x, y, eps, "Linf") for side in (1e-15, -1e-15))
    z = -y * (x[:, 1:] @ theta1[1:]) + eps * np.abs(theta1[1:]).sum()
    np.testing.assert_allclose(above - below, 2 * eps * expit(z)[:, None] * first, atol=1e-12)


@st.composite
def concave_losses(draw, on_surface=False):
    """A loss and two parameters."""
    rng, apart, eps = draw(NUMBERS), 10 ** draw(st.floats(-5, 1)), draw(st.floats(0.1, 2))
    d, k = rng.integers(1, 4, 2)
    R, A, c = rng.uniform(-0.5, 0.5, (d, d)), rng.standard_normal((d, k)), rng.uniform(-4, 4, d)
    Q, kappa = R @ R.T + np.eye(d), rng.uniform(0, 0.5)
    if on_surface:  # b is so long that the loss still rises there
        c *= (d**0.5 + eps * (np.linalg.eigvalsh(Q)[-1] + kappa) + rng.uniform(0.1, 5)) / size(c)
    theta = rng.uniform(-3, 3, k)
    return ConcaveLoss(c, A, Q, kappa, eps), np.stack([theta, theta + apart * rng.standard_normal(k)])


@closed_form
@given(concave_losses())
def test_lemma_1_and_lemma_4(case):
    loss, thetas = case
    C, apart, attacks = loss.constants, size(thetas[0] - thetas[1]), loss.attack(thetas)
    assert at_most(size(attacks[0] - attacks[1]), C.C_theta_x / C.C_xx * apart)
    smooth = C.C_theta_theta + C.C_theta_x**2 / C.C_xx
    assert at_most(size(np.subtract(*loss.gradient(thetas))), smooth * apart, scale=10)
    assert np.abs(np.linalg.eigvalsh(loss.input_hessian(attacks))).min() >= C.C_xx * (1 - 1e-9)


@closed_form
@given(concave_losses(on_surface=True))
def test_lemma_5(case):
    loss, thetas = case
    C, attacks = loss.constants, loss.attack(thetas)
    np.testing.assert_allclose(np.linalg.norm(attacks, axis=1), loss.eps, rtol=1e-9)
    bordered = build_bordered_hessian(loss.input_hessian(attacks), attacks, loss.input_gradient(attacks, thetas))
    assert 0 < C.C_H <= np.linalg.svd(bordered, compute_uv=False).min() * (1 + 1e-9)
    assert at_most(size(attacks[0] - attacks[1]), C.C_theta_x / C.C_H * size(thetas[0] - thetas[1]))


@integral
@given(NUMBERS, GAMMAS)
def test_theorem_3_for_convex_losses_with_kinks(rng, gamma):
    d = rng.integers(1, 3)
    planes = rng.uniform(-2, 2, (rng.integers(1, 5), d + 1))
    thetas = rng.uniform(-2, 2, (2, d))
    loss = lambda t: np.maximum(t @ planes[:, :-1].T + planes[:, -1], 0).max(-1)  # noqa: E731
    smoothed = EntropyLoss(loss, gamma, covering_rule(2.1, gamma, d, order=6))
    eigenvalues = np.linalg.eigvalsh(smoothed.hessian(thetas))
    assert eigenvalues.max() <= gamma * (1 + 1e-9)
    assert eigenvalues.min() >= -1e-3 * gamma  # but for kinks within panels, 0
    assert derivative_error(smoothed.value, smoothed.gradient, thetas) < 1e-7
    assert derivative_error(smoothed.gradient, smoothed.hessian, thetas) < 1e-6
    changed = size(np.subtract(*smoothed.gradient(thetas)))
    assert at_most(changed, gamma * size(thetas[0] - thetas[1]))


@integral
@given(NUMBERS, st.floats(0, 3), GAMMAS)
def test_theorem_3_for_bounded_losses_with_jumps(rng, height, gamma):
    waves, thetas = rng.uniform(-3, 3, (3, 3)), rng.uniform(-2, 2, (2, 2))
    loss = lambda t: height * (np.sin(t @ waves[:, :2].T + waves[:, 2]) > 0).mean(-1)  # noqa: E731
    smoothed = EntropyLoss(loss, gamma, covering_rule(2.1, gamma, 2, order=6))
    eigenvalues = np.linalg.eigvalsh(smoothed.hessian(thetas))
    assert eigenvalues.max() <= gamma * (1 + 1e-9)
    assert eigenvalues.min() >= -gamma * np.expm1(height) - 1e-6
    assert derivative_error(smoothed.gradient, smoothed.hessian, thetas) < 1e-6
    changed = size(np.subtract(*smoothed.gradient(thetas)))
    assert at_most(changed, gamma * max(1.0, np.expm1(height)) * size(thetas[0] - thetas[1]))


@integral
@given(st.floats(-3, 3), GAMMAS)
def test_theorem_3_for_the_absolute_value(theta, gamma):
    by_quadrature = EntropyLoss(lambda t: np.abs(t[:, 0]), gamma, covering_rule(3, gamma, 1)).hessian([theta])
    assert abs(by_quadrature[0, 0] - smoothed_absolute_value(theta, gamma).curvature) < 1e-10 * (1 + gamma**2)


@integral
@given(NUMBERS, st.floats(0, np.pi), GAMMAS)
def test_equation_77_lands_on_the_minimum_of_a_quadratic(rng, angle, gamma):
    along, theta = np.diag(rng.uniform(0.05, 4, 2)), rng.uniform(-2, 2, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    rule = covering_rule(2, gamma, 2, order=8)
    for A, step in ((along, diagonal_newton_step), (turn @ along @ turn.T, newton_step)):
        smoothed = EntropyLoss(lambda t, A=A: ((t @ A) * t).sum(-1) / 2, gamma, rule)
        assert size(step(theta, smoothed.moments(theta), gamma)) < 1e-6
