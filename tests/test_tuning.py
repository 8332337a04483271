"""A grid search trains each recipe once, and its table compares validation accuracies by seed."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch
import tuning
from result_tables import detectable
from run_program import run_program
from scipy.stats import ttest_rel
from tuning import Trial, outcome, table, trials_of

from rb_smooth.core import environment, files
from rb_smooth.training.run_folder.log import read_log


def test_grids_are_crossed_and_each_recipe_is_tried_once():
    grids = [["optimizer.inner_steps=10,20", "optimizer.beta=0.25,0.75"], ["optimizer.lr=0.1,1.0"]]
    shared = ("model.width=2",)
    options = Namespace(dataset="digits", method="at+ensgd", beside=["at"], grid=grids, set=list(shared))
    trials = list(trials_of(options))
    assert trials == [
        Trial("at+ensgd", (), shared),  # which is L 20, beta 0.75 and lr 1
        Trial("at", (), shared),
        Trial("at+ensgd", ("optimizer.inner_steps=10", "optimizer.beta=0.25"), shared),
        Trial("at+ensgd", ("optimizer.inner_steps=10", "optimizer.beta=0.75"), shared),
        Trial("at+ensgd", ("optimizer.inner_steps=20", "optimizer.beta=0.25"), shared),
        Trial("at+ensgd", ("optimizer.lr=0.1",), shared),
    ]
    assert trials[2].title == "`at+ensgd` inner_steps=10 beta=0.25"
    assert trials[5].settings == ("model.width=2", "optimizer.lr=0.1")


def test_an_outcome_is_read_from_the_log(tmp_path):
    trial = Trial("at", ("objective.steps=1",), ("model.width=2",))
    found = outcome("digits", trial, 3, 2, tmp_path)
    (folder,) = (tmp_path / "digits").iterdir()
    recipe = (folder / "recipe.yaml").read_text()
    assert "steps: 1" in recipe
    assert "width: 2" in recipe
    assert "seed: 3" in recipe
    robust = [row["val_robust"] for row in read_log(folder / "log.csv")]
    assert found == {"best": max(robust), "last": robust[-1]}
    assert not (folder / "score.json").exists()  # no test image was attacked


def rows(**best):
    return [
        {"title": title, "by_seed": {str(seed): {"best": value, "last": value - 0.01} for seed, value in enumerate(of)}}
        for title, of in best.items()
    ]


def test_rows_are_compared_with_the_first_by_seed():
    recipe, other, same = (0.80, 0.82, 0.81), (0.84, 0.85, 0.86), (0.79, 0.81, 0.80)
    p = ttest_rel(other, recipe).pvalue
    seen = 100 * detectable({"seeds": [0, 1, 2], "low": 0.04 - 0.02484, "high": 0.04 + 0.02484})
    lines = list(table({"rows": rows(recipe=recipe, other=other, same=same)}))
    assert lines[2:] == [
        "| recipe | 3 | 81.00 ± 1.00 | 80.00 ± 1.00 |  |  |  |  |",
        f"| other | 3 | 85.00 ± 1.00 | 84.00 ± 1.00 | +4.00 | +1.52 to +6.48 | {p:.2g} | {seen:.1f} |",
        "| same | 3 | 80.00 ± 1.00 | 79.00 ± 1.00 | −1.00 |  |  |  |",  # the same difference for every seed: no test
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_writes_every_figure_with_its_provenance(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(tuning, "outcome", _fake_outcome)
    monkeypatch.setattr(tuning, "map_unordered", _run_in_process)
    monkeypatch.setattr(environment, "usable_cores", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    place = tmp_path / "found.json"
    grid = ("--grid", "optimizer.inner_steps=10", "--seeds", "0,4", "--workers", workers)
    assert run_program(tuning.main, "digits", "at+ensgd", *grid, "--write", place) == 0
    assert threads == [4 // workers]  # two processes with all cores each would wait for each other
    record = files.read_json(place)
    assert {"command", "commit", "versions", "machine", "seeds"} <= record.keys()
    assert (record["epochs"], record["validation"]) == (40, 200)
    assert [row["by_seed"] for row in record["rows"]] == [
        {"0": {"best": 0.5, "last": 0.4}, "4": {"best": 0.54, "last": 0.4}},
        {"0": {"best": 0.6, "last": 0.4}, "4": {"best": 0.64, "last": 0.4}},
    ]


def _fake_outcome(dataset, trial, seed, epochs, runs):
    return {"best": 0.5 + len(trial.point) / 10 + seed / 100, "last": 0.4}


def _run_in_process(make, tasks, workers):
    work = make()
    return [(task, work(task)) for task in tasks]
