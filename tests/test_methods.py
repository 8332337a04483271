"""Laws that every method obeys by being in its folder: a new file is tested by being there."""

from __future__ import annotations

import inspect
from functools import partial

import pytest
import torch
from torch import nn
from traces import same, snapshot

from rb_smooth.registry import find, make, names

OBJECTIVES, PERTURBATIONS = names("objective"), names("perturbation")
OPTIMIZERS, AVERAGINGS = names("optimizer"), names("averaging")


ADVERSARIES = [(name, {}) for name in OBJECTIVES] + [
    (name, {"norm": "L2"}) for name in OBJECTIVES if "norm" in inspect.signature(find("objective", name)).parameters
]


@pytest.fixture(params=ADVERSARIES, ids=lambda adversary: "-".join([adversary[0], *adversary[1].values()]))
def objective(request):
    return make("objective", *request.param)


@pytest.mark.parametrize("training", [True, False])
def test_crafting_leaves_no_trace_in_the_model(objective, net, batch, training):
    net.train(training)
    net.net[1].eval()  # a layer frozen by hand must not come back in train mode
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    net.net[4].bias.requires_grad_(False)
    before = snapshot(net)
    x_adv = objective.craft(net, *batch)
    assert same(before, snapshot(net))
    assert not x_adv.requires_grad


def test_crafting_leaves_no_trace_when_the_model_raises(objective, net, batch):
    before, calls = snapshot(net), []

    def failing(*_):
        calls.append(1)
        if len(calls) == 2:  # in the middle of the attack
            raise ZeroDivisionError

    hook = net.net[4].register_forward_hook(failing)
    if objective.threat is None:
        objective.craft(net, *batch)  # never calls the model
    else:
        with pytest.raises(ZeroDivisionError):
            objective.craft(net, *batch)
    hook.remove()
    assert same(before, snapshot(net))


def test_crafting_works_under_no_grad_and_wants_no_gradient_of_the_weights(objective, net, batch):
    seen = []
    hook = net.register_forward_hook(lambda *_: seen.append(any(p.requires_grad for p in net.parameters())))
    with torch.no_grad():
        objective.craft(net, *batch)
    hook.remove()
    assert not any(seen)


def test_adversarial_examples_stay_in_the_ball_and_in_the_box(objective, net, batch):
    x, y = batch
    x_adv = objective.craft(net, x, y)
    assert x_adv.shape == x.shape
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    if objective.threat is not None:
        distance = (x_adv - x).flatten(1).norm(p=float("inf") if objective.threat.norm == "Linf" else 2, dim=1)
        assert distance.max() <= objective.threat.eps + 1e-6
        assert distance.max() > objective.threat.eps / 2


def test_the_loss_is_one_number_with_logits_and_a_gradient(objective, net, batch):
    x, y = batch
    outcome = objective.loss(net, x, objective.craft(net, x, y), y)
    assert outcome.loss.shape == ()
    assert outcome.logits.shape == (12, 5)
    outcome.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_the_gradient_of_the_loss_is_that_of_finite_differences(objective):
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x, y = torch.rand(5, 2, 2, 2, dtype=torch.float64), torch.arange(5) % 3
    x_adv = (x + 0.1 * torch.randn_like(x)).clamp(0, 1)
    keys, weights = zip(*net.named_parameters())

    def loss(*values):
        model = partial(torch.func.functional_call, net, dict(zip(keys, values)))
        return objective.loss(lambda images: model((images,)), x, x_adv, y).loss

    assert torch.autograd.gradcheck(loss, weights)


def test_crafting_leaves_the_global_flags_as_found(objective, net, batch):
    def flags():
        return [
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.backends.cuda.matmul.allow_tf32,
            torch.get_num_threads(),
            torch.is_anomaly_enabled(),
        ]

    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            before = flags()
            objective.craft(net, *batch)
            assert flags() == before


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_perturbation_gives_the_weights_back_bit_for_bit(name, net, batch):
    x, y = batch
    before = snapshot(net)
    with make("perturbation", name, {})(net, lambda: torch.nn.functional.cross_entropy(net(x), y)):
        pass
    assert same(before, snapshot(net))


