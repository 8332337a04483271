"""`train.select_rule`: each rule as printed, decided while training with two kept weights, and said with the result."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from epoch_rules import RULES
from fake_entries import make_entry
from interruptions import stop_after
from run_program import run_program
from test_selection_rules import EPOCHS, STARTS, N, as_printed
from tiers import mark_slow_except

from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.schema import Train
from rb_smooth.config.sections import config_hash
from rb_smooth.core.errors import Interrupted
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import split
from rb_smooth.evaluation.score import selection_title
from rb_smooth.leaderboard.__main__ import main as leaderboard_program
from rb_smooth.leaderboard.entries import read_entry
from rb_smooth.leaderboard.reports.board import own_row
from rb_smooth.leaderboard.reports.ranking import caveats
from rb_smooth.recipe import main as recipe_program
from rb_smooth.training import loop, validate
from rb_smooth.training.run_folder.log import best_row, read_log
from rb_smooth.training.run_folder.resume import load_state
from rb_smooth.training.run_folder.run import Run, run_path
from rb_smooth.training.selection import best_epoch, needs_previous_weights, stage_starts
from rb_smooth.training.sweep.comparison import compare_methods

CPU = torch.device("cpu")
CHOICES = get_args(Train.model_fields["select_rule"].annotation)
QUICK = ["data.validation=60", "objective.steps=1", "train.epochs=6", "schedule.drops=[3]", "model.width=2"]
MEASURED = {
    "maximum": ([30, 50, 10, 40, 50, 20], 1),
    "mean3": ([30, 32, 34, 40, 50, 20], 3),  # of (40, 50), since 34 is before the drop
    "mean121": ([45, 32, 34, 40, 50, 20], 3),
    "latest": ([30, 32, 34, 50, 48, 20], 4),
}
"""Validation images right after each epoch, of 60, and the epoch that the rule chooses."""

pytestmark = pytest.mark.usefixtures("no_curve_plots")


@pytest.fixture(scope="module")
def data():
    return split(digits(Path("unused")), validation=60, split_seed=0, select="validation", train_examples=200)


@pytest.mark.parametrize("rule", CHOICES)
def test_a_rule_chooses_as_printed_and_as_in_the_study(rule):
    counts = np.random.default_rng(1).binomial(N, 0.8, (300, EPOCHS))
    chosen = [best_epoch(rule, row, N, STARTS, EPOCHS) for row in counts.tolist()]
    assert chosen == [as_printed(rule, row) for row in counts.tolist()]
    assert chosen == RULES[rule].choose(counts, STARTS, N).tolist()


@pytest.mark.parametrize("rule", CHOICES)
def test_two_kept_weights_are_enough_for_every_rule(rule):
    """After each epoch the best one stays, or is the new one or, for a mean, the one before."""
    for correct in np.random.default_rng(2).binomial(N, 0.8, (300, EPOCHS)).tolist():
        best = 0
        for epoch in range(EPOCHS):
            now = best_epoch(rule, correct[: epoch + 1], N, STARTS, EPOCHS)
            assert now in {best, epoch, epoch - needs_previous_weights(rule)}
            assert now >= best
            best = now


@pytest.mark.parametrize(
    ("method", "settings", "starts"),
    [
        ("at", [], [0, 20, 30]),
        ("at+ensgd-tuned", [], [0, 20, 30]),  # the optimizer changes at a drop
        ("at", ["schedule.name=cosine"], [0]),
        ("at", ["schedule.name=constant"], [0]),
    ],
)
def test_stages_lie_between_drops_of_the_rate(method, settings, starts):
    assert stage_starts(validate.check_recipe(*resolve_config("digits", method, settings))) == starts


def plant(monkeypatch, correct):
    """Every epoch measures these counts of 60 validation images, and best.pt and epoch-<n>.pt are what is deployed."""
    monkeypatch.setattr(
        loop,
        "_validation_metrics",
        lambda trainer, model, threat, prefix="": {"val_clean": 0.9, "val_robust": correct[trainer.epoch] / 60},
    )


def trained(data, path, rule, *, until=None, monkeypatch=None):
    settings = [*QUICK, f"train.select_rule={rule}", "train.keep=[1, 2, 3, 4, 5, 6]"]
    recipe, run = validate.check_recipe(*resolve_config("digits", "at", settings)), Run(path)
    for stop in [] if until is None else [until]:
        with monkeypatch.context() as patched, pytest.raises(Interrupted):
            stop_after(patched, stop)
            loop.train(recipe, run, data, CPU)
    loop.train(recipe, run, data, CPU)
    return run


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("rule", mark_slow_except(["mean3"], CHOICES))
def test_best_pt_holds_the_epoch_that_the_rule_chooses_also_where_a_run_was_stopped(data, tmp_path, monkeypatch, rule):
    correct, chosen = MEASURED[rule]
    plant(monkeypatch, correct)
    whole = trained(data, tmp_path / "whole", rule)
    assert best_row(read_log(whole.path / "log.csv"))["epoch"] == chosen
    assert same(whole.load("best"), whole.load(f"epoch-{chosen + 1}"))
    batches = 2 * 5 if rule == "mean3" else 5  # 200 images - 64 per minibatch: 3 each epoch
    resumed = trained(data, tmp_path / "resumed", rule, until=batches + 3, monkeypatch=monkeypatch)
    assert same(whole.load("best"), resumed.load("best"))
    assert same(whole.load("last"), resumed.load("last"))
    assert [row["best"] for row in read_log(whole.path / "log.csv")] == [
        row["best"] for row in read_log(resumed.path / "log.csv")
    ]


def test_a_run_begun_before_there_were_rules_ends_by_the_maximum(data, tmp_path, monkeypatch):
    """Its state has the best accuracy, and no weights of the epoch before."""
    plant(monkeypatch, MEASURED["maximum"][0])
    recipe, run = (
        validate.check_recipe(*resolve_config("digits", "at", [*QUICK, "train.keep=[2]"])),
        Run(tmp_path / "run"),
    )
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        stop_after(patched, 2 * 3 + 1)
        loop.train(recipe, run, data, CPU)
    state, _ = load_state(run.path)
    assert state.pop("previous") is None
    run.save("resume", state | {"best": 50 / 60})
    loop.train(recipe, run, data, CPU)
    assert [row["best"] for row in read_log(run.path / "log.csv")] == [True, True, False, False, False, False]
    assert same(run.load("best"), run.load("epoch-2"))


def test_the_rule_is_part_of_the_digest_only_where_it_is_not_the_maximum(tmp_path):
    plain = resolve_config("digits", "at", [])
    stated = resolve_config("digits", "at", ["train.select_rule=maximum"])
    other = resolve_config("digits", "at", ["train.select_rule=mean3"])
    assert "select_rule" not in plain[-1]["train"]
    assert config_hash(plain[-1]) == config_hash(stated[-1]) != config_hash(other[-1])
    paths = [run_path(tmp_path, each).path.name for each in (plain, stated, other)]
    assert paths == ["at-s0", "at-s0", f"at-s0-{config_hash(other[-1])}"]
    titles = [validate.check_recipe(*each).title for each in (plain, stated, other)]
    assert titles == ["at", "at", "at (selected by mean3)"]


def test_results_say_their_rule_and_are_not_compared_with_those_of_another(tmp_path):
    from test_comparison import result

    one, other = result("at", 0, 0.5), result("at+awp", 0, 0.6)
    other.score["select_rule"] = "latest"
    groups = compare_methods([one, other])
    assert [selection_title(group["protocol"]) for group in groups] == ["validation", "validation (latest)"]
    assert caveats(own_row(make_entry(tmp_path, "mine", select_rule="latest"))) == " (selected by latest)"
    assert "select_rule" not in groups[0]["protocol"]


@pytest.mark.slow
def test_an_entry_is_verified_and_reproduced_by_the_rule_that_it_stores(tmp_path, monkeypatch, capsys, short_attacks):
    monkeypatch.chdir(tmp_path)
    quick = ["--epochs=4", "--n-examples=10", "--set=data.train_examples=200", "--set=objective.steps=1"]
    assert run_program(recipe_program, "digits", "at", *quick, "--set=train.select_rule=mean3") == 0
    (path,) = Path("leaderboard/model_info/digits/Linf").glob("*.json")
    own = read_entry(path.resolve()).own
    assert (own["method"], selection_title(own["score"])) == ("at (4 epochs, selected by mean3)", "validation (mean3)")
    assert run_program(leaderboard_program, "verify", path.stem) == 0
    assert run_program(leaderboard_program, "reproduce", path.stem, "--runs", "again") == 0
    assert "reproduced, bit for bit" in capsys.readouterr().out
    best = [
        best_row(read_log(log))["epoch"] for log in (*Path("runs").rglob("log.csv"), *Path("again").rglob("log.csv"))
    ]
    assert len(best) == 2
    assert best[0] == best[1]
