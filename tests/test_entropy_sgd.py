"""EntropySGD: the counter form equals the paper's two loops, and the chain has the expected distribution."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from reference_entropy_sgd import descend, entropy_sgd_reference, nonlinear

from rb_smooth.components.optimizers import _langevin
from rb_smooth.components.optimizers.entropy_sgd import EntropySGD
from rb_smooth.components.optimizers.entropy_sgd2 import EntropySGD2
from rb_smooth.components.optimizers.sgd import SGD

F64 = torch.float64


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_counter_form_equals_the_two_loops_in_every_param_group(momentum, nesterov, weight_decay):
    settings = dict(momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, gamma=0.3, beta=0.75)
    groups = [
        dict(shape=(2, 3), lr=0.7, inner_lr=0.1, inner_steps=4),
        dict(shape=(5,), lr=0.2, inner_lr=0.05, inner_steps=6),
    ]
    params = [torch.randn(g["shape"], dtype=F64, requires_grad=True) for g in groups]
    starts = [p.detach().clone() for p in params]
    own = [{"params": [p], **{k: v for k, v in g.items() if k != "shape"}} for p, g in zip(params, groups)]
    optimizer = EntropySGD(own, noise=0.0, **settings)
    descend(optimizer, params, nonlinear, 18)  # four outer steps of the first group, and a half; three of the second
    for start, deployed, g, outer in zip(starts, optimizer.deployed(), groups, (4, 3)):
        keys = {k: g[k] for k in ("lr", "inner_lr", "inner_steps")}
        *_, expected = entropy_sgd_reference(start, nonlinear, outer=outer, **keys, **settings)
        torch.testing.assert_close(deployed, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", [EntropySGD, EntropySGD2])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(
    ("momentum", "outer_momentum", "outer_weight_decay"),
    [(0.9, 0.0, 0.0), (0.9, 0.5, 0.1), (0.0, 0.9, 0.0), (0.9, None, 0.1), (0.5, 0.9, None)],
)
def test_the_outer_loop_may_have_a_momentum_and_a_weight_decay_of_its_own(
    method, nesterov, momentum, outer_momentum, outer_weight_decay
):
    settings = dict(momentum=momentum, nesterov=nesterov, weight_decay=0.05, gamma=0.3, beta=0.75, inner_steps=4)
    settings |= dict(lr=0.7, inner_lr=0.1, outer_momentum=outer_momentum, outer_weight_decay=outer_weight_decay)
    p = torch.linspace(-3, 2, 6, dtype=F64, requires_grad=True)
    start, floor = p.detach().clone(), None if method is EntropySGD else 0.1
    optimizer = method([p], noise=0.0, **settings)
    descend(optimizer, [p], nonlinear, 20)
    *_, expected = entropy_sgd_reference(start, nonlinear, outer=5, curvature_floor=floor, **settings)
    torch.testing.assert_close(optimizer.deployed()[0], expected, rtol=0, atol=1e-10)
    assert ("m" in optimizer.state[p]) == (momentum > 0)
    assert ("M" in optimizer.state[p]) == ((momentum if outer_momentum is None else outer_momentum) > 0)


def test_without_outer_momentum_and_decay_lr_is_the_share_of_the_way_to_the_mean():
    """The outer step of the authors' Lua code: plain, with learning rates 1, 0.2 and 0.04."""
    p = torch.linspace(-3, 2, 6, dtype=F64, requires_grad=True)
    optimizer = EntropySGD([p], lr=1.0, outer_momentum=0.0, outer_weight_decay=0.0, inner_steps=4, noise=0.0)
    for lr in (1.0, 0.2, 0.04):
        optimizer.param_groups[0]["lr"] = lr
        w, mu, m = p.detach().clone(), p.detach().clone(), torch.zeros_like(p)
        chain = w.clone()
        for minibatch in range(4):
            d = nonlinear(chain, minibatch) + 5e-4 * chain
            m = 0.9 * m + d
            chain = chain - 0.1 * (d + 0.9 * m + 0.03 * (chain - w))
            mu = 0.75 * mu + 0.25 * chain
        descend(optimizer, [p], nonlinear, 4)
        torch.testing.assert_close(p.detach(), w - lr * (w - mu), rtol=0, atol=1e-10)


