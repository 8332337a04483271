"""AWP: the perturbation of Eq. (76) by one ascent step; weights are restored bit for bit."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from model_snapshots import equal_snapshots, snapshot
from torch import nn

from rb_smooth.components.averaging.none import Unaveraged
from rb_smooth.components.interfaces import Outcome
from rb_smooth.components.optimizers.sgd import SGD
from rb_smooth.components.perturbations.awp import AWP
from rb_smooth.training.step import training_step


def cross_entropy(model, x, y):
    return lambda: F.cross_entropy(model(x), y)


def printed_perturbation(model, loss, gamma):
    """v_l = gamma ||w_l|| g_l / (||g_l|| + 1e-20) for weights of more than one dimension, 0 for the rest."""
    shift = {}
    gradients = torch.autograd.grad(loss(), list(model.parameters()))
    for (name, w), g in zip(model.named_parameters(), gradients):
        shift[name] = gamma * w.norm() * g / (g.norm() + 1e-20) if w.ndim > 1 else torch.zeros_like(w)
    return shift


def test_the_perturbation_is_the_papers_formula_and_has_its_norm(net, batch):
    loss = cross_entropy(net, *batch)
    expected = printed_perturbation(net, loss, 0.05)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    with AWP(gamma=0.05)(net, loss):
        for name, p in net.named_parameters():
            shift = p.detach() - before[name]
            torch.testing.assert_close(shift, expected[name], rtol=1e-3, atol=1e-7)
            length = 0.05 * before[name].norm() if p.ndim > 1 else torch.tensor(0.0)
            torch.testing.assert_close(shift.norm(), length, rtol=1e-4, atol=0)


def test_the_perturbation_increases_the_loss(net, batch):
    loss = cross_entropy(net, *batch)
    before = loss().item()
    with AWP(gamma=0.05)(net, loss):
        assert loss().item() > before


@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.5])
def test_weights_statistics_and_modes_are_restored_bit_for_bit(net, batch, gamma):
    before = snapshot(net)
    with AWP(gamma=gamma)(net, cross_entropy(net, *batch)):
        pass
    assert equal_snapshots(before, snapshot(net))


def test_weights_are_restored_after_an_exception(net, batch):
    before = snapshot(net)
    with pytest.raises(ZeroDivisionError), AWP(gamma=0.5)(net, cross_entropy(net, *batch)):
        raise ZeroDivisionError
    assert equal_snapshots(before, snapshot(net))

    def failing():
        raise MemoryError

    with pytest.raises(MemoryError), AWP(gamma=0.5)(net, failing):
        pass
    assert equal_snapshots(before, snapshot(net))


def test_gamma_zero_is_no_perturbation(net, batch):
    before = snapshot(net)
    with AWP(gamma=0.0)(net, cross_entropy(net, *batch)):
        assert equal_snapshots(before, snapshot(net))


def test_zero_gradient_and_zero_weight_give_zero_perturbation(batch):
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.Linear(5, 5))
    with torch.no_grad():
        net[1].weight.zero_()
    before = snapshot(net)
    with AWP(gamma=0.5)(net, lambda: net[2].weight.sum() * 0 + net[1].weight.sum()):
        assert equal_snapshots(before, snapshot(net))


def test_a_frozen_weight_does_not_change(net, batch):
    net.net[0].weight.requires_grad_(False)
    before = net.net[0].weight.clone()
    with AWP(gamma=0.5)(net, cross_entropy(net, *batch)):
        assert torch.equal(before, net.net[0].weight)


def test_memory_inside_the_context_is_one_copy_of_the_weights(net, batch, monkeypatch):
    refs = []
    worst = AWP._adversarial_perturbation

    def watched(self, *arguments):
        v = worst(self, *arguments)
        refs.extend(weakref.ref(each) for each in v)
        return v

    monkeypatch.setattr(AWP, "_adversarial_perturbation", watched)
    with AWP(gamma=0.01)(net, cross_entropy(net, *batch)):
        gc.collect()
        assert refs
        assert not any(ref() is not None for ref in refs)  # v is gone; the backup of w is the one copy


class CountingObjective:
    """Cross-entropy without an attack; counts calls of craft."""

    threat, crafted = None, 0

    def craft(self, model, x, y):
        self.crafted += 1
        return x

    def loss(self, model, x, x_adv, y):
        logits = model(x_adv)
        return Outcome(F.cross_entropy(logits, y), logits)


def test_a_training_step_is_w_minus_lr_times_the_gradient_at_w_plus_v_and_decay_at_w(batch):
    """Plain SGD in float64. The authors' code applies weight decay at w + v."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.Tanh(), nn.Linear(8, 5)).double()
    x, y = batch[0].double(), batch[1]
    lr, decay, gamma = 0.3, 0.1, 0.2
    shift = printed_perturbation(net, cross_entropy(net, x, y), gamma)
    w = {name: p.detach().clone() for name, p in net.named_parameters()}
    moved = {name: (w[name] + shift[name]).requires_grad_() for name in w}
    at_worst = torch.autograd.grad(
        F.cross_entropy(torch.func.functional_call(net, moved, (x,)), y), list(moved.values())
    )
    objective = CountingObjective()
    training_step(
        net,
        objective,
        AWP(gamma=gamma),
        SGD(net.parameters(), lr=lr, momentum=0, weight_decay=decay),
        Unaveraged(),
        x,
        y,
        0,
    )
    for (name, p), g in zip(net.named_parameters(), at_worst):
        torch.testing.assert_close(p.detach(), w[name] - lr * (g + decay * w[name]), rtol=0, atol=1e-10)
    assert objective.crafted == 1


def test_negative_gamma_raises_an_error_that_names_it():
    with pytest.raises(ValueError, match="gamma"):
        AWP(gamma=-0.1)


def test_the_perturbation_is_equal_under_no_grad(net, batch):
    loss, shifts = cross_entropy(net, *batch), []
    before = net.net[0].weight.detach().clone()
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled), AWP(gamma=0.05)(net, loss):
            shifts.append(net.net[0].weight.detach() - before)
    assert torch.equal(*shifts)
    assert shifts[0].any()
