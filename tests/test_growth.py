"""The cost of a board grows in proportion to its entries: counted, not timed."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest
from growing_board import BOARD, entry_name, make_board, make_runs

from rb_smooth.config import yaml
from rb_smooth.core.errors import UserError
from rb_smooth.leaderboard import __main__ as leaderboard
from rb_smooth.leaderboard.entries import find_entry, list_entries
from rb_smooth.leaderboard.page import render
from rb_smooth.leaderboard.page.render import write_page
from rb_smooth.leaderboard.reports.paper_tables import as_csv, build_tables
from rb_smooth.leaderboard.reports.ranking import ranking_table
from rb_smooth.training.run_folder.summary import find_runs, summarise
from rb_smooth.training.sweep import comparison


def count_calls(monkeypatch, module, name):
    """The list to which each later call of the module's function adds its arguments."""
    calls, real = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given, **named: (calls.append(given), real(*given, **named))[1])
    return calls


def test_a_table_of_many_methods_tests_only_the_best_two(tmp_path, monkeypatch):
    tested = count_calls(monkeypatch, comparison, "paired_t_test")
    make_board(tmp_path, 0, 4 * 51)
    entries, _ = list_entries(tmp_path)
    (table,) = build_tables(entries)
    assert len(tested) == 1
    assert [row["best"] for row in table["rows"]].count(True) <= 1
    assert len(as_csv(entries).splitlines()) == 51 + 1


def test_the_best_of_many_methods_is_marked_only_where_every_correction_would(monkeypatch):
    monkeypatch.setattr(comparison, "_MANY_METHODS", 7)
    results = [
        comparison.RunResult(f"m{number}", seed, score(0.4 + number / 10**4 + (seed - 1) * spread))
        for number, spread in [*((number, 0.001 + number / 10**5) for number in range(7)), (2000, 0.00101)]
        for seed in range(3)
    ]
    (every,) = comparison.compare_methods(results)
    (few,) = comparison.compare_methods(results, all_pairs=False)
    (test,) = few["differences"]
    same = next(each for each in every["differences"] if (each["method"], each["minus"]) == ("m2000", test["minus"]))
    assert test["p"] == same["p"]
    assert same["p"] < same["p_holm"] <= test["p_holm"] == pytest.approx(7 * 8 / 2 * test["p"])
    assert few["methods"] == every["methods"]


def score(autoattack):
    return {
        "clean": 0.8,
        "pgd20": 0.5,
        "autoattack": autoattack,
        "last": {"pgd20": 0.5},
        "threat": {"norm": "Linf", "eps": 8 / 255, "step_size": 2 / 255},
        "n": 100,
        "version": "standard",
        "fingerprint": "f",
        "selected_on": "validation",
        "title": "at",
    }


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 1000, "- " * 5000, f"[&a 1{', *a' * 21}]"])
def test_nested_and_repeated_yaml_is_refused_before_it_is_composed(text):
    with pytest.raises(UserError, match="more than 20 aliases or 50 levels"):
        yaml.parse_yaml(text, "here")


def calls_of(work):
    """The number of calls of functions, Python's and C's, that `work` makes."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda board: write_page(board), marks=pytest.mark.slow),
        lambda board: main_of(board, "table", *BOARD, "--csv"),
        lambda board: main_of(board, "show", entry_name(7)),
        lambda board: main_of(board, "compare", entry_name(0), entry_name(5), "--json"),
        lambda board: ranking_table(find_entry(entry_name(7), board)),
        lambda board: [summarise(*each) for each in find_runs(board / "runs")],
    ],
    ids=["page", "table", "show", "compare", "rank", "runs"],
)
def test_every_further_entry_costs_the_same_number_of_calls(tmp_path, monkeypatch, work):
    monkeypatch.setattr(render, "MAX_PAGE_BYTES", 100)
    monkeypatch.setattr(comparison, "_MANY_METHODS", 1)
    board, counts = tmp_path / "board", []
    for first, last in pairwise((0, 8, 32, 56, 80)):
        make_board(board, first, last)
        make_runs(board / "runs", first, last)
        counts.append(calls_of(lambda: work(board)))
    _, second, third = steps = [later - earlier for earlier, later in pairwise(counts)]
    assert min(steps) > 24  # each entry is read
    assert abs(third - second) < 0.05 * second  # of a cost that grows with the square, the difference would be constant


def main_of(board, *arguments):
    sys.argv = ["leaderboard", *arguments, "--leaderboard", str(board)]
    leaderboard.main()
