"""Methods by seeds, as a user types them: one table, what is kept of it, what fails, what is refused beforehand."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from digits_run import QUICK, SETTINGS
from test_recipe_program import run_recipe_program

from rb_smooth.config.overrides import ResolvedRecipe
from rb_smooth.core import environment
from rb_smooth.core.errors import UserError
from rb_smooth.data.downloads import downloading
from rb_smooth.training import cost, validate
from rb_smooth.training.sweep import sweep

SWEEP = ["digits", "at", "at+awp", "--seeds=0,1", "--workers=2", *QUICK]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which two methods ran with two seeds each, and what was printed."""
    place = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "rb_smooth.recipe", *SWEEP]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return place, done.stdout


@pytest.fixture
def inside(home, monkeypatch):
    monkeypatch.chdir(home[0])
    return home[0]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def queued_jobs(monkeypatch):
    """What would have been started: jobs, devices, threads."""
    calls = []
    monkeypatch.setattr(sweep, "run_jobs", lambda *arguments: calls.append(arguments) or [])
    return calls


def record():
    (path,) = Path("runs/digits").glob("sweep-*.json")
    return json.loads(path.read_text())


@pytest.mark.slow
def test_every_method_runs_with_every_seed_and_one_table_says_so(home):
    place, out = home
    assert out.count("started ") == out.count("finished ") == out.count("/output.txt") == 4
    assert "warning: ± and intervals from two seeds are very uncertain" in out
    assert "board: python -m rb_smooth.leaderboard page --leaderboard leaderboard\n" in out
    assert re.search(
        r"\ncurves: python -m rb_smooth.runs compare runs/digits/at-s0\S* runs/digits/at\+awp-s0\S*\n", out
    )
    assert re.search(r"at \(2 epochs\) +2 ( +\d+\.\d\d±\d+\.\d\d){5}", out)
    assert re.search(r"at\+awp \(2 epochs\) +2 ( +-?\d+\.\d\d±\d+\.\d\d){5}", out)
    assert "24 test points" in out
    assert len(list((place / "leaderboard").rglob("*.pt"))) == 4
    for folder in (place / "runs/digits").glob("at*"):
        assert "epoch   2/2" in (folder / "output.txt").read_text()


@pytest.mark.slow
def test_the_record_holds_every_figure_and_where_it_comes_from(inside):
    kept = record()
    assert kept["command"].startswith("python -m rb_smooth.recipe digits at at+awp --seeds=0,1")
    assert {"torch", "rb_smooth"} <= kept["versions"].keys()
    assert kept["settings"] == list(SETTINGS)
    assert kept["commit"]
    for each in kept["runs"]:
        assert each["commit"] == json.loads((Path("runs/digits") / each["folder"] / "score.json").read_text())["commit"]
    assert [(each["method"], each["seed"]) for each in kept["runs"]] == [
        ("at", 0),
        ("at+awp", 0),
        ("at", 1),
        ("at+awp", 1),
    ]
    (group,) = kept["groups"]
    assert group["protocol"]["n"] == 24
    for row in group["methods"]:
        for seed, value in row["autoattack"]["by_seed"].items():
            (folder,) = Path("runs/digits").glob(f"{row['method']}-s{seed}-*")
            assert json.loads((folder / "score.json").read_text())["autoattack"] == value


