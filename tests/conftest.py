"""What several tests share: a tiny net with BatchNorm, a tiny batch, one thread."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys

import pytest
import torch
from digits_run import digits_run
from fake_plugins import PackageSite
from few_iterations import with_few_iterations
from matplotlib.figure import Figure

import rb_smooth  # noqa: F401  (installs the bridge before anything imports robustbench)
from rb_smooth.components.conformance.fixtures import small_batch, small_net
from rb_smooth.components.models import Normalized
from rb_smooth.core import environment, robustbench
from rb_smooth.core.console import console

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell, which tests of Ctrl-C cannot be
    signal.signal(signal.SIGINT, signal.default_int_handler)  # nor, therefore, the programs that they start
torch.set_num_threads(1)  # as in the programs for nets this small; two test workers share two cores


def pytest_configure(config):
    config.crash_output = os.dup(2)  # before the tests' output is captured


def pytest_collection_finish(session):
    session.config.trace = sys.gettrace()  # coverage's, where it is measured


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    sys.settrace(item.config.trace)  # pyautoattack, called plainly as in some tests, ends by switching it off
    faulthandler.enable(item.config.crash_output)  # a run carried out in this process had it write into its folder


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _restore_verbosity(monkeypatch):
    """Programs that run in this process leave it as talkative as they found it, and on stdout."""
    monkeypatch.setattr(environment, "verbosity", environment.verbosity)
    monkeypatch.setattr(environment, "as_script", environment.as_script)
    monkeypatch.setattr(console, "stderr", console.stderr)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """The folder of one finished run of digits (digits_run.py), which no test may change."""
    return digits_run(tmp_path_factory)


@pytest.fixture
def package_site(tmp_path, monkeypatch):
    """A folder of packages, from which this process imports for a while; nothing is in it yet."""
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(place)
    site = PackageSite(place)
    yield site
    site.close()


@pytest.fixture
def no_curve_plots(monkeypatch):
    """Runs without a picture of their curves, which takes longer than a run of a tiny net (test_curves.py has it)."""
    monkeypatch.setattr("rb_smooth.training.run_folder.reporting.draw_curves", lambda logs, path: None)


@pytest.fixture
def short_attacks(monkeypatch):
    """AutoAttack's four attacks with few iterations, in this process."""
    monkeypatch.setattr(robustbench, "standard_attacks", with_few_iterations(robustbench.standard_attacks))


@pytest.fixture
def drawn_figures(monkeypatch):
    """The figures drawn, to be looked into."""
    drawn = []

    class Watched(Figure):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            drawn.append(self)

    monkeypatch.setattr("matplotlib.figure.Figure", Watched)
    return drawn


@pytest.fixture
def net() -> Normalized:
    """Small, and yet convolution, BatchNorm and a linear layer, for (B, 2, 6, 6) images of 5 classes."""
    return small_net()


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return small_batch()
