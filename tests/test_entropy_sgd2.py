"""EntropySGD2: Newton's step on the smoothed loss; EntropySGD without variance; clamped weights are counted."""

from __future__ import annotations

import pytest
import torch
from reference_entropy_sgd import descend, entropy_sgd_reference, nonlinear

from rb_smooth.components.optimizers.entropy_sgd import EntropySGD
from rb_smooth.components.optimizers.entropy_sgd2 import EntropySGD2, update_moments

F64 = torch.float64


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
def test_counter_form_equals_the_two_loops_in_every_param_group(momentum, nesterov):
    settings = dict(momentum=momentum, nesterov=nesterov, weight_decay=0.05, gamma=0.3, beta=0.75)
    groups = [
        dict(shape=(2, 3), lr=0.7, inner_lr=0.2, inner_steps=4),
        dict(shape=(5,), lr=0.2, inner_lr=0.05, inner_steps=6),
    ]
    params = [3 * torch.randn(g["shape"], dtype=F64) for g in groups]
    params = [p.requires_grad_() for p in params]
    starts = [p.detach().clone() for p in params]
    own = [{"params": [p], **{k: v for k, v in g.items() if k != "shape"}} for p, g in zip(params, groups)]
    optimizer = EntropySGD2(own, noise=0.0, **settings)
    descend(optimizer, params, nonlinear, 18)
    for start, deployed, g, outer in zip(starts, optimizer.deployed(), groups, (4, 3)):
        keys = {k: g[k] for k in ("lr", "inner_lr", "inner_steps")}
        *_, expected = entropy_sgd_reference(start, nonlinear, outer=outer, curvature_floor=0.1, **keys, **settings)
        *_, first_order = entropy_sgd_reference(start, nonlinear, outer=outer, **keys, **settings)
        torch.testing.assert_close(deployed, expected, rtol=0, atol=1e-10)
        assert (expected - first_order).abs().max() > 1e-4


def test_on_a_quadratic_one_outer_step_with_exact_moments_lands_on_the_minimum():
    """L = a w^2 / 2: E[w'] = gamma w / (a + gamma) and var = 1 / (a + gamma), at temperature 1."""
    a, gamma = torch.tensor([0.5, 2.0, 30.0], dtype=F64), 0.7
    p = torch.tensor([1.0, -3.0, 0.2], dtype=F64, requires_grad=True)
    optimizer = EntropySGD2([p], lr=1.0, momentum=0.0, weight_decay=0.0, gamma=gamma, inner_steps=2, noise=0.0)
    descend(optimizer, [p], lambda point, _: a * point, 1)
    state, w = optimizer.state[p], optimizer.deployed()[0].clone()
    optimizer.param_groups[0]["beta"] = 1.0  # the last minibatch adds nothing to the moments given here
    state["mu"].copy_(gamma * w / (a + gamma))
    state["var"].copy_(1 / (a + gamma))
    optimizer.param_groups[0]["curvature_floor"] = 1e-9
    descend(optimizer, [p], lambda point, _: a * point, 1)
    torch.testing.assert_close(optimizer.deployed()[0], torch.zeros(3, dtype=F64), rtol=0, atol=1e-12)


def test_where_the_chain_samples_at_temperature_one_the_outer_step_lands_near_the_minimum():
    """With estimated moments, of 4,000 chains of one weight."""
    a, gamma, eta, n = 2.0, 1.0, 0.05, 4000
    p = torch.ones(n, dtype=F64, requires_grad=True)
    settings = dict(lr=1.0, momentum=0.0, weight_decay=0.0, inner_lr=eta, gamma=gamma, noise=1.0, beta=0.999)
    optimizer = EntropySGD2([p], inner_steps=8000, curvature_floor=1e-3, **settings)
    descend(optimizer, [p], lambda point, _: a * point, 7999)
    state = optimizer.state[p]
    torch.testing.assert_close(state["mu"].mean().item(), gamma / (a + gamma), rtol=0.03, atol=0)
    torch.testing.assert_close(state["var"].mean().item(), 1 / (a + gamma), rtol=0.12, atol=0)  # eta's bias included
    descend(optimizer, [p], lambda point, _: a * point, 1)
    assert abs(optimizer.deployed()[0].mean()) < 0.1  # from 1; EntropySGD's own step ends at gamma / (a + gamma)


