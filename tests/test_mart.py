"""MART: its printed equation, term by term."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from reference_attacks import pgd, pgd_from_normal_start, pgd_l2, reference_kl

from rb_smooth.components.objectives.mart import MART, boosted_cross_entropy


@pytest.mark.parametrize(("norm", "printed"), [("Linf", pgd), ("L2", pgd_l2)])
def test_crafting_is_pgd_on_cross_entropy_in_eval_mode(net, batch, norm, printed):
    torch.manual_seed(1)
    x_adv = MART(norm=norm, eps=0.2, step_size=0.05, steps=5).craft(net, *batch)
    net.eval()
    torch.manual_seed(1)
    torch.testing.assert_close(x_adv, printed(net, *batch, 0.2, 0.05, 5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_from_a_normal_start_crafting_is_pgd_from_0001_times_a_normal_deviate(net, batch, norm):
    x, y = batch
    torch.manual_seed(1)
    x_adv = MART(norm=norm, eps=0.2, step_size=0.05, steps=5, start="normal").craft(net, x, y)
    net.eval()
    torch.manual_seed(1)
    torch.testing.assert_close(x_adv, pgd_from_normal_start(net, x, y, 0.2, 0.05, 5, norm), rtol=0, atol=1e-5)
    assert 0 <= x_adv.min() <= x_adv.max() <= 1
    for steps in (1, 2):  # the step is much longer than the start's distance
        x_adv = MART(norm=norm, eps=1.0, step_size=0.05, steps=steps, start="normal").craft(net, x.clamp(0.3, 0.7), y)
        moved = x_adv - x.clamp(0.3, 0.7)
        size = moved.abs().amax(dim=(1, 2, 3)) if norm == "Linf" else moved.flatten(1).norm(dim=1)
        assert (size <= 0.05 * steps + 0.05).all()


@pytest.mark.parametrize(("wrong_by", "ours", "theirs"), [(12.0, 24.0, 21.15), (0.0, 1.386, 1.386), (-12.0, 0.0, 0.0)])
def test_the_authors_constants_bound_the_boosted_cross_entropy_of_two_classes(wrong_by, ours, theirs):
    """The figures of the module's docstring: log(1.0001 - p) is at least log(1e-4)."""
    logits, y = torch.tensor([[0.0, wrong_by]], dtype=torch.float64), torch.tensor([0])
    p = logits.softmax(1)
    with_constants = -p[:, 0].log() - (1.0001 - p[:, 1] + 1e-12).log()
    assert boosted_cross_entropy(logits, y).item() == pytest.approx(ours, abs=0.01)
    assert with_constants.item() == pytest.approx(theirs, abs=0.01)


def printed_loss(p_clean, p_attacked, y, beta):
    rows = torch.arange(len(y))
    rivals = p_attacked.clone()
    rivals[rows, y] = -1
    boosted = -p_attacked[rows, y].log() - (1 - rivals.max(1).values).log()
    return boosted, reference_kl(p_clean, p_attacked), 1 - p_clean[rows, y], beta


def test_the_loss_is_its_printed_equation_term_by_term(net, batch):
    x, y = batch
    objective = MART(eps=0.2, step_size=0.05, beta=3.0)
    x_adv = objective.craft(net, x, y)
    outcome = objective.loss(net, x, x_adv, y)
    boosted, divergence, unsure, beta = printed_loss(net(x).softmax(1), net(x_adv).softmax(1), y, 3.0)
    torch.testing.assert_close(boosted_cross_entropy(outcome.logits, y), boosted)
    torch.testing.assert_close(outcome.loss, (boosted + beta * divergence * unsure).mean())
    torch.testing.assert_close(outcome.logits, net(x_adv))
    assert divergence.mean() > 1e-3
    assert unsure.min() > 0


def test_the_gradient_flows_through_every_term(net, batch):
    x, y = batch
    objective = MART(eps=0.2, step_size=0.05)
    x_adv = objective.craft(net, x, y)
    parameters = list(net.parameters())
    ours = torch.autograd.grad(objective.loss(net, x, x_adv, y).loss, parameters)
    boosted, divergence, unsure, beta = printed_loss(net(x).softmax(1), net(x_adv).softmax(1), y, 5.0)
    for held in (None, "divergence", "unsure"):
        terms = {"divergence": divergence, "unsure": unsure}
        if held:
            terms[held] = terms[held].detach()
        loss = (boosted + beta * terms["divergence"] * terms["unsure"]).mean()
        expected = torch.autograd.grad(loss, parameters, retain_graph=True)
        largest = max((a - b).abs().max() for a, b in zip(ours, expected))
        assert (largest < 1e-4) == (held is None)


def test_for_clean_images_the_loss_is_the_boosted_cross_entropy(net, batch):
    x, y = batch
    torch.testing.assert_close(MART().loss(net, x, x.clone(), y).loss, boosted_cross_entropy(net(x), y).mean())


def test_the_rival_is_the_likeliest_wrong_class_and_never_the_right_one():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])
    y = torch.tensor([0, 0])
    p = logits.softmax(1)
    expected = -p[[0, 1], y].log() - (1 - p[[0, 1], [2, 1]]).log()
    torch.testing.assert_close(boosted_cross_entropy(logits, y), expected)


def test_the_boosted_cross_entropy_is_finite_where_the_printed_formula_is_not():
    logits = torch.tensor([[-1e4, 1e4, 0.0], [0.0, 300.0, 0.0]], requires_grad=True)
    y = torch.tensor([0, 0])
    loss = boosted_cross_entropy(logits, y)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()
    assert (1 - logits.softmax(1)[:, 1]).log().isinf().all()


def test_two_classes_are_enough():
    logits, y = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    torch.testing.assert_close(boosted_cross_entropy(logits, y), 2 * F.cross_entropy(logits, y, reduction="none"))


@pytest.mark.parametrize(
    "wrong", [dict(norm="L1"), dict(eps=0.0), dict(step_size=-1.0), dict(steps=0), dict(beta=-1.0)]
)
def test_an_option_out_of_range_raises_an_error_that_names_it(wrong):
    with pytest.raises(ValueError, match=rf"expected (0 <=? )?{next(iter(wrong))} "):
        MART(**wrong)