def learn(optimizer, params, steps):
    for k in range(steps):
        for i, p in enumerate(params):
            p.grad = torch.sin(p.detach() * (i + 1) + k)
        optimizer.step()


def tensors():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in ((3, 2), (4,))]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 1, 7, 20, 21])
def test_eval_shows_what_is_deployed_and_train_undoes_it_without_moving_storage(name, steps):
    params = tensors()
    optimizer = make("optimizer", name, {}, params)
    learn(optimizer, params, steps)
    live, deployed = [p.detach().clone() for p in params], [w.clone() for w in optimizer.deployed()]
    places = [p.data_ptr() for p in params]
    for _ in range(2):
        optimizer.eval()
        optimizer.eval()  # twice is once
        assert all(torch.equal(p, w) for p, w in zip(params, deployed))
        assert all(torch.equal(p, w) for p, w in zip(optimizer.deployed(), deployed))
        optimizer.train()
        optimizer.train()
        assert all(torch.equal(p, w) for p, w in zip(params, live))
        assert all(torch.equal(p, w) for p, w in zip(optimizer.deployed(), deployed))
    assert places == [p.data_ptr() for p in params]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_in_eval_mode_is_refused_naming_the_cure(name):
    params = tensors()
    optimizer = make("optimizer", name, {}, params)
    optimizer.eval()
    with pytest.raises(RuntimeError, match=r"optimizer\.train\(\)"):
        learn(optimizer, params, 1)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 3, 19, 20, 23])
def test_a_saved_optimizer_goes_on_as_if_it_had_not_been_saved(name, steps, tmp_path):
    one, other = tensors(), tensors()
    noise = [torch.Generator().manual_seed(3) for _ in range(2)]
    first = make("optimizer", name, {}, one, generator=noise[0])
    learn(first, one, steps)
    torch.save([first.state_dict(), [p.detach() for p in one]], tmp_path / "state.pt")
    state, values = torch.load(tmp_path / "state.pt", weights_only=True)
    for p, value in zip(other, values):
        p.data.copy_(value)
    second = make("optimizer", name, {}, other, generator=noise[1])
    second.load_state_dict(state)
    noise[1].set_state(noise[0].get_state())
    learn(first, one, 25)
    learn(second, other, 25)
    assert all(torch.equal(p, q) for p, q in zip(one, other))
    assert all(torch.equal(p, q) for p, q in zip(first.deployed(), second.deployed()))


@pytest.mark.parametrize("name", AVERAGINGS)
def test_an_average_of_constant_weights_is_those_weights(name):
    averaging = make("averaging", name, {})
    w = [torch.ones(3), torch.zeros(2, 2)]
    for t in range(5):
        averaging.update(w, t)
    for got, expected in zip(averaging.weights(w), w):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", AVERAGINGS)
def test_a_saved_average_goes_on_as_if_it_had_not_been_saved(name):
    first, second = (make("averaging", name, {}) for _ in range(2))
    path = [[torch.full((2,), float(t))] for t in range(8)]
    for t in range(4):
        first.update(path[t], t)
    second.load_state_dict(first.state_dict())
    assert all(a is not b for a, b in zip(first.weights(path[3]), second.weights([torch.zeros(2)])))
    for t in range(4, 8):
        first.update(path[t], t)
        second.update(path[t], t)
    assert torch.equal(first.weights(path[-1])[0], second.weights(path[-1])[0])


def test_the_moving_average_is_the_printed_recursion_of_weights_that_move_in_place():
    ema = make("averaging", "ema", {"decay": 0.7})
    expected, w = None, torch.zeros(2, dtype=torch.float64)
    for t in range(30):
        w.copy_(torch.tensor([t**2.0, -t]))
        tau = min(0.7, (1 + t) / (10 + t))
        expected = w.clone() if expected is None else tau * expected + (1 - tau) * w
        ema.update([w], t)
    torch.testing.assert_close(ema.weights([])[0], expected, rtol=0, atol=1e-10)
