"""The search for hyperparameters: the space, equal trials for every method, pruning, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from result_tables import detectable, tuning_table
from run_program import run_program
from scipy.stats import ttest_rel

from rb_smooth import tune
from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.resolver import resolve_file, resolve_method, tune_texts
from rb_smooth.core import files
from rb_smooth.core.errors import Diverged, UserError
from rb_smooth.training.run_folder.run import run_path
from rb_smooth.training.tuning import trials
from rb_smooth.training.tuning.space import parse_space

pytest.importorskip("optuna")

SPACE = ("--space", "optimizer.lr=log:0.01..0.3", "model.width=int:2..16")


def fake_run(recipe, options):
    """A run of 6 epochs whose accuracy is the higher the nearer lr is to 0.1, written as the training loop does."""
    lr, epochs = recipe.sections["optimizer"]["lr"], recipe.sections["train"]["epochs"]
    run = run_path(options.runs, recipe)
    run.begin(recipe)
    if lr > 0.25:
        raise Diverged("expected finite loss, got nan")
    rows = []
    for epoch in range(epochs):
        value = (1 - abs(lr - 0.1)) * (0.5 + epoch / 100)
        column = {"lr": lr, "loss": 1.0, "train_robust": 0.5, "val_clean": 0.9, "val_robust": value, "seconds": 1.0}
        rows = [{**row, "best": False} for row in rows] + [{"epoch": epoch, **column, "best": True}]
        run.write_log(rows)
        if options.after_epoch is not None:
            options.after_epoch(rows)
    (run.path / "last.pt").touch()
    return run


@pytest.fixture
def search(tmp_path, monkeypatch):
    """The program with runs of no time, and no waiting for the disk."""
    from sqlalchemy import Engine, event

    def hurry(connection, _):
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", hurry)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trials, "run_recipe", fake_run)
    monkeypatch.setattr("rb_smooth.analysis.tuning_plot.draw_tuning", lambda record, path: [])

    def run(*arguments):
        return run_program(tune.main, "digits", *arguments, "--epochs", 6)

    yield run
    event.remove(Engine, "connect", hurry)


def record_of(method, out="runs/digits/tune"):
    return files.read_json(Path(out) / f"{method}.json")


def test_a_range_is_parsed_and_keys_are_sorted():
    space = parse_space(
        {"optimizer.lr": "log:1/10..0.3", "model.width": "log:int:16..64", "averaging.name": "none,ema"}
    )
    assert list(space) == ["averaging.name", "model.width", "optimizer.lr"]
    lr, width, name = space["optimizer.lr"], space["model.width"], space["averaging.name"]
    assert (lr.low, lr.high, lr.is_log, lr.is_int) == (0.1, 0.3, True, False)
    assert (width.low, width.high, width.is_log, width.is_int) == (16, 64, True, True)
    assert name.choices == ("none", "ema")
    assert lr.rounded(0.123456) == 0.1235
    assert lr.rounded(0.1) == 0.1
    assert not lr.holds(0.31)
    assert not width.holds(16.5)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("log:0..1", "expected a logarithmic range above 0 for a.b, got 'log:0..1'; raise its lower end"),
        ("1..1", "expected a range from a lower to a higher number"),
        ("2..1", "expected a range from a lower to a higher number"),
        ("..", "expected numbers as ends of a range"),
        ("int:1.5..3", "expected whole numbers as ends of a range"),
        ("a..b", "expected numbers as ends of a range"),
        ("1...inf", "expected numbers as ends of a range"),
        ("log:1,2", "expected a range such as"),
        ("1", "with two or more different choices"),
        ("a,a", "with two or more different choices"),
        ("", "with two or more different choices"),
        ([[1], [2]], "with two or more different choices"),
    ],
)
def test_a_range_that_is_none_is_refused(text, line):
    with pytest.raises(UserError) as refused:
        parse_space({"a.b": text})
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--space", "optimizer.lrr=1..2"], "--space optimizer.lrr=1..2: expected an option of optimizer sgd"),
        (["--space", "objective.beta=1..2"], "expected an option of objective at"),
        (["--space", "optimizer.lr=0.2..0.3"], "to hold the recipe's own value, the first trial's, got 0.1"),
        (["--space", "model.width=8..32"], "model"),  # not every number in it is whole
        (["--space", "objective.eps=0.1..0.2"], "expected a search that leaves the attack on validation images"),
        (["--space", "objective.name=at,standard"], "expected "),
        (["--space", "train.select_rule=maximum,latest"], "expected a key of model, objective"),
        (["--space", "evaluate.seed=int:0..3"], "expected a key of model, objective"),
        (["--space", "optimizer.lr"], "expected --space section.key="),
        (["--space", "optimizer.lr=1..2", "optimizer.lr=1..3"], "expected each key of --space once"),
        ([], "expected a search space for digits/at, got none"),
        ([*SPACE, "--set", "train.select=test"], "to hold out validation images, got none"),
        ([*SPACE, "--set", "train.log_test=10"], "to use no test image, got train.log_test"),
        ([*SPACE, "--trials", "0"], "--trials: expected a whole number of at least 1"),
        ([*SPACE, "--workers", "0"], "--workers: expected a whole number of at least 1"),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_anything_is_written(search, tmp_path, capsys, arguments, line):
    assert search("at", "--trials", 2, *arguments) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_optuna_one_line_says_how_to_install_it(search, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert search("at", "--trials", 2, *SPACE) == 2
    assert capsys.readouterr().err == "rb_smooth: expected Optuna, got no such package; pip install 'rb_smooth[tune]'\n"


def test_every_method_has_as_many_trials_and_begins_with_its_recipe(search, capsys):
    space = ("--space", "optimizer.lr=log:0.01..0.2", "perturbation.gamma=0.001..0.02")
    assert search("at", "at+awp", "--trials", 3, *space) == 0
    at, awp = record_of("at"), record_of("at+awp")
    assert [len(record["trials"]) for record in (at, awp)] == [3, 3]
    assert at["trials"][0]["values"] == {"optimizer.lr": 0.1}
    assert set(awp["trials"][0]["values"]) == {"optimizer.lr", "perturbation.gamma"}
    assert at["trials"][0]["folder"] == run_path(Path("runs"), resolve_config("digits", "at", (), 6)).path.name
    assert len({trial["values"]["optimizer.lr"] for trial in at["trials"]}) == 3
    assert (at["best"], at["trials"][0]["value"], at["trials"][0]["best_epoch"]) == (0, 0.55, 6)
    assert {"command", "commit", "versions", "space", "seed", "validation"} <= at.keys()
    assert "not searched for at: perturbation.gamma" in capsys.readouterr().out


def test_the_best_recipe_can_be_run_and_is_the_best_trials_run(search):
    assert search("at", "--trials", 4, "--space", "optimizer.lr=0.05..0.2", "--set", "optimizer.lr=0.2") == 0
    record = record_of("at")
    best = record["trials"][record["best"]]
    assert best["number"] != 0
    dataset, method, sections = resolve_file(Path("runs/digits/tune/at.yaml"))
    found = run_path(Path("runs"), trials.ResolvedRecipe(dataset, method, sections))
    assert found.path.name == best["folder"]
    assert found.is_ready(sections)
    assert best["value"] == max(trial["value"] for trial in record["trials"] if trial["value"] is not None)


@pytest.mark.slow
def test_a_bad_trial_is_pruned_after_an_epoch_unless_asked_not_to(search):
    space = ("--space", "optimizer.lr=0.01..0.2")
    assert search("at", "--trials", 12, *space) == 0
    ended = record_of("at")["trials"]
    pruned = [trial for trial in ended if trial["state"] == "pruned"]
    assert pruned
    assert all(trial["number"] >= 4 and 2 < trial["epochs"] < 6 and trial["value"] is None for trial in pruned)
    assert not (Path("runs/digits") / pruned[0]["folder"] / "last.pt").exists()
    assert search("at", "--trials", 12, *space, "--no-pruning", "--out", "other") == 0
    assert {trial["state"] for trial in record_of("at", "other")["trials"]} == {"complete"}


def test_a_trial_that_diverges_fails_and_counts(search):
    assert search("at", "--trials", 6, "--space", "optimizer.lr=0.05..2") == 0
    ended = record_of("at")["trials"]
    assert len(ended) == 6
    failed = [trial for trial in ended if trial["state"] == "fail"]
    assert failed
    assert all("expected finite loss" in trial["error"] and trial["values"]["optimizer.lr"] > 0.25 for trial in failed)


@pytest.mark.parametrize(
    "other",
    [
        ["--space", "optimizer.lr=log:0.01..0.4", "model.width=int:2..16"],
        *(
            pytest.param([*SPACE, *more], marks=pytest.mark.slow)
            for more in (["--set", "optimizer.momentum=0.8"], ["--no-pruning"], ["--seed", "1"])
        ),
    ],
)
def test_another_search_in_the_same_storage_is_refused(search, capsys, other):
    assert search("at", "--trials", 1, *SPACE) == 0
    before = record_of("at")
    assert search("at", "--trials", 1, *other) == 2
    assert "to hold this search, got " in capsys.readouterr().err
    assert record_of("at") == before


def test_a_damaged_storage_is_refused(search, capsys):
    Path("out").mkdir()
    Path("out/trials.db").write_text("no database" * 100)
    assert search("at", "--trials", 1, *SPACE, "--out", "out") == 2
    assert "expected trials in out/trials.db, got " in capsys.readouterr().err


class Killed(BaseException):
    """In the place of a kill: nothing handles it."""


@pytest.mark.parametrize("calls", [3, pytest.param(27, marks=pytest.mark.slow)])
def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(search, monkeypatch, calls):
    arguments = ("at", "--trials", 4 if calls == 3 else 12, *SPACE)
    assert search(*arguments, "--out", "whole", "--runs", "there") == 0
    left = [calls]

    def until_killed(recipe, options):
        def count(rows):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            options.after_epoch(rows)

        return fake_run(recipe, trials.replace(options, after_epoch=count))

    monkeypatch.setattr(trials, "run_recipe", until_killed)
    with pytest.raises(Killed):
        search(*arguments)
    monkeypatch.setattr(trials, "run_recipe", fake_run)
    assert search(*arguments) == 0
    assert record_of("at")["trials"] == record_of("at", "whole")["trials"]
    assert len(list(Path("runs/digits").glob("at-*"))) == len(list(Path("there/digits").glob("at-*")))


@pytest.mark.slow
def test_a_kill_between_two_samples_changes_none(search, monkeypatch):
    arguments = ("at", "--trials", 3, *SPACE)
    assert search(*arguments, "--out", "whole", "--runs", "there") == 0
    from optuna.trial import Trial

    suggest = Trial.suggest_float

    def killed(self, key, *range_, **options):
        if self.number == 1:
            raise Killed  # model.width is sampled before
        return suggest(self, key, *range_, **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trial, "suggest_float", killed)
        search(*arguments)
    assert search(*arguments) == 0
    assert record_of("at")["trials"] == record_of("at", "whole")["trials"]


@pytest.mark.slow
def test_more_trials_continue_a_search(search):
    assert search("at", "--trials", 4, *SPACE, "--out", "whole") == 0
    assert search("at", "--trials", 2, *SPACE) == 0
    assert search("at", "--trials", 4, *SPACE) == 0
    values = [[trial["values"] for trial in record_of("at", *out)["trials"]] for out in ([], ["whole"])]
    assert values[0] == values[1]


def test_a_files_space_is_inherited_and_no_part_of_the_recipe(search, tmp_path):
    (tmp_path / "recipes/digits").mkdir(parents=True)
    shipped = resolve_method("digits", "at")[1]
    text = Path(tune.__file__).parents[1].joinpath("recipes/digits/at.yaml").read_text()
    (tmp_path / "recipes/digits/at.yaml").write_text(
        text + "tune: {optimizer.lr: log:0.05..0.2, model.width: int:8..32}\n"
    )
    assert resolve_method("digits", "at")[1] == shipped
    assert resolve_config("digits", "at").is_shipped
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: digits/at\ntune: {model.width: [16, 32]}\n")
    assert tune_texts(str(mine)) == {"optimizer.lr": "log:0.05..0.2", "model.width": [16, 32]}
    assert run_program(tune.main, mine, "--trials", 2, "--epochs", 6) == 0
    assert record_of("mine")["space"] == {"model.width": "16,32", "optimizer.lr": "log:0.05..0.2"}
    mine.write_text("base: digits/at\ntune: 3\n")
    with pytest.raises(UserError, match=r"expected ranges by key in section tune of .*mine.yaml, got 3"):
        tune_texts(str(mine))


def test_the_pictures_show_trials_and_importance(tmp_path, drawn_figures):
    from rb_smooth.analysis.tuning_plot import draw_tuning

    ended = [
        {"number": number, "state": state, "value": value, "last": 0.5}
        for number, (state, value) in enumerate(
            [("complete", 0.5), ("pruned", None), ("fail", None), ("complete", 0.6)]
        )
    ]
    record = {"dataset": "digits", "method": "at", "trials": ended, "importance": {"optimizer.lr": 0.7, "a.b": 0.3}}
    assert [path.name for path in draw_tuning(record, tmp_path / "at+awp")] == ["at+awp.png", "at+awp.svg"]
    history, importance = drawn_figures[0].axes
    assert list(history.lines[1].get_ydata()) == [50, 60]
    assert [bar.get_width() for bar in importance.patches] == [0.3, 0.7]
    draw_tuning(record | {"trials": ended[1:3], "importance": {}}, tmp_path / "none")
    assert len(drawn_figures[1].axes) == 1


TINY = ("data.train_examples=256", "objective.steps=2", "objective.eps=0.03", "model.width=4")


@pytest.mark.slow
def test_a_real_search_is_resumed_after_sigkill_with_the_same_trials(tmp_path):
    """Also: two workers finish every trial, and nothing is evaluated."""

    def start(out, *more):
        command = [sys.executable, "-m", "rb_smooth.tune", "digits", "at", "--trials=4", "--epochs=2", f"--out={out}"]
        settings = [f"--set={setting}" for setting in TINY]
        space = ["--space", "optimizer.lr=log:0.01..0.3", "objective.bn_mode=train,eval"]
        return subprocess.Popen(
            [*command, f"--runs={out}/runs", *settings, *more, *space],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(Path(tune.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )

    assert start("whole").wait() == 0
    killed, deadline = start("killed"), time.monotonic() + 300
    while len(list(tmp_path.glob("killed/runs/digits/at-*/resume.pt"))) < 1 or len(_folders(tmp_path / "killed")) < 3:
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert start("killed").wait() == 0
    assert start("two", "--workers=2").wait() == 0
    whole, again, two = (files.read_json(tmp_path / out / "at.json")["trials"] for out in ("whole", "killed", "two"))
    for trial in (*whole, *again, *two):
        del trial["seconds"]
    assert again == whole
    assert _folders(tmp_path / "killed") == _folders(tmp_path / "whole")
    assert len({trial["value"] for trial in whole}) > 1
    assert [trial["state"] for trial in two].count("complete") == 4
    assert {path.suffix for path in (tmp_path / "whole").iterdir()} >= {".json", ".yaml", ".png", ".svg", ".db"}
    assert not list(tmp_path.rglob("score.json"))


def _folders(out):
    return {path.name for path in (out / "runs/digits").glob("at-*")}


def rows(**best):
    return [
        {"title": title, "by_seed": {str(seed): {"best": value, "last": value - 0.01} for seed, value in enumerate(of)}}
        for title, of in best.items()
    ]


def test_rows_of_a_grid_search_are_compared_with_the_first_by_seed():
    recipe, other, same = (0.80, 0.82, 0.81), (0.84, 0.85, 0.86), (0.79, 0.81, 0.80)
    p = ttest_rel(other, recipe).pvalue
    seen = 100 * detectable({"seeds": [0, 1, 2], "low": 0.04 - 0.02484, "high": 0.04 + 0.02484})
    lines = list(tuning_table({"rows": rows(recipe=recipe, other=other, same=same)}))
    assert lines[2:] == [
        "| recipe | 3 | 81.00 ± 1.00 | 80.00 ± 1.00 |  |  |  |  |",
        f"| other | 3 | 85.00 ± 1.00 | 84.00 ± 1.00 | +4.00 | +1.52 to +6.48 | {p:.2g} | {seen:.1f} |",
        "| same | 3 | 80.00 ± 1.00 | 79.00 ± 1.00 | −1.00 |  |  |  |",  # the same difference for every seed: no test
    ]
