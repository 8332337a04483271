"""Evaluation: AutoAttack's flags are pyautoattack's bit for bit, accuracies are what they say, nothing is disturbed."""

from __future__ import annotations

import sys

import pytest
import torch
from pyautoattack import AutoAttack, checks
from rich.progress import Progress
from traces import same, snapshot

from rb_smooth import bridge, evaluation
from rb_smooth.contracts import Threat
from rb_smooth.data import Images

LINF, L2 = Threat("Linf", 0.02, 0.005), Threat("L2", 0.15, 0.04)


@pytest.fixture
def points(net):
    """Points that the net gets mostly right, so that attacks have something to break."""
    x = torch.randint(0, 256, (24, 2, 6, 6), dtype=torch.uint8)
    y = net.eval()(x.float() / 255).argmax(1)
    y[0] = (y[0] + 1) % 5
    return Images(x, y)


@pytest.mark.parametrize("threat", [LINF, L2], ids=["Linf", "L2"])
def test_flags_are_those_of_pyautoattack_at_equal_batch_size_and_seed(net, points, threat):
    x, y = points.x.float() / 255, points.y
    theirs = AutoAttack(net.eval(), norm=threat.norm, eps=threat.eps, seed=3, version="standard")
    theirs.apgd_targeted.n_target_classes = theirs.fab.n_target_classes = 4  # five classes
    _, y_adv = theirs.run_standard_evaluation(x, y, batch_size=10)
    ours = evaluation.autoattack(net, points, threat, classes=5, batch_size=10, seed=3)
    assert torch.equal(ours.robust, y_adv == y)
    assert 0 < ours.robust.float().mean() < ours.clean == 23 / 24
    shares = [ours.clean, *(result.robust for result in ours.attacks.values())]
    assert shares == sorted(shares, reverse=True)
    assert list(ours.attacks) == ["apgd-ce", "apgd-t", "fab-t", "square"]


def test_a_model_without_robust_points_is_scored_zero(net, points):
    wrong = Images(points.x, (points.y + 1) % 5)
    result = evaluation.autoattack(net, wrong[1:], LINF, classes=5, batch_size=10, seed=0)
    assert result.clean == 0
    assert not result.robust.any()


def test_autoattack_leaves_model_and_random_state_as_found(net, points):
    net.train()
    before, random = snapshot(net), torch.random.get_rng_state()
    evaluation.autoattack(net, points[:4], LINF, classes=5, batch_size=10, seed=0)
    assert same(before, snapshot(net))
    assert torch.equal(random, torch.random.get_rng_state())


def test_robustbenchs_own_use_of_autoattack_disturbs_nothing_either(net, points):
    """Its check for dynamic defences ends with no tracer at all, and counts calls for the life of the process."""
    import autoattack

    def tracer(*_):
        return None

    counts, random, before = dict(checks.funcs), torch.random.get_rng_state(), sys.gettrace()
    adversary = autoattack.AutoAttack(
        net.eval(), "Linf", 0.02, verbose=False, attacks_to_run=["apgd-ce"], version="custom", device="cpu"
    )
    sys.settrace(tracer)
    try:
        adversary.run_standard_evaluation(points.x[:4].float() / 255, points.y[:4])
        found = sys.gettrace()
    finally:
        sys.settrace(before)
    assert found is tracer
    assert checks.funcs == counts
    assert torch.equal(random, torch.random.get_rng_state())


def test_the_seed_reaches_every_attack(net, points, monkeypatch):
    attacks = bridge.standard_attacks(net, LINF, 5, 3, torch.device("cpu"))
    assert [attack.__self__.seed for attack in attacks.values()] == [3] * 4
    given = []
    monkeypatch.setattr(bridge, "standard_attacks", lambda *arguments: given.append(arguments) or {})
    evaluation.autoattack(net, points, LINF, classes=5, batch_size=10, seed=7)
    assert given[0][1:4] == (LINF, 5, 7)


def test_no_attack_makes_more_passes_than_its_bar_foresees(net, points):
    """The bars' totals are upper bounds, and not far off."""
    bars, steps = Progress(disable=True), {}
    bars.add_task = lambda name, total: steps.setdefault(name, [0, total]) and name
    bars.advance = lambda name: steps[name].__setitem__(0, steps[name][0] + 1)
    bars.remove_task = lambda name: None
    easy = Threat("Linf", 1e-6, 1e-6)  # every point survives every attack
    result = evaluation.autoattack(net, points[1:], easy, classes=5, batch_size=32, seed=0, bars=bars)
    assert result.robust.all()
    for name, (made, foreseen) in steps.items():
        assert 0.4 * foreseen <= made <= foreseen, name  # five classes: four of nine targets


def test_accuracy_is_the_share_of_right_answers_and_pgd_lowers_it(net, points):
    assert evaluation.accuracy(net, points, batch_size=5) == 23 / 24
    attacked = evaluation.accuracy(net, points, Threat("Linf", 0.1, 0.02), batch_size=5)
    assert attacked < 12 / 24
    assert attacked == evaluation.accuracy(net, points, Threat("Linf", 0.1, 0.02), batch_size=5)  # seeded


def test_accuracy_leaves_no_trace(net, points):
    net.train()
    before, random = snapshot(net), torch.random.get_rng_state()
    evaluation.accuracy(net, points, LINF)
    assert same(before, snapshot(net))
    assert torch.equal(random, torch.random.get_rng_state())


def test_the_interval_is_wilsons():
    n, share, z = 200, 0.4, 1.959963984540054
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    assert evaluation.interval(share, n) == pytest.approx((centre - half, centre + half))
