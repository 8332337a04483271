"""The AWP authors' step, the reference for speed, computes the same attack, direction and update as ours."""

from __future__ import annotations

import copy

import pytest
import torch
from authors_step import AuthorsStep

from rb_smooth.components.averaging.none import Unaveraged
from rb_smooth.components.objectives.at import AT
from rb_smooth.components.objectives.trades import TRADES
from rb_smooth.components.optimizers.sgd import SGD
from rb_smooth.components.perturbations.awp import AWP
from rb_smooth.components.perturbations.none import Unperturbed
from rb_smooth.training.step import training_step

LR, DECAY = 0.1, 5e-4
OURS = {"at": AT, "trades": TRADES}


class FixedAdversarialExamples:
    """One of our objectives with given adversarial examples."""

    def __init__(self, objective, x_adv):
        self.loss, self.x_adv, self.threat = objective.loss, x_adv, objective.threat

    def craft(self, model, x, y):
        return self.x_adv


@pytest.fixture
def float64_net(net, batch):
    """A float64 network, images and labels."""
    return net.double().train(), batch[0].double(), batch[1]


@pytest.mark.parametrize("objective", ["at", "trades"])
def test_the_direction_times_gamma_is_the_shift_of_awp(float64_net, objective):
    net, x, y = float64_net
    theirs = AuthorsStep(copy.deepcopy(net), objective=objective, gamma=0.01)
    x_adv = theirs.craft(x, y)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    theirs.update(x, x_adv, y)
    with AWP(gamma=0.01)(net, lambda: OURS[objective]().loss(net, x, x_adv, y).loss):
        for name, p in net.named_parameters():
            shift = 0.01 * theirs.v[name] if name in theirs.v else torch.zeros_like(p)
            torch.testing.assert_close(p.detach() - before[name], shift, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.01])
@pytest.mark.parametrize("objective", ["at", "trades"])
def test_the_update_is_ours_except_for_weight_decay_at_w_plus_v(float64_net, objective, gamma):
    """The difference is lr * wd * gamma * v, and nothing without AWP."""
    net, x, y = float64_net
    theirs = AuthorsStep(copy.deepcopy(net), objective=objective, gamma=gamma, lr=LR, weight_decay=DECAY)
    x_adv = theirs.craft(x, y)
    before = [p.detach().clone() for p in net.parameters()]
    theirs.update(x, x_adv, y)
    ours = SGD(net.parameters(), lr=LR, momentum=0.9, weight_decay=DECAY)
    perturbation = AWP(gamma=gamma) if gamma else Unperturbed()
    training_step(net, FixedAdversarialExamples(OURS[objective](), x_adv), perturbation, ours, Unaveraged(), x, y, 0)
    for (name, p), q, w in zip(net.named_parameters(), theirs.model.parameters(), before):
        decayed = LR * DECAY * gamma * theirs.v[name] if name in theirs.v else torch.zeros_like(p)
        torch.testing.assert_close(p.detach() - q.detach(), decayed, rtol=0, atol=1e-12)
        assert (p - w).norm() > 1e-6 * w.norm()


@pytest.mark.parametrize("objective", ["at", "trades"])
def test_the_attack_stays_in_the_ball_and_raises_the_loss_as_ours_does(net, batch, objective):
    net, (x, y) = net.train(), batch
    theirs = AuthorsStep(copy.deepcopy(net), objective=objective)
    x_adv = theirs.craft(x, y)
    assert ((x_adv - x).abs() <= 8 / 255 + 1e-6).all()
    assert ((x_adv >= 0) & (x_adv <= 1)).all()
    ours = OURS[objective]()
    losses = [ours.loss(net, x, each, y).loss.item() for each in (x, x_adv, ours.craft(net, x, y))]
    assert losses[1] - losses[0] == pytest.approx(losses[2] - losses[0], rel=0.1)


def test_the_attack_of_at_computes_parameter_gradients(net, batch):
    theirs = AuthorsStep(net.train())
    theirs.craft(*batch)
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
