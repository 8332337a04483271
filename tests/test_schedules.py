"""The one-cycle schedule: torch's shape, its end points, and invalid options."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from rb_smooth.components import schedules
from rb_smooth.config.registry import build_component
from rb_smooth.core.errors import UserError


def test_one_cycle_is_torchs_over_a_long_run():
    steps, peak = 10_000, 0.21
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peak, total_steps=steps, cycle_momentum=False)
    ours = schedules.one_cycle()
    gaps = []
    for step in range(steps):
        gaps.append(abs(peak * ours(10 * step / steps, 10) - optimizer.param_groups[0]["lr"]))
        optimizer.step()
        theirs.step() if step + 1 < steps else None
    assert max(gaps) < 0.01 * peak


def test_one_cycle_starts_low_peaks_at_1_and_ends_near_0():
    factor = schedules.one_cycle()
    assert factor(0, 30) == pytest.approx(0.04)
    assert factor(9, 30) == pytest.approx(1)
    assert factor(30, 30) == pytest.approx(4e-6)
    assert factor(31, 30) == factor(30, 30)
    ramp = schedules.one_cycle(peak=0.5, start=0.2, end=0.1)
    assert [ramp(epoch, 8) for epoch in (0, 2, 4, 6, 8)] == pytest.approx([0.2, 0.6, 1, 0.55, 0.1])


def test_one_cycle_rises_and_falls_without_a_jump():
    rates = [schedules.one_cycle()(step / 100, 10) for step in range(1001)]
    assert max(abs(one - other) for one, other in pairwise(rates)) < 0.006
    assert rates[:301] == sorted(rates[:301])
    assert rates[300:] == sorted(rates[300:], reverse=True)


@pytest.mark.parametrize("wrong", [{"peak": 0}, {"peak": 1}, {"start": -0.1}, {"start": 1.1}, {"end": -1}, {"end": 2}])
def test_an_invalid_one_cycle_option_raises_an_error_that_names_it(wrong):
    with pytest.raises(UserError, match=rf"schedule one_cycle: .*{next(iter(wrong))}"):
        build_component("schedule", "one_cycle", wrong)