GOLDEN = {  # the authors' Python, executed: f = (x1^2 + 4 x2^2) / 2 from (1, -2), lr .1, wd 5e-4, gamma .03, L 3
    0.9: [(0.8668194119, -1.0853658888), (0.7264428566, -0.2437977727), (0.5836230214, 0.4775748772)],
    0.0: [(0.9882274371, -1.9256204802), (0.9765934675, -1.8540071168), (0.9650964595, -1.7850570373)],
}


@pytest.mark.parametrize("momentum", GOLDEN)
def test_it_equals_the_authors_code_if_the_outer_momentum_starts_at_the_raw_gradient(momentum):
    curvature = torch.tensor([1.0, 4.0], dtype=F64)
    p = torch.tensor([1.0, -2.0], dtype=F64, requires_grad=True)
    optimizer = EntropySGD([p], lr=0.1, momentum=momentum, weight_decay=5e-4, inner_steps=3, gamma=0.03, noise=0.0)
    first = curvature * p.detach()
    for outer, expected in enumerate(GOLDEN[momentum]):
        descend(optimizer, [p], lambda point, _: curvature * point, 1)
        if outer == 0 and momentum:
            optimizer.state[p]["M"].copy_(first)
        descend(optimizer, [p], lambda point, _: curvature * point, 2)
        torch.testing.assert_close(optimizer.deployed()[0], torch.tensor(expected, dtype=F64), rtol=0, atol=1e-9)


def test_without_nesterov_only_the_pull_in_the_momentum_differs_from_the_authors_code():
    """The authors' numbers follow from the two loops with the pull in the momentum; ours has no pull there (above)."""
    curvature, start = torch.tensor([1.0, 4.0], dtype=F64), torch.tensor([1.0, -2.0], dtype=F64)
    theirs = [(0.8904747878, -1.1544238814), (0.7745153875, -0.3209213395), (0.6550293499, 0.4493809763)]
    settings = dict(lr=0.1, momentum=0.9, nesterov=False, weight_decay=5e-4, inner_lr=0.1, inner_steps=3, gamma=0.03)
    for leaking in (True, False):
        steps = entropy_sgd_reference(
            start,
            lambda point, _: curvature * point,
            outer=3,
            beta=0.75,
            M=curvature * start,
            leaking=leaking,
            **settings,
        )
        largest = max((w - torch.tensor(v, dtype=F64)).abs().max() for w, v in zip(steps, theirs))
        assert (largest < 1e-9) == leaking


@pytest.mark.parametrize(("nesterov", "lookahead"), [(True, 1.9), (False, 1.0)])
def test_with_one_inner_step_it_is_sgd_with_another_lr_and_weight_decay(nesterov, lookahead):
    lr, decay, beta, inner_lr = 0.8, 0.01, 0.75, 0.1
    c = (1 - beta) * inner_lr * lookahead
    ours, theirs = (torch.randn(4, dtype=F64).requires_grad_() for _ in range(2))
    theirs.data.copy_(ours.data)
    entropy = EntropySGD(
        [ours], lr=lr, weight_decay=decay, nesterov=nesterov, beta=beta, inner_lr=inner_lr, inner_steps=1, noise=0.0
    )
    sgd = SGD([theirs], lr=lr * c, weight_decay=decay * (1 + 1 / c), nesterov=nesterov)
    descend(entropy, [ours], nonlinear, 6)
    descend(sgd, [theirs], nonlinear, 6)
    torch.testing.assert_close(entropy.deployed()[0], theirs.detach(), rtol=0, atol=1e-12)


def test_a_schedule_on_lr_changes_the_outer_step():
    """It does not in the authors' code, whose step reads a copy of lr made at construction."""
    moved = []
    for lr in (0.5, 0.05):
        p = torch.ones(3, dtype=F64, requires_grad=True)
        optimizer = EntropySGD([p], lr=0.5, inner_steps=2, noise=0.0, momentum=0.0, weight_decay=0.0)
        optimizer.param_groups[0]["lr"] = lr
        descend(optimizer, [p], nonlinear, 2)
        moved.append(1 - optimizer.deployed()[0])
    torch.testing.assert_close(moved[0], 10 * moved[1])


