"""Adversarial training: the attack is PGD as printed, in `bn_mode`; label smoothing affects the loss only."""

from __future__ import annotations

import pytest
import torch
from reference_attacks import pgd, pgd_l2

from rb_smooth.components.objectives.at import AT


@pytest.mark.parametrize(("norm", "printed"), [("Linf", pgd), ("L2", pgd_l2)])
@pytest.mark.parametrize("bn_mode", ["train", "eval"])
def test_crafting_is_the_papers_attack_with_batchnorm_in_bn_mode(net, batch, norm, printed, bn_mode):
    objective = AT(norm=norm, eps=0.2, step_size=0.05, steps=5, bn_mode=bn_mode)
    torch.manual_seed(1)
    x_adv = objective.craft(net, *batch)
    net.train(bn_mode == "train")
    torch.manual_seed(1)
    torch.testing.assert_close(x_adv, printed(net, *batch, 0.2, 0.05, 5), rtol=0, atol=1e-5)


def test_the_two_batchnorm_modes_differ(net, batch):
    crafted = []
    for bn_mode in ("train", "eval"):
        torch.manual_seed(1)
        crafted.append(AT(eps=0.2, step_size=0.05, steps=5, bn_mode=bn_mode).craft(net, *batch))
    assert not torch.equal(*crafted)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_the_attack_does_not_depend_on_the_images_memory_layout(net, batch, norm):
    x, y = batch
    objective = AT(norm=norm, steps=2)
    torch.manual_seed(1)
    plain = objective.craft(net, x, y)
    torch.manual_seed(1)
    permuted = objective.craft(net, x.to(memory_format=torch.channels_last), y)
    torch.testing.assert_close(plain, permuted)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_the_attack_does_not_depend_on_the_networks_memory_layout(net, batch, norm):
    crafted = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(1)
        crafted.append(AT(norm=norm, steps=2).craft(net.to(memory_format=memory_format), *batch))
    torch.testing.assert_close(*crafted)


def test_crafting_raises_the_loss(net, batch):
    objective, (x, y) = AT(eps=0.1, step_size=0.02), batch
    clean, attacked = (objective.loss(net, x, at, y).loss for at in (x, objective.craft(net, x, y)))
    assert attacked > clean


def test_label_smoothing_is_in_the_loss_and_not_in_the_attack(net, batch):
    x, y = batch
    plain, smoothed = AT(steps=3), AT(steps=3, label_smoothing=0.3)
    torch.manual_seed(1)
    x_plain = plain.craft(net, x, y)
    torch.manual_seed(1)
    assert torch.equal(x_plain, smoothed.craft(net, x, y))
    net.eval()
    log_p = net(x_plain).log_softmax(1)
    printed = -(0.7 * log_p[torch.arange(12), y] + 0.3 * log_p.mean(1)).mean()
    torch.testing.assert_close(smoothed.loss(net, x, x_plain, y).loss, printed)
    assert plain.loss(net, x, x_plain, y).loss != smoothed.loss(net, x, x_plain, y).loss


def test_each_norm_has_its_own_default_ball():
    assert AT().threat == ("Linf", 8 / 255, 2 / 255)
    assert AT(norm="L2").threat == ("L2", 128 / 255, 15 / 255)


@pytest.mark.parametrize(
    "wrong", [dict(norm="L1"), dict(eps=0.0), dict(steps=0), dict(step_size=-1.0), dict(label_smoothing=1.0)]
)
def test_an_option_out_of_range_raises_an_error_that_names_it(wrong):
    with pytest.raises(ValueError, match=rf"expected (0 <=? )?{next(iter(wrong))} "):
        AT(**wrong)
