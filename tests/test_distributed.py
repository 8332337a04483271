"""Several processes train one run: N of them, each with its share of a minibatch, equal one with the whole of it."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from ranks import COMBINATIONS, CPU, tiny
from test_recipe_program import run_recipe_program

from rb_smooth.training import loop
from rb_smooth.training.run_folder.run import Run

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
RANKS = str(Path(__file__).with_name("ranks.py"))
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")} | {
    "OMP_NUM_THREADS": "1"
}


@pytest.fixture(scope="module")
def done_runs(tmp_path_factory):
    """What two processes did, and one alone, side by side."""
    folder = tmp_path_factory.mktemp("ranks")
    jobs = [
        subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in ([*TORCHRUN, RANKS, str(folder)], [sys.executable, RANKS, str(folder)])
    ]
    for job in jobs:
        said = job.communicate()[0]
        assert job.returncode == 0, said
    return folder


def loaded(done, name):
    return [torch.load(done / f"{name}-{processes}.pt") for processes in (1, 2)]


@pytest.mark.slow
def test_two_processes_equal_one_to_1e_10_for_every_combination(done_runs):
    alone, shared = loaded(done_runs, "equality")
    assert len(alone) == len(shared) == len(COMBINATIONS) >= 36
    for combination, ours, theirs in zip(COMBINATIONS, alone, shared):
        # PGDL2 adds 1e-10 to the length of a gradient that is a mean over the share: not the same for other shares
        nearest = 1e-8 if combination[0][1] else 1e-10
        for one, other in zip(ours, theirs):
            assert (one - other).abs().max() < nearest, combination


@pytest.mark.slow
def test_the_combinations_lead_to_different_weights(done_runs):
    alone, _ = loaded(done_runs, "equality")
    for one, other in pairwise(alone):
        assert any((a - b).abs().max() > 1e-6 for a, b in zip(one, other))


@pytest.mark.slow
def test_recalibrated_statistics_are_one_and_those_of_all_images(done_runs):
    """As printed: the mean of E[x], and of E[x^2] less its square, over processes."""
    _, (images, (means, variances, _)) = loaded(done_runs, "statistics")
    of_each = []
    for share in (images[:, ::2], images[:, 1::2]):
        channels = share.permute(0, 2, 1, 3, 4).flatten(2)  # batches, channels, values
        of_each.append((channels.mean(2).mean(0), channels.var(2).mean(0)))
    mean = sum(m for m, _ in of_each) / 2
    variance = sum(v + m**2 for m, v in of_each) / 2 - mean**2
    for rank in range(2):
        torch.testing.assert_close(means[rank], mean)
        torch.testing.assert_close(variances[rank], variance)
    assert torch.equal(variances[0], variances[1])


@pytest.mark.slow
def test_accuracy_and_autoattack_are_the_same_for_any_number_of_processes(done_runs):
    (accuracies, flags), (shared_accuracies, shared_flags) = loaded(done_runs, "attacked")
    assert accuracies == shared_accuracies
    assert torch.equal(flags, shared_flags)
    assert 0 < flags.float().mean() < 1  # some points break
    alone, one, other = (json.loads((done_runs / f"seeds-{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert sorted(alone) == sorted(one + other)  # of the batches' random starts


def rows(run):
    timed = {"seconds", "images_per_s"}
    listed = csv.DictReader((run / "log.csv").open())
    return [{key: value for key, value in row.items() if key not in timed} for row in listed]


@pytest.mark.slow
def test_stopped_through_one_process_all_save_and_go_on_bit_for_bit(done_runs):
    assert all("stopped after" in json.loads((done_runs / f"interrupted-{rank}.json").read_text()) for rank in range(2))
    for name in ("best", "last"):
        whole, resumed = (Run(done_runs / each).load(name) for each in ("whole", "interrupted"))
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert rows(done_runs / "whole") == rows(done_runs / "interrupted")


@pytest.mark.slow
def test_another_number_of_processes_goes_on_from_the_same_state(done_runs, tmp_path):
    recipe, data = tiny()
    run = Run(done_runs / "by another number")
    loop.train(recipe, run, data, CPU)
    assert [row["epoch"] for row in rows(run.path)] == ["0", "1", "2"]
    assert rows(run.path)[:2] == rows(done_runs / "whole")[:2]
    losses = [float(row["loss"]) for row in rows(run.path)]
    assert losses[2] > 0.7 * losses[1]  # a log of one process's images would hold half
    last = run.load("last")
    assert all(torch.isfinite(value).all() for value in last.values())


REFUSALS = {
    "drift": "the same weights and optimizer state in every process .* in process 1",
    "bad": "expected finite loss, got nan or inf at step 2",
    "other": "expected the same images and initial weights in every process, .* in process 1",
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", REFUSALS)
def test_a_fault_of_one_process_is_said_once_by_the_first(done_runs, fault):
    first, second = (json.loads((done_runs / f"{fault}-{rank}.json").read_text()) for rank in range(2))
    assert re.search(REFUSALS[fault], first)
    assert second == "2"  # it leaves with exit code 2 and says nothing


@pytest.mark.slow
def test_a_compiled_network_in_another_layout_learns_the_same_in_two_processes(done_runs):
    assert all(json.loads((done_runs / f"compiled-{rank}.json").read_text()) < 1e-6 for rank in range(2))


@pytest.mark.slow
def test_where_compiling_fails_several_processes_refuse_and_say_how_to_go_on(done_runs):
    said = [json.loads((done_runs / f"compiling-{rank}.json").read_text()) for rank in range(2)]
    assert all("expected torch.compile to succeed, got" in line for line in said)
    assert all(line.endswith("use --set train.compile=false") for line in said)


SETTINGS = ("data.train_examples=256", "objective.steps=1", "model.width=2", "evaluate.batch_size=4")
COMMAND = ["digits", "at+wa", "--epochs=4", "--n-examples=8", *(f"--set={setting}" for setting in SETTINGS)]


def output_of(command, folder):
    ended = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    return (
        ended.returncode,
        ended.stdout,
        [line for line in ended.stderr.splitlines() if re.match(r"rb_smooth[:,]", line)],
    )


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_any_number_goes_on(tmp_path, monkeypatch, capsys):
    killed = Path(__file__).with_name("killed_rank.py")
    code, _, (line,) = output_of([*TORCHRUN, str(killed), *COMMAND], tmp_path)
    assert code != 0
    assert "expected every process of this job to go on, got one that ended" in line
    monkeypatch.chdir(tmp_path)
    assert run_recipe_program(*COMMAND) == 0
    said = capsys.readouterr().out
    assert "resumed after 2 of 4 epochs and 0 minibatches" in said
    assert "AutoAttack" in said


@pytest.mark.slow
def test_what_does_not_fit_the_number_of_processes_is_said_once(tmp_path):
    command = [*TORCHRUN, "-m", "rb_smooth.recipe", *COMMAND, "--set=data.batch_size=63"]
    code, _, (line,) = output_of(command, tmp_path)
    assert code != 0
    assert "expected data.batch_size to be a multiple of the 2 processes that share a minibatch, got 63" in line
    assert not list(tmp_path.iterdir())


def test_sync_bn_is_refused_without_a_gpu(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_recipe_program(*COMMAND, "--set=train.sync_bn=true", "--device=cpu") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a GPU for train.sync_bn, as torch's SyncBatchNorm needs one, got cpu" in line