def test_the_variance_is_the_weighted_variance_of_the_chain():
    """Of the start, with weight beta^n, and each point after it: sum of weights * (point - mean)^2."""
    points, beta = torch.randn(9, 4, dtype=F64), 0.75
    mu, var = [points[0].clone()], [torch.zeros(4, dtype=F64)]
    for n in range(1, 9):
        update_moments(mu, var, [points[n]], beta)
    weights = torch.tensor([beta**8, *((1 - beta) * beta ** (8 - n) for n in range(1, 9))], dtype=F64)[:, None]
    mean = (weights * points).sum(0)
    torch.testing.assert_close(mu[0], mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(var[0], (weights * (points - mean) ** 2).sum(0), rtol=0, atol=1e-12)


def test_the_variance_does_not_cancel_in_float32():
    """Points 1e-5 apart around 0.05: E[w^2] - E[w]^2 keeps no digit of a variance of 1e-10."""
    points = (0.05 + 1e-5 * torch.randn(40, 1000)).float()
    mu, var, second = [points[0].clone()], [torch.zeros(1000)], points[0] ** 2
    for point in points[1:]:
        update_moments(mu, var, [point], 0.75)
        second = 0.75 * second + 0.25 * point**2
    exact_mu, exact = [points[0].double()], [torch.zeros(1000, dtype=F64)]
    for point in points[1:]:
        update_moments(exact_mu, exact, [point.double()], 0.75)
    torch.testing.assert_close(var[0].double(), exact[0], rtol=5e-3, atol=0)
    cancelled = (second - mu[0] ** 2).double()
    assert ((cancelled - exact[0]).abs() > 0.5 * exact[0]).float().mean() > 0.5


def run_both(gamma, beta, **floor):
    results = []
    for kind, more in ((EntropySGD, {}), (EntropySGD2, floor)):
        p = torch.linspace(-2, 2, 6, dtype=F64).requires_grad_()
        optimizer = kind([p], lr=0.5, gamma=gamma, beta=beta, inner_steps=3, noise=0.0, **more)
        descend(optimizer, [p], nonlinear, 12)
        results.append((optimizer.deployed()[0].clone(), optimizer))
    return results


def test_without_variance_it_is_entropy_sgd():
    (first, _), (second, _) = run_both(gamma=0.3, beta=0.0)  # mu is the last point: no spread around it
    assert torch.equal(first, second)
    (first, _), (second, _) = run_both(gamma=0.0, beta=0.75)  # no curvature is subtracted
    assert torch.equal(first, second)
    (first, _), (second, _) = run_both(gamma=0.3, beta=0.75)
    assert not torch.equal(first, second)


def test_clamped_weights_are_counted_between_reports():
    p = torch.tensor([0.0, 0.0, 8.0, 8.0], dtype=F64, requires_grad=True)
    optimizer = EntropySGD2([p], lr=0.5, gamma=5.0, inner_steps=2, noise=0.0, momentum=0.0, weight_decay=0.0)
    descend(optimizer, [p], lambda point, _: point, 2)  # the zeros do not move: no variance, no clamp
    assert optimizer.report() == {"clamped": 0.5}
    assert optimizer.report() == {"clamped": 0.0}
    chain, mu, var = torch.tensor(8.0, dtype=F64), 8.0, 0.0
    for _ in range(2):
        chain = chain - 0.1 * (chain + 5.0 * (chain - 8.0))
        var = 0.75 * (var + 0.25 * (chain - mu) ** 2)
        mu = 0.75 * mu + 0.25 * chain
    assert 1 - 5.0 * var < 0.1
    torch.testing.assert_close(optimizer.deployed()[0][2], 8.0 - 0.5 * (8.0 - mu) / 0.1)


def test_the_count_of_clamped_weights_is_saved():
    p = torch.full((3,), 8.0, requires_grad=True)
    settings = dict(gamma=5.0, inner_steps=2, noise=0.0)
    optimizer = EntropySGD2([p], **settings)
    descend(optimizer, [p], lambda point, _: point, 4)
    other = EntropySGD2([p.detach().clone().requires_grad_()], **settings)
    other.load_state_dict(optimizer.state_dict())
    assert other.report() == optimizer.report() != {"clamped": 0.0}


def test_the_state_is_that_of_entropy_sgd_and_the_variance():
    p = torch.ones(7, requires_grad=True)
    optimizer = EntropySGD2([p])
    descend(optimizer, [p], nonlinear, 1)
    tensors = {key for key, value in optimizer.state[p].items() if torch.is_tensor(value)}
    assert tensors == {"w", "mu", "m", "M", "var"}


@pytest.mark.parametrize("wrong", [dict(curvature_floor=0.0), dict(curvature_floor=1.5), dict(inner_steps=0)])
def test_an_option_out_of_range_raises_an_error_that_names_it(wrong):
    with pytest.raises(ValueError, match=rf"expected (0 <=? )?{next(iter(wrong))} "):
        EntropySGD2([torch.zeros(1, requires_grad=True)], **wrong)
