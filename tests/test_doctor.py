"""The doctor: whole installations pass, broken ones are named with their cure."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import rb_smooth
from rb_smooth import doctor
from rb_smooth.__main__ import PROGRAMS
from rb_smooth.core import requirements


def ask(path, *arguments):
    """The doctor's exit code and words, with `path` before everything installed."""
    command = [sys.executable, "-m", "rb_smooth.doctor", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(path)})
    assert "Traceback" not in done.stderr
    return done.returncode, " ".join(done.stdout.split())


@pytest.mark.parametrize("module", ["rb_smooth", *(f"rb_smooth.{module}" for module in PROGRAMS.values())])
def test_a_python_without_the_packages_is_answered_in_one_line(module):
    command = [sys.executable, "-S", "-m", module, "--help"]  # -S: without installed packages
    checkout = str(Path(rb_smooth.__file__).parents[1])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": checkout})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"packages of rb_smooth in {sys.executable}, got none of the name rich; " in done.stderr
    assert "`pip install .`" in done.stderr


def test_importing_without_the_packages_raises_an_error_that_names_the_fix(monkeypatch):
    monkeypatch.setattr(requirements, "_PACKAGES", {"absent_module": "absent-package"})
    with pytest.raises(ModuleNotFoundError, match="got none of the name absent-package; start"):
        requirements.require_packages()


@pytest.mark.slow
def test_a_complete_installation_passes(tmp_path):
    code, said = ask(tmp_path)
    assert code == 0
    assert f"RobustBench: {version('robustbench')}, whole" in said
    assert "pyautoattack" in said


@pytest.mark.slow
def test_torchattacks_stub_over_robustbench_is_fatal_and_its_fix_is_named(tmp_path):
    (tmp_path / "robustbench").mkdir()
    (tmp_path / "robustbench" / "__init__.py").write_text("# from .eval import benchmark\n")
    code, said = ask(tmp_path)
    assert code == 1
    assert "rb_smooth.doctor --repair" in said


@pytest.mark.slow
def test_a_torchvision_that_does_not_fit_torch_is_fatal(tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    code, said = ask(tmp_path)
    assert code == 1
    assert "torchvision::nms" in said
    assert "pip install --force-reinstall torch torchvision" in said


@pytest.mark.slow
def test_an_autoattack_too_old_for_torch_is_fatal_and_its_fix_is_named(tmp_path):
    (tmp_path / "autoattack").mkdir()
    (tmp_path / "autoattack" / "__init__.py").write_text("from torch.autograd.gradcheck import zero_gradients\n")
    code, said = ask(tmp_path)
    assert code == 1
    assert "AutoAttack: cannot import name 'zero_gradients'" in said
    assert said.count("pip uninstall autoattack") == 2  # of RobustBench, too, which imports it
    assert "--repair" not in said


def test_a_stale_timm_is_noted(monkeypatch):
    monkeypatch.setattr(doctor, "requires", lambda _: ["timm==9.9.9"])
    assert doctor._timm().fix == "pip install timm==9.9.9"
    assert not doctor._timm().fatal


def test_no_autoattack_is_fatal(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert doctor._autoattack().fatal
    assert "pip install pyautoattack" in doctor._autoattack().fix


@pytest.mark.parametrize("broken", [True, False])
def test_repair_touches_pip_only_where_something_is_broken(monkeypatch, broken):
    called = []
    finding = doctor.Diagnosis("RobustBench", "x", "cure" if broken else "", fatal=broken)
    monkeypatch.setattr(doctor, "_robustbench", lambda: finding)
    monkeypatch.setattr(
        doctor.subprocess, "run", lambda command: called.append(command) or subprocess.CompletedProcess(command, 0)
    )
    doctor.repair()
    assert bool(called) == broken
    if broken:
        assert {"--force-reinstall", "--no-deps"} <= set(called[0])
        assert called[0][-1].startswith("robustbench==")
