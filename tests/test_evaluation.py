"""Accuracies are correct, and measuring them changes no other state."""

from __future__ import annotations

import sys

import pytest
import torch
from model_snapshots import equal_snapshots, snapshot
from pyautoattack import checks

from rb_smooth.core import statistics
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images
from rb_smooth.evaluation import accuracy

LINF, L2 = Threat("Linf", 0.02, 0.005), Threat("L2", 0.15, 0.04)


@pytest.fixture
def points(net):
    """Points that the net gets mostly right, so that attacks have something to break."""
    x = torch.randint(0, 256, (24, 2, 6, 6), dtype=torch.uint8)
    y = net.eval()(x.float() / 255).argmax(1)
    y[0] = (y[0] + 1) % 5
    return Images(x, y)


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


def test_accuracy_is_the_share_of_right_answers_and_pgd_lowers_it(net, points):
    assert accuracy.measure_accuracy(net, points, batch_size=5) == 23 / 24
    attacked = accuracy.measure_accuracy(net, points, Threat("Linf", 0.1, 0.02), batch_size=5)
    assert attacked < 12 / 24
    assert attacked == accuracy.measure_accuracy(net, points, Threat("Linf", 0.1, 0.02), batch_size=5)  # seeded


def test_accuracy_leaves_no_trace(net, points):
    net.train()
    before, random = snapshot(net), torch.random.get_rng_state()
    accuracy.measure_accuracy(net, points, LINF)
    assert equal_snapshots(before, snapshot(net))
    assert torch.equal(random, torch.random.get_rng_state())


def test_the_interval_is_wilsons():
    n, share, z = 200, 0.4, 1.959963984540054
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    assert statistics.wilson_interval(share * n, n) == pytest.approx((centre - half, centre + half))
