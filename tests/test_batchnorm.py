"""BatchNorm: running statistics are protected and recalibrated; weights and modes are restored."""

from __future__ import annotations

import pytest
import torch
from model_snapshots import equal_snapshots, snapshot
from torch import nn

from rb_smooth.components import batchnorm, weights
from rb_smooth.components.objectives.at import AT
from rb_smooth.components.objectives.standard import Standard


def test_frozen_running_stats_are_restored_also_after_an_exception(net, batch):
    before = snapshot(net)
    with batchnorm.frozen_running_stats(net):
        net(batch[0])
        assert not equal_snapshots(before, snapshot(net))
    assert equal_snapshots(before, snapshot(net))
    with pytest.raises(ZeroDivisionError), batchnorm.frozen_running_stats(net):
        net(batch[0])
        raise ZeroDivisionError
    assert equal_snapshots(before, snapshot(net))


def test_recalibration_is_the_plain_mean_over_the_batches_forgetting_the_past(net):
    batches = [(torch.rand(8, 2, 6, 6),) * 2 + (torch.zeros(8, dtype=torch.long),) for _ in range(5)]
    layer = net.net[1]
    inputs = [net.net[0]((x_adv - net.mean) / net.std).detach() for _, x_adv, _ in batches]
    mean = torch.stack([z.mean((0, 2, 3)) for z in inputs]).mean(0)
    variance = torch.stack([z.var((0, 2, 3), unbiased=True) for z in inputs]).mean(0)
    layer.running_mean.fill_(100.0)
    batchnorm.recalibrate(net, AT(), batches)
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.running_var, variance)
    assert layer.momentum == 0.1


def test_recalibration_sees_the_adversarial_examples(net):
    x, x_adv = torch.zeros(4, 2, 6, 6), torch.ones(4, 2, 6, 6)
    batchnorm.recalibrate(net, Standard(), [(x, x_adv, torch.zeros(4, dtype=torch.long))])
    expected = net.net[0]((x_adv - net.mean) / net.std).mean((0, 2, 3))
    torch.testing.assert_close(net.net[1].running_mean, expected)


@pytest.mark.parametrize("training", [True, False])
def test_recalibration_changes_only_the_statistics(net, batch, training):
    net.train(training)
    before, random = snapshot(net), torch.random.get_rng_state()
    batchnorm.recalibrate(net, AT(), [(batch[0], batch[0], batch[1])])
    after = snapshot(net)
    for key in [k for k in before[0] if "running" in k or "num_batches" in k]:
        before[0][key] = after[0][key]
    assert equal_snapshots(before, after)
    assert torch.equal(random, torch.random.get_rng_state())


def test_without_batches_or_without_batchnorm_nothing_changes(net, batch):
    before = snapshot(net)
    batchnorm.recalibrate(net, AT(), [])
    assert equal_snapshots(before, snapshot(net))
    plain = nn.Sequential(nn.Flatten(), nn.Linear(72, 5))
    before = snapshot(plain)
    batchnorm.recalibrate(plain, AT(), [(batch[0], batch[0], batch[1])])
    assert equal_snapshots(before, snapshot(plain))


@pytest.mark.parametrize("bn_mode", ["train", "eval"])
def test_batchnorm_mode_sets_batchnorm_only_and_restores_all_modes(bn_mode):
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(), nn.BatchNorm1d(2)).train()
    model[2].eval()  # frozen by hand
    with batchnorm.batchnorm_mode(model, bn_mode):
        assert [m.training for m in model] == [bn_mode == "train", False, False]
    assert [m.training for m in model] == [True, True, False]
    model.eval()
    with pytest.raises(ZeroDivisionError), batchnorm.batchnorm_mode(model, bn_mode):
        assert [m.training for m in model] == [bn_mode == "train", False, bn_mode == "train"]
        raise ZeroDivisionError
    assert not any(m.training for m in model)


def test_a_frozen_layer_keeps_its_statistics_and_its_mode(net, batch):
    net.net[1].eval()
    before = snapshot(net)
    batchnorm.recalibrate(net, AT(), [(batch[0], batch[0], batch[1])])
    assert equal_snapshots(before, snapshot(net))


def test_recalibration_restores_momentum_and_grad_mode_after_an_exception(net, batch):
    class Failing(AT):
        def loss(self, model, x, x_adv, y):
            assert not torch.is_grad_enabled()
            super().loss(model, x, x_adv, y)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        batchnorm.recalibrate(net, Failing(), [(batch[0], batch[0], batch[1])])
    assert net.net[1].momentum == 0.1
    assert net.training


def test_no_param_grad_restores_requires_grad_after_an_exception(net):
    net.net[4].bias.requires_grad_(False)
    wanted = [p.requires_grad for p in net.parameters()]
    with pytest.raises(ZeroDivisionError), weights.no_param_grad(net):
        assert not any(p.requires_grad for p in net.parameters())
        raise ZeroDivisionError
    assert [p.requires_grad for p in net.parameters()] == wanted


def test_perturbed_weights_are_restored_bit_for_bit_where_subtraction_is_inexact():
    w, v = [torch.tensor([1e8, -0.0, 1.0])], [torch.tensor([1.0, 0.3, 1e-8])]
    before = w[0].clone()
    with weights.perturbed(w, [v[0].clone()]):
        assert torch.equal(w[0], before + v[0])
    assert torch.equal(w[0], before)
    assert torch.equal(w[0].signbit(), before.signbit())


def test_swapped_weights_and_requires_grad_are_restored(net):
    before, parameters = snapshot(net), list(net.parameters())
    with weights.swapped(parameters, [torch.zeros_like(p) for p in parameters]), weights.no_param_grad(net):
        assert all(not p.any() and not p.requires_grad for p in parameters)
    assert equal_snapshots(before, snapshot(net))
