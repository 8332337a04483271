"""The list says what each run folder holds and breaks at none; runs are compared in figures and in curves."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from fake_logs import SCORE, log_rows, write_run
from run_program import run_program

from rb_smooth import runs
from rb_smooth.config import yaml
from rb_smooth.core import crashes
from rb_smooth.core.errors import UserError
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.run_folder.summary import Summary, find_run, summarise


def program(*arguments):
    """The program's exit code, in this process."""
    return run_program(runs.main, *arguments)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with runs in several states."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs/cifar10/at-s0", epochs=200)
    write_run(tmp_path / "runs/digits/at-s0", log_rows(3), score=SCORE)
    write_run(tmp_path / "runs/digits/at-s1", log_rows(3), epochs=9, lr=0.05).path.joinpath("resume.pt").touch()
    write_run(tmp_path / "runs/digits/at+awp-s0", log_rows(3)).path.joinpath("last.pt").touch()
    broken = write_run(tmp_path / "runs/digits/broken-s0", log_rows(3)).path / "log.csv"
    broken.write_text(broken.read_text()[:-9])
    return tmp_path


def listed_runs(capsys):
    assert program("--json") == 0
    return {each["name"]: each for each in json.loads(capsys.readouterr().out)}


def test_every_run_is_listed_with_its_state(home, capsys):
    assert {name: each["state"] for name, each in listed_runs(capsys).items()} == {
        "cifar10/at-s0": "new",
        "digits/at+awp-s0": "trained",
        "digits/at-s0": "evaluated",
        "digits/at-s1": "stopped",
        "digits/broken-s0": "damaged",
    }


def test_a_run_whose_lock_is_held_is_training_or_evaluating_now(home, capsys):
    with Run(home / "runs/digits/at-s1").locked(), Run(home / "runs/digits/at-s0").locked():
        found = listed_runs(capsys)
    assert found["digits/at-s1"]["state"] == "training"
    assert found["digits/at-s0"]["state"] == "evaluating"
    assert listed_runs(capsys)["digits/at-s1"]["state"] == "stopped"


WORK = """
import os, sys
from pathlib import Path
from rb_smooth.core import crashes
from rb_smooth.core.errors import UserError
from rb_smooth.training.run_folder.run import Run
run = Run(Path(sys.argv[1]))
with run.locked(), crashes.record_crash_trace(run.crash_file):
    os.kill(os.getpid(), int(sys.argv[2]))
"""
"""A process that works on a run, as the pipeline does, and ends by a signal."""


def worked_on(path, number):
    ended = subprocess.run([sys.executable, "-c", WORK, str(path), str(int(number))], capture_output=True)
    assert ended.returncode == -number, ended.stderr


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE"])
def test_a_run_whose_process_crashed_is_listed_as_crashed(home, capsys, name):
    worked_on(home / "runs/digits/at-s1", signal.Signals[name])
    found = listed_runs(capsys)
    assert (found["digits/at-s1"]["state"], found["digits/at-s1"]["crash"]) == ("crashed", name)
    assert found["digits/at-s1"]["epochs_done"] == 3
    assert {each["crash"] for each in found.values() if each["name"] != "digits/at-s1"} == {None}


def test_a_run_whose_process_was_killed_is_listed_as_stopped(home, capsys):
    worked_on(home / "runs/digits/at-s1", signal.SIGKILL)
    assert (home / "runs/digits/at-s1/crash.txt").read_bytes() == b""
    assert listed_runs(capsys)["digits/at-s1"]["state"] == "stopped"


def test_a_process_that_crashes_before_it_wrote_the_recipe_leaves_a_crashed_run(home, capsys):
    worked_on(home / "runs/digits/at-s9", signal.SIGABRT)
    found = listed_runs(capsys)["digits/at-s9"]
    assert (found["state"], found["crash"], found["damage"], found["epochs"]) == ("crashed", "SIGABRT", None, None)


def test_below_the_table_stand_the_signal_of_a_crash_and_the_cure(home, capsys):
    Run(home / "runs/digits/at-s1").record_crash("SIGSEGV")
    assert program() == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("crashed")]
    assert line == (
        "crashed: runs/digits/at-s1, by SIGSEGV in native code, see crash.txt there; on a CPU set "
        "ONEDNN_MAX_CPU_ISA=AVX and repeat the command; python -m rb_smooth.doctor checks what is installed"
    )


def test_a_crash_is_forgotten_when_the_run_is_taken_up_again(home, capsys):
    run = Run(home / "runs/digits/at-s1")
    run.record_crash("SIGABRT")
    with run.locked(), crashes.record_crash_trace(run.crash_file):
        assert listed_runs(capsys)["digits/at-s1"]["state"] == "training"
        assert run.crash is None
        assert run.crash_file.exists()
    assert listed_runs(capsys)["digits/at-s1"]["state"] == "stopped"
    assert not run.crash_file.exists()