@pytest.mark.slow
def test_the_same_command_again_starts_nothing_and_needs_no_torch(inside, home):
    before = record()
    code = (
        "import subprocess, sys; from rb_smooth import recipe; from rb_smooth.training.sweep import job_queue; "
        "job_queue.subprocess = None; "
        "recipe.main(); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, *SWEEP], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == home[1][home[1].index("digits Linf") :]
    assert record() == before


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_are_in_the_table(inside, capsys):
    (folder,) = Path("runs/digits").glob("at-s0-*")
    whole = {name: (folder / name).read_bytes() for name in ("score.json", "best.pt")}
    (folder / "score.json").unlink()
    (folder / "best.pt").write_bytes(whole["best.pt"][:100])
    try:
        assert run_recipe_program(*SWEEP) == 2  # a refusal, and no more than that
        printed = capsys.readouterr()
        assert "1 of 4 runs to do" in printed.out
        assert re.search(r"failed at, seed 0: expected tensors in .*best.pt", printed.out)
        assert re.search(r"at \(2 epochs\) +1 ", printed.out)
        assert re.search(r"at\+awp \(2 epochs\) +2 ", printed.out)
        assert "1 of 4 runs failed (at, seed 0: expected tensors in" in printed.err
        assert printed.err.count("\n") == 1
        kept = record()
        assert list(kept["failed"]) == ["at, seed 0"]
        assert [row["method"] for row in kept["groups"][0]["methods"]] == ["at", "at+awp"]
    finally:
        for name, content in whole.items():
            (folder / name).write_bytes(content)


@pytest.mark.slow
def test_a_killed_process_of_a_sweep_is_named_and_the_same_command_resumes_its_run(elsewhere, capsys):
    command = ["digits", "at", "--seeds=0,1", "--workers=2", *QUICK, "--epochs=12"]
    sweeping = subprocess.Popen(
        [sys.executable, "-m", "rb_smooth.recipe", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (states := list(elsewhere.glob("runs/digits/at-s0-*/resume.pt"))):
        assert sweeping.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{sweeping.pid}/task/{sweeping.pid}/children").read_text().split()
    [killed] = [each for each in children if b"--seed=0" in Path(f"/proc/{each}/cmdline").read_bytes()]
    os.kill(int(killed), signal.SIGKILL)
    said, complained = sweeping.communicate()
    assert sweeping.returncode == 1
    assert "ended by signal 9" in said + complained
    assert states[0].exists()
    assert run_recipe_program(*command) == 0
    assert "resumed after" in (states[0].parent / "output.txt").read_text()
    assert {run["seed"] for run in record()["runs"]} == {0, 1}


@pytest.mark.slow
def test_a_finished_run_without_its_entry_is_entered(inside, queued_jobs):
    (entry,) = Path("leaderboard").rglob("at_*_s0_*.json")
    aside = entry.rename(entry.with_suffix(".aside"))
    try:
        assert run_recipe_program(*SWEEP) == 0
        assert run_recipe_program(*SWEEP, "--no-submit") == 0
    finally:
        aside.rename(entry)
    assert [[job.name for job in jobs] for jobs, *_ in queued_jobs] == [["at, seed 0"]]


@pytest.mark.slow
def test_a_run_that_fails_afresh_is_not_in_the_table_as_it_was_before(inside, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "run_jobs", lambda jobs, *_: [sweep.Failure(jobs[0], "why", is_user_error=False)])
    assert run_recipe_program(*SWEEP, "--fresh") == 1
    assert re.search(r"at \(2 epochs\) +1 ", capsys.readouterr().out)


def test_a_crash_is_exit_code_1_and_a_refusal_2(elsewhere, monkeypatch, capsys):
    def failing(*refused):
        def work_off(jobs, *_):
            return [sweep.Failure(job, "why", each) for job, each in zip(jobs, refused)]

        return work_off

    for refused, code in (((False,), 1), ((True,), 2), ((True, False), 1)):
        monkeypatch.setattr(sweep, "run_jobs", failing(*refused))
        assert run_recipe_program("digits", "at", "trades") == code
        assert "the same command goes on from there" in capsys.readouterr().err


def test_processes_get_the_commands_options_one_seed_and_a_device(elsewhere, queued_jobs):
    Path("mine.yaml").write_text("base: digits/at\noptimizer: {lr: 0.05}\n")
    arguments = ["--epochs=3", "--set=optimizer.lr=0.1", "--set=model.width=4", "--runs=my runs", "--fresh"]
    assert run_recipe_program("digits", "at", "mine.yaml", "--seeds=2-3,7", "--workers=2", *arguments) == 0
    ((jobs, devices, _),) = queued_jobs
    assert [job.name for job in jobs] == [f"{name}, seed {seed}" for seed in (2, 3, 7) for name in ("at", "mine")]
    assert len(devices) == 2
    for job, what in zip(jobs, [["digits", "at"], ["mine.yaml"]] * 3):
        assert job.command[:3] == (sys.executable, "-m", "rb_smooth.recipe")
        assert list(job.command[3:]) == [
            *what,
            f"--seed={job.name.split()[-1]}",
            *("--epochs=3", "--set=optimizer.lr=0.1", "--set=model.width=4", "--data-dir=data"),
            *("--runs=my runs", "--leaderboard=leaderboard", "--fresh"),
        ]


def test_jobs_of_the_same_network_are_known_by_their_recipes(elsewhere, queued_jobs):
    Path("wide.yaml").write_text("base: digits/at\nmodel: {width: 32}\n")
    Path("batches.yaml").write_text("base: digits/at\ndata: {batch_size: 32, validation: 100}\n")
    assert run_recipe_program("digits", "at", "trades+awp", "wide.yaml", "batches.yaml", "--seeds=0,1") == 0
    ((jobs, *_),) = queued_jobs
    wide = {job.network_key for job in jobs if job.name.startswith("wide")}
    others = {job.network_key for job in jobs if not job.name.startswith("wide")}
    assert (len(wide), len(others), len(wide | others)) == (1, 1, 2)
    assert all(wide | others)


def test_images_of_other_shapes_are_another_network(elsewhere):
    sections = {"train": {"seed": 0}, "model": {"name": "resnet18"}}

    def network(**data):
        return sweep.SweepRun(
            ("mine.yaml",), ResolvedRecipe("folder", "mine", {**sections, "data": data}), None, None
        ).network_key

    assert network(name="folder", image_size=32) != network(name="folder", image_size=64)
    assert network(name="folder", image_size=32, stream=True) == network(name="folder", image_size=32)


def test_workers_have_a_gpu_each_or_share_what_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert sweep.choose_devices(None, None, "auto") == ["cuda:0", "cuda:1"]
    assert sweep.choose_devices([1], None, "auto") == ["cuda:1"]
    assert sweep.choose_devices(None, 3, "auto") == ["cuda:0", "cuda:1", "cuda:0"]
    with pytest.raises(UserError, match="a device of this machine, got 'cuba'"):
        sweep.choose_devices(None, 2, "cuba")
    assert sweep.choose_devices(None, None, "cpu") == ["cpu"]
    monkeypatch.setattr(validate, "resolve_device", lambda name: None)
    assert sweep.choose_devices(None, 2, "cuda:1") == ["cuda:1", "cuda:1"]
    with pytest.raises(UserError, match="got 2; it has 2 GPUs, from 0"):
        sweep.choose_devices([0, 2], None, "auto")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert sweep.choose_devices(None, None, "auto") == ["cpu"]
    assert sweep.choose_devices(None, 2, "auto") == ["cpu", "cpu"]
    with pytest.raises(UserError, match="--workers"):
        sweep.choose_devices([0], None, "auto")


def test_plan_says_what_is_ahead_for_each_method_and_how_many_runs(elsewhere, capsys):
    assert run_recipe_program("digits", "at", "trades", "--seeds=0-2", "--workers=2", "--plan", *QUICK) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^digits (\S+) .*estimate on", out, re.MULTILINE) == ["at", "trades"]
    assert "6 runs, 3 of each method, 2 at a time" in out
    assert not list(elsewhere.iterdir())


def test_a_plan_of_runs_side_by_side_lets_each_attack_by_itself(elsewhere, monkeypatch):
    asked, estimate = [], cost.estimate_cost
    monkeypatch.setattr(cost, "estimate_cost", lambda *given: asked.append(given[-1]) or estimate(*given))
    assert run_recipe_program("digits", "at", "trades", "--workers=3", "--plan", *QUICK) == 0
    assert asked == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits", "at", "trades", "att"], "did you mean 'at'"),
        (["digits", "at", "trades", "--set=objective.beta=3"], "beta"),
        (["digits", "at", "at"], "at twice"),
        (["digits", "at+awp+wa", "at+wa+awp"], "twice"),
        (["digits", "at", "--seeds=0,1,0"], "drop the duplicates"),
        (["digits", "at", "--seeds=-1"], "0,1,2 or 0-2"),
        (["digits", "at", "--seeds=2-0"], "0,1,2 or 0-2"),
        (["digits", "at", "--seeds=0-9999999"], "0,1,2 or 0-2"),
        (["digits", "at", "--seeds="], "0,1,2 or 0-2"),
        (["digits", "at", "--seeds=0,1", "--seed=2"], "--seed or --seeds"),
        (["digits", "at", "--seeds=0,1", "--gpus=0", "--workers=2"], "--gpus or --workers"),
        (["digits", "at", "--seeds=0,1", "--gpus=0", "--device=cpu"], "--gpus or --device"),
        (["digits", "at", "--seeds=0,1", "--gpus=99"], "this machine has"),
        (["digits", "at", "--seeds=0,1", "--workers=0"], "--workers: expected a whole number of at least 1"),
        (["digits", "at", "--gpus=0"], "got one run"),
        (["digits", "--seeds=0,1"], "expected DATASET METHOD"),
        (["c10.yaml", "digit.yaml"], "cifar10 and digits"),
    ],
)
def test_what_a_user_can_mend_is_one_line_before_anything_starts(elsewhere, queued_jobs, capsys, arguments, said):
    Path("c10.yaml").write_text("base: cifar10/at\n")
    Path("digit.yaml").write_text("base: digits/at\n")
    assert run_recipe_program(*arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not queued_jobs
    assert not Path("runs").exists()


def test_torchrun_is_not_for_several_runs(elsewhere, queued_jobs, monkeypatch, capsys):
    monkeypatch.setattr(environment, "WORLD_SIZE", 2)
    assert run_recipe_program("digits", "at", "--seeds=0,1") == 2
    assert "torchrun" in capsys.readouterr().err
    assert not queued_jobs


def test_of_downloads_that_start_together_one_goes_first(tmp_path):
    def download(_):
        with downloading("X", "url", "archive", tmp_path / "data"):
            (tmp_path / "inside").mkdir()
            time.sleep(0.1)
            (tmp_path / "inside").rmdir()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(download, range(3))) == [None] * 3


def test_data_in_a_folder_that_cannot_be_written_need_no_lock(tmp_path):
    (tmp_path / "data").write_text("in the way of a folder, for every user")
    with downloading("X", "url", "archive", tmp_path / "data"):
        pass
