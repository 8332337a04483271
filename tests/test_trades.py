"""TRADES: the printed loss, the printed attack, and a gradient through both predictions."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from reference_attacks import pgd_kl, reference_kl

from rb_smooth.components.losses import kl_divergence
from rb_smooth.components.objectives.trades import TRADES


def weight_gradient(net, loss):
    return torch.autograd.grad(loss, list(net.parameters()))


@pytest.mark.parametrize("bn_mode", ["train", "eval"])
def test_crafting_is_the_papers_attack_with_batchnorm_in_bn_mode(net, batch, bn_mode):
    objective, net, x = TRADES(eps=0.2, step_size=0.05, steps=5, bn_mode=bn_mode), net.double(), batch[0].double()
    # In float32, near the start, the printed divergence's gradient is little more than rounding, and so is its sign.
    torch.manual_seed(1)
    x_adv = objective.craft(net, x, batch[1])
    net.train(bn_mode == "train")
    torch.manual_seed(1)
    torch.testing.assert_close(x_adv, pgd_kl(net, x, 0.2, 0.05, 5), rtol=0, atol=1e-5)


def test_the_attack_compares_predictions_in_fp32_under_bf16_autocast(net, batch):
    objective, crafted = TRADES(eps=0.2, step_size=0.05, steps=5, bn_mode="train"), []
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        for attack in (
            lambda: objective.craft(net, *batch),
            lambda: pgd_kl(lambda x: net(x).float(), batch[0], 0.2, 0.05, 5),
        ):
            torch.manual_seed(1)
            crafted.append(attack())
    torch.testing.assert_close(*crafted, rtol=0, atol=1e-5)


def test_the_attack_does_not_use_labels(net, batch):
    objective, crafted = TRADES(steps=2), []
    for y in (batch[1], batch[1].flip(0)):
        torch.manual_seed(1)
        crafted.append(objective.craft(net, batch[0], y))
    assert torch.equal(*crafted)


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_cross_entropy_plus_beta_times_the_divergence_from_clean_to_attacked(net, batch, training):
    net.train(training)
    x, y = batch
    objective = TRADES(beta=3.0, eps=0.2, step_size=0.05)
    x_adv = objective.craft(net, x, y)
    outcome = objective.loss(net, x, x_adv, y)
    clean, attacked = net(x), net(x_adv)
    printed = F.cross_entropy(clean, y) + 3.0 * reference_kl(clean.softmax(1), attacked.softmax(1)).mean()
    torch.testing.assert_close(outcome.loss, printed)
    torch.testing.assert_close(outcome.logits, attacked)
    reverse = F.cross_entropy(clean, y) + 3.0 * reference_kl(attacked.softmax(1), clean.softmax(1)).mean()
    assert abs(outcome.loss - reverse) > 1e-4


def test_for_clean_images_the_loss_is_cross_entropy(net, batch):
    x, y = batch
    torch.testing.assert_close(TRADES().loss(net, x, x.clone(), y).loss, F.cross_entropy(net(x), y))


def test_the_gradient_flows_through_both_predictions(net, batch):
    x, y = batch
    objective = TRADES(eps=0.2, step_size=0.05)
    x_adv = objective.craft(net, x, y)
    ours = weight_gradient(net, objective.loss(net, x, x_adv, y).loss)
    clean, attacked = net(x), net(x_adv)
    printed = F.cross_entropy(clean, y) + 6.0 * reference_kl(clean.softmax(1), attacked.softmax(1)).mean()
    for got, expected in zip(ours, weight_gradient(net, printed)):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)
    clean = net(x)
    held = F.cross_entropy(clean, y) + 6.0 * reference_kl(clean.softmax(1).detach(), net(x_adv).softmax(1)).mean()
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(ours, weight_gradient(net, held)))


def test_the_divergence_and_its_gradient_are_finite_where_the_printed_formula_is_not():
    logits = torch.tensor([[1e4, -1e4, 0.0], [200.0, 0.0, -200.0]], requires_grad=True)
    at = torch.tensor([[-1e4, 1e4, 0.0], [200.0, 0.0, -200.0]], requires_grad=True)
    divergence = kl_divergence(logits, at)
    torch.testing.assert_close(divergence.detach(), torch.tensor([2e4, 0.0]))
    divergence.sum().backward()
    assert logits.grad.isfinite().all()
    assert at.grad.isfinite().all()
    assert not reference_kl(logits.softmax(1), at.softmax(1)).isfinite().all()


def test_label_smoothing_is_in_the_cross_entropy_alone(net, batch):
    x, y = batch
    plain, smoothed = (TRADES(steps=3, label_smoothing=s) for s in (0.0, 0.3))
    crafted = []
    for objective in (plain, smoothed):
        torch.manual_seed(1)
        crafted.append(objective.craft(net, x, y))
    assert torch.equal(*crafted)
    difference = smoothed.loss(net, x, crafted[0], y).loss - plain.loss(net, x, crafted[0], y).loss
    expected = F.cross_entropy(net(x), y, label_smoothing=0.3) - F.cross_entropy(net(x), y)
    torch.testing.assert_close(difference, expected)


def test_each_loss_sees_its_own_batch_statistics_and_running_ones_move_twice(net, batch):
    """Not one forward of both halves together, which would mix their statistics."""
    x, y = batch
    twin = copy.deepcopy(net)
    TRADES().loss(net, x, x + 0.5, y)
    twin(x)
    twin(x + 0.5)
    assert torch.equal(net.net[1].running_mean, twin.net[1].running_mean)
    assert net.net[1].num_batches_tracked == twin.net[1].num_batches_tracked


@pytest.mark.parametrize(
    "wrong", [dict(eps=0.0), dict(step_size=0.0), dict(steps=0), dict(beta=-1.0), dict(label_smoothing=-0.1)]
)
def test_an_option_out_of_range_raises_an_error_that_names_it(wrong):
    with pytest.raises(ValueError, match=rf"expected (0 <=? )?{next(iter(wrong))} "):
        TRADES(**wrong)


def test_one_class_raises_an_error():
    with pytest.raises(ValueError, match="2 classes"):
        kl_divergence(torch.zeros(3, 1), torch.zeros(3, 1))