def test_the_trace_of_another_process_of_the_run_is_kept(home):
    run = Run(home / "runs/digits/at-s1")
    with run.locked():
        run.record_crash("SIGSEGV")
    assert run.crash == "SIGSEGV"


def test_where_the_run_has_no_folder_nothing_is_recorded(tmp_path):
    with crashes.record_crash_trace(tmp_path / "elsewhere" / "crash.txt"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_crash_is_recorded_once_and_its_trace_is_not_lost(tmp_path):
    run = Run(tmp_path)
    run.record_crash("SIGABRT")
    run.record_crash("SIGSEGV")
    assert run.crash == "SIGABRT"


@pytest.mark.parametrize("content", [b"\xff\x00\xfe", b"\n", b"Fatal Python error: of a kind that is new"])
def test_a_damaged_trace_is_a_crash_by_an_unknown_signal(home, capsys, content):
    (home / "runs/digits/at-s1/crash.txt").write_bytes(content)
    found = listed_runs(capsys)["digits/at-s1"]
    assert (found["state"], found["crash"]) == ("crashed", "an unknown signal")
    assert program() == 0


def test_a_folder_in_the_place_of_a_trace_is_none(home, capsys):
    (home / "runs/digits/at-s1/crash.txt").mkdir()
    assert listed_runs(capsys)["digits/at-s1"]["state"] == "stopped"


def test_looking_at_a_run_leaves_it_as_it_was(home, capsys):
    run = Run(home / "runs/digits/at-s1")
    before = {path: path.stat().st_mtime_ns for path in run.path.iterdir()}
    listed_runs(capsys)
    assert {path: path.stat().st_mtime_ns for path in run.path.iterdir()} == before
    with run.locked():
        pass


def test_figures_are_of_the_best_epoch_and_the_gap_of_the_last(home, capsys):
    found = listed_runs(capsys)
    evaluated, stopped = found["digits/at-s0"], found["digits/at-s1"]
    assert (stopped["epochs_done"], stopped["epochs"], stopped["best_epoch"]) == (3, 9, 2)
    assert (stopped["val_clean"], stopped["val_robust"], stopped["test_clean"]) == (0.61, 0.5, None)
    assert (stopped["gap"], stopped["gap_on"]) == (pytest.approx(0.02), "validation")
    assert [evaluated[f"test_{key}"] for key in ("clean", "pgd20", "autoattack", "points")] == [0.9, 0.55, 0.5, 360]
    assert (evaluated["gap"], evaluated["gap_on"]) == (pytest.approx(0.03), "test")


def test_the_table_names_what_is_damaged_and_goes_on(home, capsys):
    assert program() == 0
    out = capsys.readouterr().out
    (row,) = [line.split() for line in out.splitlines() if line.startswith("at-s0") and "evaluated" in line]
    assert row[:9] == ["at-s0", "evaluated", "3/3", "61.0", "50.0", "90.0", "55.0", "50.0", "+3.0"]
    assert "damaged: expected a run's log in runs/digits/broken-s0/log.csv" in out


@pytest.mark.parametrize(
    ("file", "content"),
    [
        *(("recipe.yaml", "{"), ("recipe.yaml", "- 1\n"), ("recipe.yaml", None)),
        *(("score.json", "{"), ("score.json", json.dumps({**SCORE, "last": 3})), ("log.csv", "")),
    ],
)
def test_no_damage_is_fatal(home, capsys, file, content):
    path = home / "runs/digits/at-s0" / file
    path.unlink() if content is None else path.write_text(content)
    damaged = listed_runs(capsys)["digits/at-s0"]
    assert damaged["state"] == "damaged"
    assert file in damaged["damage"]


def test_a_recipe_that_was_cut_off_is_a_users_error(home):
    run = Run(home / "runs/digits/at-s0")
    run.path.joinpath("recipe.yaml").write_text("name: digits/at\nrun: 0123456789abcdef\ndata: {name: digits}\n")
    with pytest.raises(UserError, match="expected a whole recipe"):
        run.recipe  # noqa: B018


def test_the_table_is_readable_at_80_columns(home):
    environment = os.environ | {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run([sys.executable, "-m", "rb_smooth.runs"], capture_output=True, text=True, env=environment)
    lines = done.stdout.splitlines()
    assert "evaluated" in done.stdout
    assert all(len(line) <= 80 for line in lines if not line.startswith(("damaged", "Percent")))


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_where_there_are_no_runs_one_line_says_what_to_do(tmp_path, monkeypatch, capsys, folder):
    monkeypatch.chdir(tmp_path)
    assert program("--runs", folder) == 2
    assert "got none; train one (python -m rb_smooth.recipe digits at), or set --runs" in capsys.readouterr().err
    assert program("--runs", folder, "--json") == (0 if folder == "." else 2)
    assert capsys.readouterr().out == ("[]\n" if folder == "." else "")


def test_twenty_runs_are_listed_quickly_and_without_torch_or_matplotlib(tmp_path):
    """Quickly: in at most ten times what reading their files takes on the same machine."""
    found = [
        write_run(tmp_path / f"digits/at-s{n}", log_rows(200, best=150), epochs=200, score=SCORE) for n in range(20)
    ]

    def read_plainly():
        for run in found:
            yaml.parse_yaml((run.path / "recipe.yaml").read_text(), "recipe.yaml")
            json.loads((run.path / "score.json").read_text())
            for row in csv.DictReader((run.path / "log.csv").open()):
                {key: value if value in ("True", "False") else float(value) for key, value in row.items()}

    assert program("--runs", tmp_path) == 0  # imports included, which are made once
    start = time.process_time()
    assert program("--runs", tmp_path) == 0
    listed_at = time.process_time()
    read_plainly()
    assert listed_at - start < 10 * (time.process_time() - listed_at)
    code = "import sys; from rb_smooth import runs; runs.main(); assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code, "--runs", str(tmp_path)], check=True, capture_output=True)


def test_runs_are_compared_in_figures_settings_and_one_picture(home, capsys):
    assert program("compare", "digits/at-s0", "runs/digits/at-s1/", "--out", "pictures/both.png") == 0
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines() if "optimizer" in line] == [["optimizer.lr", "0.1", "0.05"]]
    assert [line.split() for line in out.splitlines() if "AutoAttack" in line] == [["test", "AutoAttack", "50.0"]]
    assert "optimizer.name" not in out  # in which they do not differ
    assert "curves: pictures/both.png" in out
    assert (home / "pictures/both.png").read_bytes().startswith(b"\x89PNG")


def test_a_key_that_recipes_leave_out_at_its_default_is_compared_by_its_default():
    headers = [{"train": {"epochs": 3}}, {"train": {"epochs": 3, "select_rule": "mean3"}}]
    empty = runs._side_by_side(["a", "b"], [Summary("a", "stopped", 0.0, 1), Summary("b", "stopped", 0.0, 1)], headers)
    assert [list(column.cells)[-1] for column in empty.columns] == ["train.select_rule", "maximum", "mean3"]


def test_compare_writes_into_the_folder_of_runs_and_nothing_into_the_current_one(home, capsys):
    before = set(home.iterdir())
    assert program("compare", "at-s1") == 0
    assert (home / "runs/curves-compare.png").exists()
    assert set(home.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare"], "got none; name some: compare A B"),
        (["compare", "at-s2"], "did you mean"),
        (["compare", "at-s0"], "which is cifar10/at-s0 and digits/at-s0 in runs; use one of them"),
        (["compare", "broken-s0"], "in line 4"),
        (["compare", "cifar10/at-s0"], "got no file; train at least one epoch"),
        (["compare", "at-s1", "--out", "both.pdf"], "ends in .png"),
        (["compare", "at-s1", "--json"], "expected --json with the list"),
        (["comparison"], "did you mean 'compare'?"),
        (["list", "digits"], "expected a command, got 'digits'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(home, capsys, arguments, said):
    assert program(*arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (home / "runs/curves-compare.png").exists()


def test_fresh_forgets_the_pictures_too(home):
    run = Run(home / "runs/digits/at-s1")
    (run.path / "tensorboard/plugins").mkdir(parents=True)
    (run.path / "curves.png").touch()
    run.discard()
    assert {path.name for path in run.path.iterdir()} == {"recipe.yaml"}
    assert summarise("at-s1", run).state == "new"


def test_an_upper_bound_is_not_shown_as_autoattacks_figure(home, capsys):
    write_run(home / "runs/digits/at-s7", log_rows(3), score=SCORE | {"version": "quick"})
    found = listed_runs(capsys)["digits/at-s7"]
    assert (found["test_autoattack"], found["test_bound"]) == (None, 0.5)
    assert program() == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "at-s7" in line]
    assert "≤ 50.0" in line


def test_a_run_is_found_without_its_hash_if_only_one_is_meant(tmp_path):
    for name in ("digits/at-s0-4a126a", "digits/at+awp-s0", "digits/at-s1-aaaaaa", "digits/at-s1-bbbbbb"):
        write_run(tmp_path / name, log_rows(1))
    assert find_run("at-s0", tmp_path).path == tmp_path / "digits/at-s0-4a126a"
    assert find_run("digits/at-s0", tmp_path).path == tmp_path / "digits/at-s0-4a126a"
    with pytest.raises(UserError, match="got 'at-s1', which is digits/at-s1-aaaaaa and digits/at-s1-bbbbbb in"):
        find_run("at-s1", tmp_path)
    with pytest.raises(UserError, match="got 'at-s'; did you mean 'digits/at-s0-4a126a'"):
        find_run("at-s", tmp_path)
    write_run(tmp_path / "digits/at-s0", log_rows(1))
    assert find_run("at-s0", tmp_path).path == tmp_path / "digits/at-s0"
