"""Methods with one seed are compared per example, with detectable differences."""

from __future__ import annotations

import numpy as np
import pytest
from fake_entries import add_points, make_entry
from per_example_tests import detectable, entries_of, point_lines
from scipy.stats import binomtest

from rb_smooth.core.statistics import PairedCounts, holm_correction, tango_interval

N = 100
ROBUST = {"at": 40, "at+ensgd": 41, "at+awp": 52, "at+awp+ensgd": 50}


@pytest.fixture
def board(tmp_path):
    """Four entries; each is robust on its first points, as many as ROBUST says, and at also on the last two."""
    for method, robust in ROBUST.items():
        flags = [index < robust or (method == "at" and index >= N - 2) for index in range(N)]
        entry = make_entry(tmp_path, method, own={"run": f"run of {method}"}, n=N, autoattack=sum(flags) / N, clean=1.0)
        add_points(entry, flags)
    return tmp_path


def record(*methods):
    return {"runs": [{"method": method, "seed": 0, "identity": f"run of {method}"} for method in methods]}


def test_the_papers_claims_are_tested_per_example(board):
    lines = list(point_lines(entries_of(record(*ROBUST), board)))
    p = holm_correction([binomtest(1, 3).pvalue, binomtest(12, 14).pvalue, binomtest(0, 2).pvalue])
    low, high = (f"{100 * limit:+.2f}" for limit in tango_interval(PairedCounts(40, 12, 2, 46)))
    assert "1 of 3 differences is significant at 5 %" in lines[0]
    assert [line.split(" | ")[:4] for line in lines[4:7]] == [
        ["| `at+ensgd` − `at`", "1", "2", "−1.00"],
        ["| `at+awp` − `at`", "12", "2", "+10.00"],
        ["| `at+awp+ensgd` − `at+awp`", "0", "2", "−2.00"],
    ]
    assert lines[5].endswith(f" | {low} to {high} | {p[1]:.2g} | {detectable(14):.1f} |")
    assert lines[4].endswith(" | 1 | none |")


def test_methods_without_an_entry_or_with_several_seeds_are_left_out(board):
    assert not list(point_lines(entries_of(record("at"), board)))
    assert entries_of(record("at", "at+wa"), board).keys() == {"at"}
    twice = record("at", "at+awp")
    twice["runs"].append({"method": "at", "seed": 1, "identity": "run of at+ensgd"})
    assert entries_of(twice, board).keys() == {"at+awp"}


@pytest.mark.parametrize("decided", [8, 20, 75])
def test_a_detectable_difference_is_found_with_80_percent_power(decided):
    ahead = detectable(decided)
    drawn = np.random.default_rng(decided).binomial(decided, (1 + ahead / decided) / 2, 20_000)
    p = np.array([binomtest(k, decided).pvalue for k in range(decided + 1)])
    assert ((p[drawn] < 0.05) & (drawn > decided / 2)).mean() == pytest.approx(0.8, abs=0.01)


def test_too_few_decided_points_have_no_detectable_difference():
    assert detectable(5) is None
    assert detectable(0) is None
    assert detectable(6) is not None
