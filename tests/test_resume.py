"""Saved states: written atomically, with a fallback, and rejected if they do not fit or are newer."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from interruptions import stop_after
from tiers import mark_slow_except

from rb_smooth.config.overrides import resolve_config
from rb_smooth.core.errors import Interrupted, UserError
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import split
from rb_smooth.training import loop, validate
from rb_smooth.training.run_folder import resume
from rb_smooth.training.run_folder.resume import load_state
from rb_smooth.training.run_folder.run import Run

CPU = torch.device("cpu")
QUICK = ["data.validation=60", "objective.steps=1", "train.epochs=3", "schedule.drops=[2]", "model.width=2"]

pytestmark = pytest.mark.usefixtures("no_curve_plots")


@pytest.fixture(scope="module")
def data():
    return split(digits(Path("unused")), validation=60, split_seed=0, select="validation", train_examples=200)


@pytest.fixture(scope="module")
def recipe():
    return validate.check_recipe(*resolve_config("digits", "at+awp+ensgd2+wa", [*QUICK, "optimizer.inner_steps=2"]))


@pytest.fixture(scope="module")
def uninterrupted_run(recipe, data, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("runs") / "whole")
    loop.train(recipe, run, data, CPU)
    return run


def stopped_run(recipe, data, path, monkeypatch, batches=7, **options):
    """A run stopped in its third epoch, whose two states are of different moments."""
    run = Run(path)
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        stop_after(patched, batches)
        loop.train(recipe, run, data, CPU, **options)
    return run


def ends_equal(whole, run, recipe, data):
    loop.train(recipe, run, data, CPU)
    for name in ("best", "last"):
        one, other = whole.load(name), run.load(name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert not list(run.path.glob("resume*"))


def test_a_stopped_run_has_two_states_and_a_trained_run_none(recipe, data, tmp_path, monkeypatch, uninterrupted_run):
    run = stopped_run(recipe, data, tmp_path / "run", monkeypatch)
    assert sorted(path.name for path in run.path.glob("resume*")) == ["resume-previous.pt", "resume.pt"]
    (newest, path), previous = load_state(run.path), run.load("resume-previous")
    assert path.name == "resume.pt"
    assert newest["position"][2] > previous["position"][2]
    ends_equal(uninterrupted_run, run, recipe, data)


DAMAGE = {
    "torn": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "one bit": lambda content: bytes([*content[: (i := len(content) // 2)], content[i] ^ 1, *content[i + 1 :]]),
    "rubbish": lambda content: b"rubbish",
}


@pytest.mark.parametrize("damage", mark_slow_except(["one bit"], DAMAGE))
def test_a_damaged_state_falls_back_to_the_previous_one(
    recipe, data, tmp_path, monkeypatch, uninterrupted_run, damage, capsys
):
    run = stopped_run(recipe, data, tmp_path / "run", monkeypatch)
    path = run.path / "resume.pt"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    capsys.readouterr()
    ends_equal(uninterrupted_run, run, recipe, data)
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"skipped: .*resume\.pt.*resuming from resume-previous\.pt", said)


def test_the_new_state_is_loaded_if_the_process_is_killed_between_renames(
    recipe, data, tmp_path, monkeypatch, uninterrupted_run
):
    """Killed after the old state became the previous one, before the new one took its name."""
    run = stopped_run(recipe, data, tmp_path / "run", monkeypatch)
    newest = load_state(run.path)[0]["position"]
    (run.path / "resume.pt").rename(run.path / "resume-new.pt")
    assert run.progress == "begun"
    assert load_state(run.path)[0]["position"] == newest
    ends_equal(uninterrupted_run, run, recipe, data)


def test_if_all_states_are_damaged_one_line_says_so(recipe, data, tmp_path, monkeypatch):
    run = stopped_run(recipe, data, tmp_path / "run", monkeypatch)
    for path in run.path.glob("resume*"):
        path.write_bytes(b"rubbish")
    with pytest.raises(UserError, match=r"resume\.pt.*no other state of this run is intact: use --fresh"):
        loop.train(recipe, run, data, CPU)


def test_a_state_of_a_newer_format_is_rejected(recipe, data, tmp_path, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr(resume, "FORMAT", 99)
        run = stopped_run(recipe, data, tmp_path / "run", monkeypatch)
    with pytest.raises(UserError, match=rf"format {resume.FORMAT} or before in .*resume\.pt, got 99"):
        loop.train(recipe, run, data, CPU)


def test_a_state_of_other_data_is_rejected(recipe, data, tmp_path, monkeypatch):
    run = stopped_run(recipe, data, tmp_path / "run", monkeypatch)
    other = replace(data, train=replace(data.train, y=data.train.y.flip(0)))
    with pytest.raises(UserError, match=r"images and labels of the run in .* \(SHA-256 [0-9a-f]{8}…\)"):
        loop.train(recipe, run, other, CPU)


def test_states_are_saved_at_the_given_interval_within_an_epoch(recipe, data, tmp_path, monkeypatch):
    positions, real = [], resume.save_state
    monkeypatch.setattr(
        loop, "save_state", lambda folder, state: (positions.append(state["position"][2]), real(folder, state))
    )
    loop.train(recipe, Run(tmp_path / "often"), data, CPU, saved_every_s=0)
    assert positions == [1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9]
    positions.clear()
    loop.train(recipe, Run(tmp_path / "seldom"), data, CPU)
    assert positions == [3, 6, 9]


def test_incomplete_files_of_a_killed_process_are_deleted(tmp_path):
    run = Run(tmp_path / "run")
    run.path.mkdir()
    (run.path / ".resume-new.pt.abcd1234").write_bytes(b"half")
    with run.locked():
        assert not list(run.path.glob(".*.pt.*"))


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_complete_state(recipe, data, tmp_path, monkeypatch, uninterrupted_run):
    run = stopped_run(recipe, data, tmp_path / "run", monkeypatch)
    before = load_state(run.path)[0]["position"]

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr("os.fsync", full)
        loop.train(recipe, run, data, CPU)
    assert load_state(run.path)[0]["position"] == before
    ends_equal(uninterrupted_run, run, recipe, data)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_a_run_killed_at_random_moments_resumes_to_identical_results():
    script = Path(__file__).parent / "stress" / "kill.py"
    ran = subprocess.run([sys.executable, script, "--moments", "5"], capture_output=True, text=True)
    assert "5 of 5 identical" in ran.stdout, ran.stdout + ran.stderr
