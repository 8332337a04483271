"""Means, deviations and paired tests as a statistics book computes them, and what is not compared."""

from __future__ import annotations

import io
import json
import math
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rb_smooth.core.statistics import holm_correction
from rb_smooth.training.sweep.comparison import RunResult, best_method, compare_methods
from rb_smooth.training.sweep.tables import render_tables

T_2 = 4.302652729911275
"""Student's t, 97.5 %, two degrees of freedom."""


def result(method, seed, autoattack, *, eps=0.15, n=100, pgd20=0.6, last=0.5, selected_on="validation"):
    score = {
        "title": method,
        "clean": 0.9,
        "pgd20": pgd20,
        "autoattack": autoattack,
        "last": {"clean": 0.9, "pgd20": last},
        "threat": {"norm": "Linf", "eps": eps, "step_size": 0.03},
        "version": "standard",
        "n": n,
        "fingerprint": "f",
        "selected_on": selected_on,
    }
    return RunResult(method, seed, score)


def results_of(method, *values, **more):
    """One result for each of the values, seeds 0, 1, …"""
    return [result(method, seed, value, **more) for seed, value in enumerate(values)]


def rendered(compared):
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=True, soft_wrap=True, markup=False, highlight=False)
    for each in render_tables("digits", compared):
        console.print(each)
    return text.getvalue()


def test_holm_is_as_computed_by_hand():
    assert holm_correction([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_correction([0.6, 0.7]) == [1.0, 1.0]
    assert holm_correction([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_never_helps(p):
    adjusted = holm_correction(p)
    assert all(one <= corrected <= 1 for one, corrected in zip(p, adjusted))
    assert [corrected for _, corrected in sorted(zip(p, adjusted))] == sorted(adjusted)


def test_a_row_is_the_mean_and_the_deviation_of_a_sample():
    (group,) = compare_methods(results_of("at", 0.50, 0.52, 0.57))
    (row,) = group["methods"]
    mean = 0.53
    deviation = math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2)
    assert row["autoattack"]["mean"] == pytest.approx(mean)
    assert row["autoattack"]["std"] == pytest.approx(deviation)
    assert row["seeds"] == [0, 1, 2]
    assert "53.00±3.61" in rendered([group])


def test_the_gap_is_the_best_epoch_minus_the_last():
    (group,) = compare_methods([result("at", 0, 0.5, pgd20=0.61, last=0.52)])
    assert group["methods"][0]["gap"]["mean"] == pytest.approx(0.09)
    assert "9.00" in rendered([group])


def test_one_seed_has_no_deviation_and_no_test():
    compared = compare_methods(results_of("at", 0.5) + results_of("at+awp", 0.6))
    text = rendered(compared)
    assert "±" not in text.partition("over seeds")[2]
    assert "not tested, fewer than 2 seeds in common: at+awp and at" in text
    assert json.loads(json.dumps(compared, allow_nan=False)) == compared


def test_the_paired_test_is_as_computed_by_hand():
    differences = (0.01, 0.02, 0.06)
    base = (0.50, 0.40, 0.60)
    (group,) = compare_methods(
        results_of("at", *base) + results_of("at+awp", *(b + d for b, d in zip(base, differences)))
    )
    (found,) = group["differences"]
    mean = fmean(differences)
    error = math.sqrt(sum((d - mean) ** 2 for d in differences) / 2 / 3)
    t = mean / error
    assert (found["method"], found["minus"]) == ("at+awp", "at")
    assert found["mean"] == pytest.approx(mean)
    assert (found["low"], found["high"]) == pytest.approx((mean - T_2 * error, mean + T_2 * error))
    assert found["p"] == pytest.approx(1 - t / math.sqrt(2 + t**2))
    assert found["p_holm"] == found["p"]
    assert "at+awp - at" in rendered([group])


def test_pairs_are_of_equal_seeds_whatever_their_order_and_number():
    one = results_of("at", 0.50, 0.40, 0.60)
    other = [result("at+awp", seed, 0.5 + 0.01 * seed) for seed in (7, 2, 1, 0)]
    (found,) = compare_methods(one + other)[0]["differences"]
    assert found["seeds"] == [0, 1, 2]
    assert found["mean"] == pytest.approx(fmean((0.0, 0.11, -0.08)))


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_differences_that_do_not_vary_are_not_called_certain(shift):
    base = (0.5, 0.4, 0.3)
    (group,) = compare_methods(results_of("at", *base) + results_of("at+awp", *(value + shift for value in base)))
    (found,) = group["differences"]
    assert found["p"] is None
    assert best_method(group) is None
    assert "not tested, the same difference for every seed" in rendered([group])


def test_p_is_corrected_over_all_pairs():
    (group,) = compare_methods(
        results_of("a", 0.50, 0.51, 0.55) + results_of("b", 0.53, 0.55, 0.57) + results_of("c", 0.60, 0.66, 0.65)
    )
    assert [(each["method"], each["minus"]) for each in group["differences"]] == [("b", "a"), ("c", "a"), ("c", "b")]
    assert [each["p_holm"] for each in group["differences"]] == holm_correction(
        [each["p"] for each in group["differences"]]
    )
    assert max(each["p_holm"] / each["p"] for each in group["differences"]) == pytest.approx(3)


def test_bold_is_what_the_test_against_the_second_calls_best():
    clear = compare_methods(results_of("at", 0.500, 0.511, 0.522) + results_of("at+awp", 0.600, 0.612, 0.621))
    assert best_method(clear[0]) == "at+awp"
    assert "\x1b[1m61.10±1.05" in rendered(clear)
    unclear = compare_methods(results_of("at", 0.50, 0.60, 0.40) + results_of("at+awp", 0.60, 0.50, 0.55))
    assert best_method(unclear[0]) is None
    assert "\x1b[1m5" not in rendered(unclear)


def test_of_many_methods_those_pairs_are_printed_that_tell_what_one_part_adds():
    names = ("at", "at+awp", "at+ensgd", "at+awp+ensgd", "trades", "trades+awp")
    six = [each for number, name in enumerate(names) for each in results_of(name, 0.50 + number / 50, 0.52, 0.55)]
    pairs = [f"{later} - {earlier} " for earlier, later in combinations(names, 2)]
    shown = rendered(compare_methods(six))
    assert [pair for pair in pairs if pair in shown] == pairs
    assert "other pairs" not in shown
    shown = rendered(compare_methods(six + results_of("trades+ensgd", 0.5)))
    near = [
        "at+awp - at ",
        "at+ensgd - at ",
        "at+awp+ensgd - at+awp ",
        "at+awp+ensgd - at+ensgd ",
        "trades+awp - trades ",
    ]
    assert [pair for pair in pairs if pair in shown] == near
    assert "not tested, fewer than 2 seeds in common: trades+ensgd and trades\n" in shown
    assert "15 more pairs differ in more than one part" in shown


@pytest.mark.parametrize("other", [{"n": 90}, {"eps": 0.1}, {"selected_on": "test"}])
def test_runs_on_other_points_or_by_another_protocol_are_not_mixed(other):
    compared = compare_methods(results_of("at", 0.5, 0.6) + results_of("at+awp", 0.7, 0.8, **other))
    assert [[row["method"] for row in group["methods"]] for group in compared] == [["at"], ["at+awp"]]
    assert not any(group["differences"] for group in compared)
    assert "do not compare" in rendered(compared)
