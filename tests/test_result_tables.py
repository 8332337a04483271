"""Tables of results say what was asked beforehand, and what each test could have seen; curves are what logs say."""

from __future__ import annotations

import re
from math import sqrt
from statistics import stdev

import learning_curves
import numpy as np
import pytest
from learning_curves import draw, logs_of, read_curves, write_curves
from result_tables import (
    CLAIMED_ON,
    CLAIMS,
    MAIN,
    claim_lines,
    detectable,
    figure_lines,
    group_lines,
    restrict_to,
    signed,
)
from scipy.stats import t, ttest_rel
from test_reproducing import results, run_name

from rb_smooth.core import files
from rb_smooth.core.statistics import holm_correction
from rb_smooth.training.sweep.comparison import compare_methods


@pytest.fixture
def group():
    scattered = {
        "at": (0.50, 0.52, 0.49),
        "at+ensgd": (0.51, 0.50, 0.50),
        "at+awp": (0.54, 0.56, 0.52),
        "at+awp+ensgd": (0.53, 0.55, 0.55),
        "at+wa": (0.55, 0.52, 0.53),
        "trades": (0.50, 0.51, 0.53),
    }
    (found,) = compare_methods([each for method, values in scattered.items() for each in results(method, *values)])
    return found


@pytest.fixture
def runs(group):
    return [run_name(row["method"], seed) for row in group["methods"] for seed in row["seeds"]]


def test_the_claims_are_tested_together_and_other_parts_apart(group, runs):
    text = "\n".join(group_lines(group, runs))
    claims, others = re.findall(r"accuracy, (.*?)\. Paired", text)
    assert (claims, others) == ("the papers' claims", "effect of one more part")
    first, second = text.split("effect of one more part")
    assert re.findall(r"^\| (`.*?` − `.*?`)", first, re.MULTILINE) == [
        "`at+ensgd` − `at`",
        "`at+awp` − `at`",
        "`at+awp+ensgd` − `at+awp`",
    ]
    assert set(re.findall(r"^\| (`.*?` − `.*?`)", second, re.MULTILINE)) == {
        "`at+wa` − `at`",
        "`at+awp+ensgd` − `at+ensgd`",
    }


def test_p_is_corrected_for_the_table_in_which_it_stands(group):
    by_pair = {(each["method"], each["minus"]): each["p"] for each in group["differences"]}
    expected = [f"{p:.2g}" for p in holm_correction([by_pair[pair] for pair in CLAIMS if pair in by_pair])]
    assert [line.split(" | ")[4] for line in claim_lines(group) if line.startswith("| `")] == expected
    found = sum(float(p) < 0.05 for p in expected)
    verb = "is" if found == 1 else "are"
    assert f"{found or 'None'} of 3 differences {verb} significant at 5 %" in "\n".join(claim_lines(group))


def test_every_claim_with_its_moving_average_is_a_claim_too():
    assert len(CLAIMS) == 6
    assert set(CLAIMED_ON) == {method for pair in CLAIMS for method in pair}
    assert {(f"{method}+wa", f"{minus}+wa") for method, minus in CLAIMS[:3]} == set(CLAIMS[3:])


@pytest.mark.parametrize("n", [3, 5, 8])
def test_a_detectable_difference_is_found_as_often_as_it_says(n):
    scatter = 0.013
    half = t.ppf(0.975, n - 1) * scatter / sqrt(n)
    true = detectable({"seeds": list(range(n)), "low": -half, "high": half})
    drawn = np.random.default_rng(n).normal(true, scatter, (20_000, n))
    found = ttest_rel(drawn, np.zeros_like(drawn), axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.015)


def test_the_scatter_is_taken_from_the_interval(group):
    (each,) = [each for each in group["differences"] if (each["method"], each["minus"]) == ("at+awp", "at")]
    differences = [0.04, 0.04, 0.03]
    half = t.ppf(0.975, 2) * stdev(differences) / sqrt(3)
    assert (each["high"] - each["low"]) / 2 == pytest.approx(half)
    wider = {**each, "low": each["low"] - half, "high": each["high"] + half}
    assert detectable(wider) == pytest.approx(2 * detectable(each))


def test_of_several_runs_the_median_one_says_how_long_training_takes(group, runs):
    runs[0]["training"]["seconds"] = 9999.0  # something else ran beside it
    lines = list(figure_lines(group, runs))
    assert lines[2].endswith("| best − last | seconds |")
    assert [line.split(" | ")[-1] for line in lines[4:6]] == ["120 |", "110 |"]