@pytest.mark.parametrize("method", [EntropySGD, EntropySGD2])
def test_with_inner_schedule_the_chains_rate_follows_the_schedule(method):
    """It is inner_lr times lr now over lr at the start of each group, an added one's too; else inner_lr is constant."""
    settings = dict(momentum=0.0, nesterov=True, weight_decay=0.05, inner_steps=3, gamma=0.3, beta=0.75)
    floor = None if method is EntropySGD else 0.1
    for scheduled in (False, True):
        params = [torch.linspace(-3, 2, 6, dtype=F64, requires_grad=True) for _ in range(2)]
        optimizer = method([params[0]], lr=0.5, inner_lr=0.2, inner_schedule=scheduled, noise=0.0, **settings)
        optimizer.add_param_group({"params": [params[1]], "lr": 0.8, "inner_lr": 0.3})
        expected = [p.detach().clone() for p in params]
        for factor in (1.0, 0.1, 0.4):
            for place, (group, rates) in enumerate(zip(optimizer.param_groups, [(0.5, 0.2), (0.8, 0.3)], strict=True)):
                lr, inner_lr = rates[0] * factor, rates[1] * (factor if scheduled else 1)
                group["lr"] = lr
                expected[place], *_ = entropy_sgd_reference(
                    expected[place], nonlinear, outer=1, lr=lr, inner_lr=inner_lr, curvature_floor=floor, **settings
                )
            descend(optimizer, params, nonlinear, 3)
            for found, wanted in zip(optimizer.deployed(), expected, strict=True):
                torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


def test_the_noise_follows_the_inner_schedule():
    p = torch.zeros(100_000, dtype=F64, requires_grad=True)
    optimizer = EntropySGD([p], noise=0.02, inner_lr=0.3, inner_schedule=True, weight_decay=0.0)
    optimizer.param_groups[0]["lr"] *= 0.1
    descend(optimizer, [p], lambda point, _: torch.zeros_like(point), 1)
    assert abs(p.detach().std().item() / (0.02 * (2 * 0.03) ** 0.5) - 1) < 4 * (0.5 / p.numel()) ** 0.5


@pytest.mark.parametrize("method", [EntropySGD, EntropySGD2])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_state_from_before_the_outer_options_goes_on_bit_for_bit(method, momentum):
    """Its groups have only the keys that 0.1 wrote, and it was saved within an inner loop after a drop of lr."""
    keys = {"lr", "momentum", "nesterov", "weight_decay", "inner_lr", "inner_steps", "gamma", "beta", "noise"}
    keys |= {"k", "train_mode", "params"} | (
        {"curvature_floor", "clamped", "divided"} if method is EntropySGD2 else set()
    )
    p = torch.linspace(-2, 2, 6).requires_grad_()
    optimizer = method([p], momentum=momentum, inner_steps=4, noise=0.0)
    descend(optimizer, [p], nonlinear, 5)
    optimizer.param_groups[0]["lr"] *= 0.1
    descend(optimizer, [p], nonlinear, 5)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"] = [{key: value for key, value in g.items() if key in keys} for g in saved["param_groups"]]
    assert set(saved["param_groups"][0]) == keys
    q = p.detach().clone().requires_grad_()
    resumed = method([q], momentum=momentum, inner_steps=4, noise=0.0)
    resumed.load_state_dict(saved)
    for one, its in ((optimizer, p), (resumed, q)):
        descend(one, [its], nonlinear, 13)
    assert torch.equal(p, q)
    assert torch.equal(optimizer.deployed()[0], resumed.deployed()[0])


TIME_CONSTANTS = {  # minibatches on a quadratic: (curvature, lr): SGD's and EntropySGD's, with the recipes' settings
    (0.3, 0.1): (19, 171),
    (0.3, 0.01): (19, 340),
    (0.3, 0.001): (324, 1458),
    (0.03, 0.001): (3324, 7030),
    (3.0, 0.001): (19, 1813),
}


