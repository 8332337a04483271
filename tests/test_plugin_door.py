"""What other packages import: `rb_smooth.plugin`, and for one version the paths that documents of 0.1 promised."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import rb_smooth
from rb_smooth import plugin

PROMISED = {
    "rb_smooth.objectives.at.AT": rb_smooth.AT,
    "rb_smooth.optimizers.entropy_sgd.EntropySGD": rb_smooth.EntropySGD,
    "rb_smooth.perturbations.awp.AWP": rb_smooth.AWP,
    "rb_smooth.averaging.ema.EMA": rb_smooth.EMA,
    "rb_smooth.processes.average": plugin.all_reduce_mean,
    "rb_smooth.weights.shifted": plugin.perturbed,
    "rb_smooth.batchnorm.frozen_running_stats": plugin.frozen_running_stats,
    "rb_smooth.ranges.at_least": plugin.at_least,
    "rb_smooth.attacks.pgd": plugin.pgd,
    "rb_smooth.contracts.Outcome": plugin.Outcome,
    "rb_smooth.settings.gather": importlib.import_module("rb_smooth.config.overrides").resolve_config,
}


def test_every_name_of_the_door_exists():
    assert all(hasattr(plugin, name) for name in plugin.__all__)


@pytest.mark.parametrize("path", PROMISED)
def test_a_promised_path_forwards_with_a_warning(path):
    module, _, name = path.rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{path} is now rb_smooth"):
        assert getattr(importlib.import_module(module), name) is PROMISED[path]


def test_every_new_path_of_the_table_exists():
    package = Path(rb_smooth.__file__).parent
    paths = json.loads((package / "core/old_paths.json").read_text())
    places = [package.joinpath(*new.split(".")) for new in paths.values()]
    assert not [place for place in places if not (place.is_dir() or place.with_suffix(".py").exists())]


@pytest.mark.parametrize(("old", "new"), [("session", "training.trainer"), ("board.ranking", "leaderboard.reports")])
def test_any_other_old_path_fails_and_names_the_new_one(old, new):
    with pytest.raises(ImportError, match=rf"it is now rb_smooth\.{new}"):
        importlib.import_module(f"rb_smooth.{old}")


def test_the_package_itself_uses_no_old_path():
    code = "import rb_smooth.recipe, rb_smooth.plugin, rb_smooth.api, rb_smooth.leaderboard.__main__"
    command = [sys.executable, "-W", "error::DeprecationWarning:rb_smooth", "-c", code]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_what_never_existed_is_no_module():
    with warnings.catch_warnings(), pytest.raises(ModuleNotFoundError):
        importlib.import_module("rb_smooth.never_there")
