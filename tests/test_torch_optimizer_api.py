"""Every optimizer here is one of torch's, for whoever has a training loop already: what torch promises, holds."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch.optim import lr_scheduler

from rb_smooth.components.torch_optimizers import torch_optimizer_names
from rb_smooth.config.registry import component_names, find_component

SCHEDULERS = {
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [2, 4]),
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 6),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(
        optimizer, 0.3, total_steps=8, cycle_momentum=not {"momentum", "betas"}.isdisjoint(optimizer.defaults)
    ),
    "LinearLR": lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3),
}


@pytest.fixture(params=[*component_names("optimizer"), *torch_optimizer_names()])
def method(request):
    return find_component("optimizer", request.param)


def make_optimizer(method, params, **options):
    """An optimizer whose steps are the same each time: without noise, and with outer steps in a few minibatches."""
    if method.__name__.startswith("Entropy"):
        options = {"noise": 0.0, "inner_steps": 3} | options
    return method(params, lr=0.2, **options)


def weight(value=1.0, dtype=torch.float64):
    return torch.full((3, 2), value, dtype=dtype, requires_grad=True)


def closure(optimizer, *params):
    def loss():
        optimizer.zero_grad()
        total = sum((p**4).sum() for p in params)
        total.backward()
        return total

    return loss


def take_steps(optimizer, count, *params):
    for _ in range(count):
        optimizer.step(closure(optimizer, *params))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_torch_schedulers_change_lr_as_for_torch_sgd(method, name):
    ours, theirs = weight(), weight()
    optimizers = make_optimizer(method, [ours]), torch.optim.SGD([theirs], lr=0.2, momentum=0.9)
    schedulers = [SCHEDULERS[name](optimizer) for optimizer in optimizers]
    seen = set()
    for _ in range(6):
        for optimizer, p, scheduler in zip(optimizers, (ours, theirs), schedulers):
            take_steps(optimizer, 1, p)
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # torch warns of a scheduler that does not see its optimizer step
                scheduler.step()
        our_lr, their_lr = (optimizer.param_groups[0]["lr"] for optimizer in optimizers)
        assert our_lr == their_lr
        seen.add(our_lr)
    assert len(seen) > 1


def test_a_closure_is_called_once_per_step_and_its_loss_is_returned(method):
    ours, by_hand, calls = weight(), weight(), []
    torch.optim.SGD([weight()])  # from its first instance on, torch's own step() runs hooks
    one, other = make_optimizer(method, [ours]), make_optimizer(method, [by_hand])
    one.register_step_post_hook(lambda *_: calls.append("hook"))
    loss = closure(one, ours)
    for step in range(4):
        before = loss().item()
        assert one.step(lambda: calls.append("closure") or loss()).item() == before
        closure(other, by_hand)()
        assert other.step() is None
        assert calls == ["closure", "hook"] * (step + 1)
    assert torch.equal(ours, by_hand)
    assert not torch.equal(ours, weight())


def test_state_dict_can_be_saved_and_loaded_at_any_step(method):
    for before in (1, 4):  # the second within the second inner loop
        p = weight(dtype=torch.float32)  # that of training; torch loads NAdam's float32 scalar in the weights' type
        optimizer = make_optimizer(method, [p])
        take_steps(optimizer, before, p)
        file = io.BytesIO()
        torch.save({"p": p.detach(), "optimizer": optimizer.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        q = saved["p"].clone().requires_grad_()
        again = make_optimizer(method, [q])
        again.load_state_dict(saved["optimizer"])
        take_steps(optimizer, 5, p)
        take_steps(again, 5, q)
        assert torch.equal(p, q)
        assert all(map(torch.equal, optimizer.deployed(), again.deployed()))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_takes_the_same_steps_as_the_original(method, copied):
    p = weight()
    optimizer = make_optimizer(method, [p])
    take_steps(optimizer, 2, p)
    again, q = copied((optimizer, p))
    take_steps(optimizer, 5, p)
    take_steps(again, 5, q)
    assert torch.equal(p, q)
    assert not torch.equal(p, weight())


def test_an_added_param_group_uses_its_own_options(method):
    p, q, together = weight(), weight(2.0), (weight(), weight(2.0))
    one = make_optimizer(method, [p])
    one.add_param_group({"params": [q], "lr": 0.05})
    groups = [{"params": [together[0]]}, {"params": [together[1]], "lr": 0.05}]
    other = make_optimizer(method, groups)
    take_steps(one, 7, p, q)
    take_steps(other, 7, *together)
    assert torch.equal(p, together[0])
    assert torch.equal(q, together[1])
    one.eval()
    one.add_param_group({"params": [late := weight(3.0)]})
    one.train()
    take_steps(one, 3, p, q, late)
    one.eval()
    assert not torch.equal(late, weight(3.0))
    assert len(one.deployed()) == 3


def test_parameters_are_accepted_in_every_form_that_torch_accepts(method):
    net = torch.nn.Linear(2, 2)
    for given in (net.parameters(), list(net.parameters()), [{"params": net.weight}], net.named_parameters()):
        optimizer = make_optimizer(method, given)
        assert "lr: 0.2" in repr(optimizer)
    with pytest.raises(ValueError, match="empty parameter list"):
        make_optimizer(method, [])