@pytest.mark.parametrize(("curvature", "lr"), TIME_CONSTANTS)
def test_the_time_constant_is_that_of_its_steps(curvature, lr):
    """Measured on the largest |w| of two parts of a run, as w oscillates."""
    sgd, entropy = TIME_CONSTANTS[curvature, lr]
    p = torch.ones(1, dtype=F64, requires_grad=True)
    optimizer = EntropySGD([p], lr=lr, weight_decay=0.0, noise=0.0)
    assert round(optimizer.time_constant(lr, curvature)) == entropy
    slopes = []
    for method, per_step, expected in ((SGD, 1, sgd), (EntropySGD, 20, entropy)):
        p = torch.ones(1, dtype=F64, requires_grad=True)
        optimizer = method([p], lr=lr, weight_decay=0.0, **({} if method is SGD else {"noise": 0.0}))
        sizes = []
        for _ in range(12 * expected // per_step):
            descend(optimizer, [p], lambda point, _: curvature * point, per_step)
            sizes.append(optimizer.deployed()[0].abs().log().item())
        half = len(sizes) // 2
        early, late = max(sizes[half - half // 3 : half]), max(sizes[-(half // 3) :])
        slopes.append((late - early) / (len(sizes) - half) / per_step)
    assert -1 / slopes[0] == pytest.approx(sgd, rel=0.1)
    assert -1 / slopes[1] == pytest.approx(entropy, rel=0.1)


def test_the_time_constant_follows_the_options():
    """One inner step is SGD with another lr; w nearly stops if inner_lr drops too; inf where steps diverge."""
    p = torch.ones(1, dtype=F64, requires_grad=True)
    scheduled = EntropySGD([p], lr=0.1, weight_decay=0.0, inner_schedule=True)
    assert round(scheduled.time_constant(0.001, 0.3)) == 64717
    plain = EntropySGD([p], lr=1.0, momentum=0.0, weight_decay=0.0, inner_steps=1, beta=0.0)
    assert plain.time_constant(1.0, 0.3) == pytest.approx(-1 / math.log(1 - 0.1 * 0.3))
    assert plain.time_constant(1.0, 30.0) == math.inf


def test_the_time_constant_of_extreme_options_is_zero_or_infinite():
    p = torch.ones(1, dtype=F64, requires_grad=True)
    mean = EntropySGD([p], lr=1.0, momentum=0.0, weight_decay=0.0, gamma=0.0, beta=0.0, inner_steps=2000)
    assert mean.time_constant(1.0, 0.3) == 0  # w becomes the chain's end, within 1e-26 of the minimum
    overflowing = EntropySGD([p], inner_lr=1000.0, inner_steps=1000)
    assert overflowing.time_constant(0.1, 0.3) == math.inf


def test_the_chain_has_the_stationary_law_of_its_linear_recursion():
    """f = a w^2 / 2, momentum 0: mean gamma w / (a + gamma), variance 2 eta noise^2 / (1 - (1 - eta (a + gamma))^2)."""
    a, gamma, eta, noise, n = 2.0, 1.0, 0.1, 0.3, 20_000
    p = torch.ones(n, dtype=F64, requires_grad=True)
    optimizer = EntropySGD(
        [p], inner_lr=eta, inner_steps=10_000, gamma=gamma, noise=noise, momentum=0.0, weight_decay=0.0
    )
    descend(optimizer, [p], lambda point, _: a * point, 60)
    mean, variance = gamma / (a + gamma), 2 * eta * noise**2 / (1 - (1 - eta * (a + gamma)) ** 2)
    assert abs(p.detach().mean().item() - mean) < 4 * (variance / n) ** 0.5
    assert abs(p.detach().var().item() / variance - 1) < 4 * (2 / n) ** 0.5


def test_the_noise_added_per_minibatch_has_the_standard_deviation_of_its_formula():
    """noise * sqrt(2 * inner_lr), as the authors' code adds; the paper's sqrt(inner_lr) would be 30 % less."""
    n, noise, inner_lr = 100_000, 0.02, 0.3
    p = torch.zeros(n, dtype=F64, requires_grad=True)
    optimizer = EntropySGD([p], noise=noise, inner_lr=inner_lr, weight_decay=0.0)
    descend(optimizer, [p], lambda point, _: torch.zeros_like(point), 1)
    assert abs(p.detach().std().item() / (noise * (2 * inner_lr) ** 0.5) - 1) < 4 * (0.5 / n) ** 0.5
    assert abs(p.detach().mean().item()) < 4 * noise * (2 * inner_lr / n) ** 0.5


def test_the_noise_depends_on_the_generator_only():
    def run(seed):
        p = torch.zeros(5, requires_grad=True)
        optimizer = EntropySGD([p], noise=0.1, generator=torch.Generator().manual_seed(seed))
        before = torch.random.get_rng_state()
        descend(optimizer, [p], lambda point, _: torch.zeros_like(point), 3)
        assert torch.equal(before, torch.random.get_rng_state())
        return p.detach()

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_a_copy_draws_its_noise_from_torchs_generator():
    """torch copies param groups and state, and no other attribute."""
    p = torch.zeros(5, requires_grad=True)
    copied, q = copy.deepcopy((EntropySGD([p], noise=0.1, generator=torch.Generator().manual_seed(1)), p))
    torch.manual_seed(1)
    descend(copied, [q], lambda point, _: torch.zeros_like(point), 1)
    torch.manual_seed(1)
    torch.testing.assert_close(q.detach(), 0.1 * 0.2**0.5 * torch.randn(5))


def test_a_parameter_without_gradient_does_not_change():
    moving, still = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = EntropySGD([moving, still], inner_steps=2, weight_decay=0.5)
    descend(optimizer, [moving], nonlinear, 4)
    assert torch.equal(still.detach(), torch.ones(2))
    assert torch.equal(optimizer.deployed()[1], torch.ones(2))
    assert still not in optimizer.state
    moving.grad, kept = None, optimizer.deployed()[0].clone()
    for _ in range(6):  # neither decay nor momentum may move it now
        optimizer.step()
    assert torch.equal(optimizer.deployed()[0], kept)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_state_is_w_mu_and_the_momenta(momentum):
    p = torch.ones(7, requires_grad=True)
    optimizer = EntropySGD([p], momentum=momentum)
    descend(optimizer, [p], nonlinear, 1)
    tensors = {key for key, value in optimizer.state[p].items() if torch.is_tensor(value)}
    assert tensors == ({"w", "mu", "m", "M"} if momentum else {"w", "mu"})


@pytest.mark.parametrize(
    "wrong",
    [
        dict(inner_steps=0),
        dict(beta=1.0),
        dict(gamma=-1.0),
        dict(lr=-0.1),
        dict(lr=0.0, inner_schedule=True),
        dict(inner_lr=0.0),
        dict(momentum=1.0),
        dict(outer_momentum=1.0),
        dict(outer_weight_decay=-1.0),
    ],
)
def test_an_option_out_of_range_raises_an_error_that_names_it(wrong):
    with pytest.raises(ValueError, match=rf"expected (0 <=? )?{next(iter(wrong))} "):
        EntropySGD([torch.zeros(1, requires_grad=True)], **wrong)


@pytest.mark.parametrize("method", [EntropySGD, EntropySGD2])
@pytest.mark.parametrize("together", [0, 7])
def test_the_chunk_size_changes_no_bit(method, together, monkeypatch):
    """One parameter at a time, or a few."""

    def moved(cached):
        monkeypatch.setattr(_langevin, "_CACHE_ELEMENTS", cached)
        params = [torch.linspace(-1, 1, n, dtype=F64).requires_grad_() for n in (5, 3, 2, 8)]
        optimizer = method(params, inner_steps=3, noise=0.1, generator=torch.Generator().manual_seed(0))
        descend(optimizer, params, nonlinear, 7)
        return [*params, *optimizer.deployed()]

    assert all(map(torch.equal, moved(together), moved(2**18)))


def test_the_noise_does_not_depend_on_the_memory_layout():
    def chain(memory_format):
        p = torch.zeros(4, 3, 2, 2).to(memory_format=memory_format).requires_grad_()
        p.grad = torch.zeros_like(p)
        EntropySGD([p], noise=1.0, generator=torch.Generator().manual_seed(0)).step()
        return p

    last = chain(torch.channels_last)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert last.count_nonzero() == last.numel()
    assert torch.equal(last, chain(torch.contiguous_format))
