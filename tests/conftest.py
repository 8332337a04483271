"""What several tests share: a tiny net with BatchNorm, a tiny batch, one thread."""

from __future__ import annotations

import pytest
import torch
from brief import shortened
from torch import nn

import rb_smooth  # noqa: F401  (installs the bridge before anything imports robustbench)
from rb_smooth import bridge
from rb_smooth.models import Normalized

torch.set_num_threads(1)  # as in the programs for nets this small; two test workers share two cores


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from dealing import Dealing

    return Dealing(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def undrawn(monkeypatch):
    """Runs without a picture of their curves, which takes longer than a run of a tiny net (test_curves.py has it)."""
    monkeypatch.setattr("rb_smooth.reports.draw_curves", lambda logs, path: None)


@pytest.fixture
def short_attacks(monkeypatch):
    """AutoAttack's four attacks with few iterations, in this process."""
    monkeypatch.setattr(bridge, "standard_attacks", shortened(bridge.standard_attacks))


@pytest.fixture
def net() -> Normalized:
    """Small, and yet convolution, BatchNorm and a linear layer, for (B, 2, 6, 6) images of 5 classes."""
    inner = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    )
    model = Normalized(inner, [0.4, 0.5], [0.3, 0.2])
    with torch.no_grad():  # running statistics that are not their initial values
        for _ in range(3):
            model(torch.rand(16, 2, 6, 6))
    return model


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(12, 2, 6, 6), torch.arange(12) % 5