def test_of_a_group_only_what_is_chosen_is_shown(group, runs):
    chosen = restrict_to(group, MAIN)
    assert [row["method"] for row in chosen["methods"]] == ["at", "at+ensgd", "at+awp", "at+awp+ensgd"]
    assert "trades" not in "\n".join([*figure_lines(chosen, runs), *claim_lines(chosen)])


def test_a_difference_has_a_sign_and_nothing_is_not_below_nothing():
    assert [signed(share) for share in (0.0125, -0.0125, -1e-9)] == ["+1.25", "−1.25", "+0.00"]


@pytest.fixture
def curves(tmp_path):
    """Of a sweep of two methods with two seeds, and one that is none of the four."""
    runs = [("at", 0), ("at", 1), ("at+awp", 0), ("at+awp", 1), ("trades", 0)]
    for number, (method, seed) in enumerate(runs):
        rows = ["epoch,lr,loss,train_robust,val_clean,val_robust,best,seconds"]
        for epoch in range(3):
            rows.append(f"{epoch},0.1,{2 - epoch / 3},0.3,0.9,{0.4 + epoch / 10 + seed / 50},True,{10 + number}")
        files.write_text(tmp_path / f"{method}-s{seed}" / "log.csv", "\n".join([*rows, ""]))
    listed = [{"method": method, "seed": seed, "folder": f"{method}-s{seed}"} for method, seed in runs]
    return logs_of(listed, tmp_path)


def test_kept_curves_are_those_of_the_logs(curves, tmp_path):
    write_curves(curves, tmp_path / "kept.csv")
    curves = read_curves(tmp_path / "kept.csv")
    assert list(curves) == ["at", "at+awp"]  # and not trades
    assert {method: list(seeds) for method, seeds in curves.items()} == {"at": [0, 1], "at+awp": [0, 1]}
    assert [row["val_robust"] for row in curves["at"][1]] == pytest.approx([0.42, 0.52, 0.62])
    assert "test_robust" not in curves["at"][0][0]


def test_a_figure_shows_the_mean_over_seeds_by_epoch_and_by_time(curves, tmp_path, drawn_figures):
    draw(curves, tmp_path / "drawn.png")
    (figure,) = drawn_figures
    by_epoch, by_time = figure.axes
    *seeds, line = by_epoch.lines[:3]
    assert [list(each.get_ydata()) for each in seeds] == [pytest.approx([40, 50, 60]), pytest.approx([42, 52, 62])]
    assert max(each.get_linewidth() for each in seeds) < line.get_linewidth()
    assert {each.get_color() for each in seeds} == {line.get_color()}
    assert not by_epoch.collections  # bands of several methods add up to grey
    assert list(line.get_xdata()) == [1, 2, 3]
    assert list(line.get_ydata()) == pytest.approx([41, 51, 61])
    assert list(by_time.lines[0].get_xdata()) == pytest.approx([10.5, 21, 31.5])  # of two runs, 10 and 11 s an epoch
    low, high = by_epoch.get_ylim()
    assert 41 < low < 50 < 62 < high  # of three epochs the last two are shown whole, of each seed
    assert by_epoch.get_ylabel() == f"PGD accuracy on validation images (%)\naxis from {low:.0f} %, not from 0"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["AT (2)", "AT+AWP (2)"]
    assert figure.legends[0].get_title().get_text() == "mean of each method (seeds); thin lines: each seed"


def test_every_kept_file_is_drawn_and_the_same_again(curves, tmp_path, monkeypatch):
    monkeypatch.setattr(learning_curves, "STORED_CURVES", tmp_path / "kept")
    monkeypatch.setattr(learning_curves, "SMALL", tmp_path / "none")
    monkeypatch.setattr(learning_curves, "FIGURES", tmp_path / "figures")
    write_curves(curves, tmp_path / "kept" / "digits.csv")
    learning_curves.main()
    (picture,) = (tmp_path / "figures").iterdir()
    assert picture.name == "learning-curves-digits.png"
    before = picture.read_bytes()
    learning_curves.main()
    assert picture.read_bytes() == before


def test_of_one_seed_the_figures_say_of_what_their_interval_is(runs):
    (group,) = compare_methods(results("at", 0.5))
    first, *_ = figure_lines(group, runs)
    assert "%, with the 95 % interval over other test points;" in first
    assert "seeds" not in first
