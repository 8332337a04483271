"""The theory's problems: logistic regression under attack, EntropySGD's loss, and a loss concave in x'."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import dblquad, quad
from scipy.optimize import minimize
from scipy.special import erfc, expit

from rb_smooth.analysis.theory import entropy, linear
from rb_smooth.analysis.theory.entropy import EntropyLoss, covering_rule, smoothed_absolute_value
from rb_smooth.analysis.theory.implicit import ConcaveLoss
from rb_smooth.analysis.theory.numeric import derivative_error, random_pairs
from rb_smooth.analysis.theory.smoothing_statements import diagonal_newton_step

X, Y, EPS = np.array([1.0, 2.0]), 1, 0.6
DIRECTION = np.array([np.cos(0.7), np.sin(0.7)])
NORMS = pytest.mark.parametrize("norm", linear.NORMS)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# Logistic regression


@NORMS
@pytest.mark.parametrize("y", [-1, 1])
def test_the_attack_is_the_maximum_over_the_ball_and_has_the_closed_forms_loss(norm, y, rng):
    theta, x = rng.standard_normal((2, 5))
    delta = rng.uniform(-1, 1, (20_000, 5))
    delta *= EPS / (np.linalg.norm(delta, axis=1, keepdims=True) if norm == "L2" else abs(delta).max(1, keepdims=True))
    worst = linear.logistic_adversarial_loss(theta, x, y, EPS, norm)
    as_printed = np.log(1 + np.exp(-y * theta @ linear.closed_form_attack(theta, x, y, EPS, norm)))
    assert worst == pytest.approx(as_printed, abs=1e-13)
    assert (linear.logistic_loss(theta, x + delta, y) <= worst).all()
    assert np.linalg.norm(
        linear.closed_form_attack(theta, x, y, EPS, norm) - x, 2 if norm == "L2" else np.inf
    ) == pytest.approx(EPS)


@NORMS
def test_the_searched_attack_is_no_worse_than_a_grid_of_the_ball(norm, rng):
    theta, grid = rng.standard_normal((20, 2)), np.stack(np.meshgrid(*[np.linspace(-EPS, EPS, 201)] * 2), -1)
    points = X + grid.reshape(-1, 2)[np.linalg.norm(grid.reshape(-1, 2), 2 if norm == "L2" else np.inf, 1) <= EPS]
    found = linear.logistic_loss(theta, linear.searched_attack(theta, X, Y, EPS, norm), Y)
    everywhere = linear.logistic_loss(theta[:, None], points, Y).max(1)
    assert (found >= everywhere).all()
    np.testing.assert_allclose(found, everywhere, atol=2e-2)


def test_the_l2_attack_satisfies_the_kkt_conditions(rng):
    theta, x = rng.standard_normal((2, 4))
    delta = linear.closed_form_attack(theta, x, -1, EPS, "L2") - x
    slope = theta / (1 + np.exp(-theta @ (x + delta)))  # of log(1 + exp(-y theta . (x + delta))) by delta, y = -1
    multiplier = slope @ delta / (2 * EPS**2)
    assert multiplier > 0
    np.testing.assert_allclose(slope - 2 * multiplier * delta, 0, atol=1e-14)


@NORMS
@pytest.mark.parametrize("y", [-1, 1])
def test_gradients_and_hessians_equal_central_differences(norm, y, rng):
    theta, x = rng.standard_normal((50, 3)), rng.standard_normal(3)
    theta = np.copysign(np.maximum(abs(theta), 0.1), theta)

    def of(function):
        return lambda theta: function(theta, x, y, EPS, norm)

    assert derivative_error(of(linear.logistic_adversarial_loss), of(linear.gradient), theta) < 1e-8
    assert derivative_error(of(linear.gradient), of(linear.hessian), theta) < 1e-8
    jacobian = (lambda t: linear.attack_jacobian(t, y, EPS)) if norm == "L2" else (lambda t: np.zeros((50, 3, 3)))
    assert derivative_error(of(linear.closed_form_attack), jacobian, theta) < 1e-8


def test_the_hessian_grows_towards_0_as_computed_by_hand():
    for length, expected in ((1, 0.48198), (0.1, 3.01845), (0.01, 29.98153)):
        largest = np.linalg.eigvalsh(linear.hessian(length * DIRECTION, X, Y, EPS, "L2"))[-1]
        assert largest == pytest.approx(expected, abs=1e-5)


def test_the_gradient_jumps_at_a_sign_change_as_computed_by_hand():
    above, below = (linear.gradient([1, side], X, Y, EPS, "Linf") for side in (1e-13, -1e-13))
    np.testing.assert_allclose(above - below, [0, 0.48157481], atol=1e-8)


def test_constants_bound_random_samples_and_are_tighter_than_with_sigma_1(rng):
    for norm, radius in (("L2", 1.0), ("Linf", 0.3)):
        C = linear.constants(X, EPS, norm, radius)
        theta = radius * rng.uniform(0.5, 1, (5000, 1)) * random_pairs(rng, 5000, 2, 1, 1)[0]
        x_adv = linear.closed_form_attack(random_pairs(rng, 5000, 2, 1, 1)[0], X, Y, EPS, norm)
        s = expit(-(theta * x_adv).sum(1))[:, None, None]
        mixed = s * (1 - s) * x_adv[:, :, None] * theta[:, None, :] - s * np.eye(2)
        own = s * (1 - s) * x_adv[:, :, None] * x_adv[:, None, :]
        assert np.linalg.norm(s[:, 0] * x_adv, axis=1).max() <= C.C_theta
        assert np.linalg.norm(own, 2, (1, 2)).max() <= C.C_theta_theta
        assert np.linalg.norm(mixed, 2, (1, 2)).max() <= C.C_theta_x
    for length, expected in ((1, 3.04), (0.1, 8.44), (0.01, 62.4)):  # with sigma <= 1
        C = linear.constants(X, EPS, "L2", length)
        assert 0.5 * expected < C.C_theta_theta + EPS / length * C.C_theta_x < expected


@pytest.mark.parametrize(("theta", "norm"), [([0, 0], "L2"), ([[1, 2], [0.5, 0]], "Linf")])
def test_points_without_a_derivative_are_rejected(theta, norm):
    for function in (linear.gradient, linear.hessian):
        with pytest.raises(ValueError, match=f"the {norm} loss is not differentiable at"):
            function(theta, X, Y, EPS, norm)
    with pytest.raises(ValueError, match="not differentiable"):
        linear.attack_jacobian([0, 0], Y, EPS)


def test_without_an_attack_the_loss_is_differentiable_everywhere():
    np.testing.assert_allclose(linear.hessian([0, 0], X, Y, 0, "L2"), np.outer(X, X) / 4)
    np.testing.assert_allclose(linear.gradient([0, 0], X, Y, 0, "Linf"), -X / 2)


# EntropySGD's loss


def smoothed_as_printed(loss, theta, gamma, kinks=(0.0,)):
    """Eq. (10) of one parameter."""
    integrand = lambda t: np.exp(-loss(t) - gamma / 2 * (theta - t) ** 2)  # noqa: E731
    return -np.log(quad(integrand, theta - 12 / gamma**0.5, theta + 12 / gamma**0.5, points=kinks, epsabs=1e-13)[0])


@pytest.mark.parametrize("gamma", [0.2, 1.0, 5.0])
def test_the_smoothed_loss_of_one_parameter_equals_its_integral(gamma):
    loss = lambda t: np.abs(t) + np.sin(t) ** 2  # noqa: E731
    ours = EntropyLoss(lambda t: loss(t[:, 0]), gamma, covering_rule(2, gamma, 1))
    for theta in (-1.7, 0.0, 0.4, 2.0):
        assert ours.value([theta]) == pytest.approx(smoothed_as_printed(loss, theta, gamma), abs=1e-10)


def test_the_smoothed_loss_of_two_parameters_and_its_moments_equal_their_integrals():
    theta, gamma = np.array([0.3, -0.2]), 2.0
    loss = lambda t: linear.logistic_adversarial_loss(t, X, Y, EPS, "Linf")  # noqa: E731
    density = lambda b, a: np.exp(-loss(np.array([a, b])) - gamma / 2 * ((theta - [a, b]) ** 2).sum())  # noqa: E731

    def integral(f):
        halves = [(-5, 0), (0, 5)]
        return sum(
            dblquad(lambda b, a: f(a, b) * density(b, a), *one, *other, epsabs=1e-8)[0]
            for one in halves
            for other in halves
        )

    mass = integral(lambda a, b: 1.0)
    mean = integral(lambda a, b: a) / mass, integral(lambda a, b: b) / mass
    ours = EntropyLoss(loss, gamma, covering_rule(1, gamma, 2)).moments(theta)
    assert ours.log_mass == pytest.approx(np.log(mass), abs=1e-7)
    np.testing.assert_allclose(ours.mean, mean, atol=1e-6)
    assert ours.covariance[0, 1] == pytest.approx(integral(lambda a, b: a * b) / mass - mean[0] * mean[1], abs=1e-6)


@pytest.mark.parametrize(("gamma", "curvature"), [(0.5, 0.319484), (1.0, 0.525135), (10.0, 2.192316)])
def test_the_smoothed_absolute_value_equals_the_papers_formula_and_the_quadrature(gamma, curvature):
    def as_printed(t):
        scale, shift = np.sqrt(gamma / 2), 1 / (2 * gamma)
        sides = (np.exp(sign * t + shift) * erfc((1 / gamma + sign * t) * scale) for sign in (-1, 1))
        return -np.log(np.sqrt(np.pi / (2 * gamma)) * sum(sides))

    theta = np.linspace(-3, 3, 41)
    value, slope, curved = smoothed_absolute_value(theta, gamma)
    np.testing.assert_allclose(value, as_printed(theta), atol=1e-12)
    ours = EntropyLoss(lambda t: np.abs(t[:, 0]), gamma, covering_rule(3, gamma, 1))
    np.testing.assert_allclose(ours.value(theta[:, None]), value, atol=1e-13)
    np.testing.assert_allclose(ours.gradient(theta[:, None])[:, 0], slope, atol=1e-12)
    np.testing.assert_allclose(ours.hessian(theta[:, None])[:, 0, 0], curved, atol=1e-11)
    assert smoothed_absolute_value(0.0, gamma).curvature == pytest.approx(curvature, abs=1e-6)


def test_far_from_the_kink_the_smoothed_absolute_value_is_a_line():
    value, slope, curved = smoothed_absolute_value(np.array([-1e4, 1e4]), 1.0)
    np.testing.assert_allclose(np.diff(value), 0)
    np.testing.assert_allclose(slope, [-1, 1])
    np.testing.assert_allclose(curved, 0)


def test_moments_and_second_order_step_of_a_quadratic_equal_the_closed_form():
    a, gamma, theta = 3.0, 0.5, np.array([[1.5], [-0.2]])
    smoothed = EntropyLoss(lambda t: a / 2 * t[:, 0] ** 2, gamma, covering_rule(2, gamma, 1))
    moments = smoothed.moments(theta)
    np.testing.assert_allclose(moments.mean, gamma * theta / (a + gamma), atol=1e-12)
    np.testing.assert_allclose(moments.covariance, 1 / (a + gamma), atol=1e-12)
    np.testing.assert_allclose(smoothed.hessian(theta), gamma * a / (a + gamma), atol=1e-12)
    np.testing.assert_allclose(diagonal_newton_step(theta, moments, gamma), 0, atol=1e-12)
    np.testing.assert_allclose(diagonal_newton_step(theta, moments, gamma, eta=0.5), theta / 2, atol=1e-12)


def test_parameters_of_any_shape_are_computed_in_chunks(monkeypatch):
    smoothed = EntropyLoss(lambda t: np.abs(t).sum(1), 1.0, covering_rule(1, 1.0, 2))
    theta = np.linspace(-1, 1, 24).reshape(3, 4, 2)
    whole = smoothed.moments(theta)
    monkeypatch.setattr(entropy, "_CHUNK_SIZE", 3 * len(smoothed.rule.weights))
    assert smoothed.value(theta).shape == (3, 4)
    assert smoothed.gradient(theta).shape == (3, 4, 2)
    assert smoothed.hessian(theta).shape == (3, 4, 2, 2)
    for all_at_once, in_pieces in zip(whole, smoothed.moments(theta)):
        np.testing.assert_allclose(in_pieces, all_at_once, atol=1e-14)
    assert smoothed.value(theta[1, 2]) == pytest.approx(whole.log_mass[1, 2] * -1)


# The concave loss


def random_concave_loss(rng, length, eps=1.0):
    Q = rng.standard_normal((3, 3))
    return ConcaveLoss(
        length * random_pairs(rng, 1, 3, 1, 1)[0][0], rng.standard_normal((3, 2)), Q @ Q.T / 3 + np.eye(3), 0.5, eps
    )


@pytest.mark.parametrize("length", [0.0, 3.0, 12.0])
def test_pgd_finds_the_maximum_that_a_solver_finds(length, rng):
    loss, theta = random_concave_loss(rng, length), rng.standard_normal(2)
    solved = minimize(
        lambda x: -loss.value(x, theta),
        np.zeros(3),
        jac=lambda x: -loss.input_gradient(x, theta),
        constraints={"type": "ineq", "fun": lambda x: loss.eps**2 - x @ x, "jac": lambda x: -2 * x},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose(loss.attack(theta), solved.x, atol=1e-6)
    assert loss.value(loss.attack(theta), theta) >= -solved.fun - 1e-12


def test_derivatives_of_the_concave_loss_equal_central_differences(rng):
    loss, theta, x_adv = random_concave_loss(rng, 3.0), rng.standard_normal((40, 2)), rng.standard_normal((40, 3))
    assert derivative_error(lambda x: loss.value(x, theta), lambda x: loss.input_gradient(x, theta), x_adv) < 1e-9
    assert derivative_error(lambda x: loss.input_gradient(x, theta), loss.input_hessian, x_adv) < 1e-9
    assert derivative_error(lambda t: loss.input_gradient(x_adv, t), loss.mixed_derivative, theta) < 1e-9
    assert derivative_error(lambda t: loss.value(loss.attack(t), t), loss.gradient, theta) < 1e-8  # Danskin's theorem


def test_attack_and_derivative_inside_the_ball_equal_the_closed_form_of_a_quadratic(rng):
    loss, theta = random_concave_loss(rng, 0.1, eps=3.0), rng.standard_normal((5, 2))
    loss = ConcaveLoss(loss.c, loss.A, loss.Q, 0.0, loss.eps)
    of_Q = np.linalg.inv(loss.Q)
    np.testing.assert_allclose(loss.attack(theta), (loss.c + np.sin(theta @ loss.A.T)) @ of_Q, atol=1e-12)
    np.testing.assert_allclose(loss.jacobian_inside(theta), of_Q @ loss.mixed_derivative(theta), atol=1e-12)


def test_on_the_surface_the_bordered_hessian_is_that_of_the_printed_lagrangian(rng):
    loss, theta = random_concave_loss(rng, 12.0), rng.standard_normal(2)
    x_adv = loss.attack(theta)
    nu = np.linalg.norm(loss.input_gradient(x_adv, theta)) / loss.eps

    def lagrangian_slope(both):  # of l - nu (||x||^2 - eps^2) / 2, by (nu, x)
        return np.concatenate(
            [[-(both[1:] @ both[1:] - loss.eps**2) / 2], loss.input_gradient(both[1:], theta) - both[0] * both[1:]]
        )

    at = np.concatenate([[nu], x_adv])
    np.testing.assert_allclose(lagrangian_slope(at), 0, atol=1e-12)
    error = derivative_error(
        lambda both: np.array([lagrangian_slope(each) for each in both]),
        lambda _: loss.bordered_hessian(theta),
        at[None],
    )
    assert error < 1e-8
