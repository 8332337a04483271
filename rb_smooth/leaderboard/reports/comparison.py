"""Differences between models with confidence intervals and p-values.

Two entries with points.csv are compared point by point: McNemar's exact test and Tango's interval. Otherwise two shares
are compared as independent proportions: two-proportion test and Newcombe's interval. On equal test points this is
conservative, since models tend to fail on the same points. Uncertainty is over test points, for fixed weights; over
training seeds see `rb_smooth.training.sweep.comparison`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.core.statistics import (
    PairedCounts,
    holm_correction,
    mcnemar_test,
    newcombe_interval,
    tango_interval,
    two_proportion_test,
    wilson_interval,
)
from rb_smooth.evaluation.per_example import PerExampleResults
from rb_smooth.leaderboard.reports.board import Board
from rb_smooth.leaderboard.reports.ranking import caveats, position, position_sentence, position_table
from rb_smooth.leaderboard.reports.rows import ModelRow, differing_terms, separation

Placed = tuple[ModelRow, Board]
"""A model, and its board."""

_BALL_AND_ATTACK = {"data set", "norm", "eps", "attack"}
"""If one of these differs, robust accuracies are different quantities and are not subtracted."""

_METHOD_MARKS = {"paired": "a", "same points": "b", "other points": "c"}

_METHOD_NOTES = {
    "paired": "a: McNemar's exact test and Tango's interval, on the points that only one of the two has right.",
    "same points": "b: test of two proportions and Newcombe's interval, as for independent samples. The points are the "
    "same, and models tend to fail on the same ones: intervals and p are larger than with a paired test.",
    "other points": "c: as b, but the test points differ: the difference is one of points as well as of models.",
}


def differences(one: ModelRow, other: ModelRow) -> dict[str, Any]:
    """`one` minus `other`, as JSON-ready values.

    one, other: names. apart: the terms in which their protocols differ, in words. figures: for `clean` and `autoattack`
    the `difference` of shares, its 95 % interval `low` to `high`, `p` of no difference, `kind` (paired, same points,
    other points) with `test` and `interval` by name, and `pairs`: the number of points that both, only one, only the
    other, neither classifies correctly; None unless paired. A figure is None if the two are not the same quantity:
    other ball, other attack. notes: unusable files, and why.
    """
    differing = differing_terms(one, other)
    robust = (one.robust, other.robust, "is_robust")
    return {
        "one": one.name,
        "other": other.name,
        "apart": [f"{term}: {values}" for term, values in differing.items()],
        "figures": {
            "clean": None if "data set" in differing else _difference(one, other, one.clean, other.clean, "is_correct"),
            "autoattack": None if differing.keys() & _BALL_AND_ATTACK else _difference(one, other, *robust),
        },
        "notes": [each.results for each in (one, other) if isinstance(each.results, str)],
    }


def compare_entries(models: Sequence[Placed]) -> dict[str, Any]:
    """JSON-ready values: `positions` of the models by name (`ranking.position`), `differences` of every pair."""
    return {
        "positions": {row.name: position(row, board) for row, board in models},
        "differences": [differences(one, other) for (one, _), (other, _) in combinations(models, 2)],
    }


def comparison_table(models: Sequence[Placed]) -> list[Table | str]:
    """Lines to print: accuracies, the difference of every pair, and each model's rank on its board.

    For a single model: its rank with its neighbours, and its differences from them.
    """
    if len(models) == 1:
        return _single_model_table(*models[0])
    ordered = sorted(models, key=lambda placed: -placed[0].best_known)
    found = [differences(one, other) for (one, _), (other, _) in combinations(ordered, 2)]
    lines: list[Table | str] = [_figures_table(ordered)]
    for pair, (one, other) in zip(found, combinations(ordered, 2), strict=True):
        if pair["apart"]:
            what = "not ranked together" if separation(one[0], other[0]) else "ranked together"
            lines.append(f"{what}: {pair['one']} and {pair['other']} differ in {'; '.join(pair['apart'])}")
    lines += _differences_lines(found, " or ".join(dict.fromkeys(row.attack for row, _ in ordered)))
    seeds = Counter((row.dataset, row.method) for row, _ in ordered if row.ours)
    if 2 in seeds.values():
        lines.append(
            "warning: two seeds of a method say little about how far its seeds differ; train three or more (intervals "
            "here are over test points)"
        )
    return lines + [position_sentence(position(row, board)) for row, board in ordered]


def _single_model_table(row: ModelRow, board: Board) -> list[Table | str]:
    rows = {each.name: each for each in board.group_of(row).rows}
    neighbours = [place[side] for place in position(row, board)["places"] for side in ("above", "below")]
    names = dict.fromkeys(each["name"] for each in neighbours if each is not None)
    return position_table(row, board) + _differences_lines([differences(row, rows[name]) for name in names], row.attack)


def _difference(one: ModelRow, other: ModelRow, share: float, other_share: float, flags: str) -> dict[str, Any]:
    """flags: the attribute of per-example results that says which points `share` counts."""
    same_points = one.points == other.points
    if same_points and isinstance(one.results, PerExampleResults) and isinstance(other.results, PerExampleResults):
        return _paired_counts(getattr(one.results, flags), getattr(other.results, flags))
    sizes = (share, one.n, other_share, other.n)
    low, high = newcombe_interval(*sizes)
    return {
        "difference": share - other_share,
        "low": low,
        "high": high,
        "p": two_proportion_test(*sizes),
        "kind": "same points" if same_points else "other points",
        "test": "two proportions",
        "interval": "Newcombe's hybrid score",
        "pairs": None,
    }


def _paired_counts(one: list[bool], other: list[bool]) -> dict[str, Any]:
    counted = Counter(zip(one, other, strict=True))
    pairs = PairedCounts(*(counted[flags] for flags in ((True, True), (True, False), (False, True), (False, False))))
    low, high = tango_interval(pairs)
    return {
        "difference": (pairs.only_one - pairs.only_other) / pairs.n,
        "low": low,
        "high": high,
        "p": mcnemar_test(pairs),
        "kind": "paired",
        "test": "McNemar, exact",
        "interval": "Tango's score",
        "pairs": pairs._asdict(),
    }


def _figures_table(models: Sequence[Placed]) -> Table:
    """Ranks are those of the board, among all of its comparable models."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("model", overflow="fold")
    for heading in ("clean", "robust", "95 % interval", "points", "eps", "attack"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, _ in models:
        place = str(row.rank or "–")
        low, high = wilson_interval(row.robust * row.n, row.n)
        figures = f"{row.clean:.2%}", f"{row.robust:.2%}", f"{low:.1%} – {high:.1%}", str(row.n)
        table.add_row(place, row.name + caveats(row), *figures, f"{row.threat} {row.eps}", row.terms["attack"])
    return table


def _differences_lines(found: list[dict[str, Any]], title: str) -> list[Table | str]:
    """The table of the comparable pairs, with p corrected for all of its rows (Holm), and notes on the methods used."""
    measured = [(pair, pair["figures"]["autoattack"]) for pair in found if pair["figures"]["autoattack"]]
    notes: list[Table | str] = [*dict.fromkeys(note for pair in found for note in pair["notes"])]
    if not measured:
        return notes
    table = Table(title=f"{title}, difference in points", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("models", overflow="fold")
    for heading in ("difference", "95 % interval", "p", "p (Holm)", "only one right", "how"):
        table.add_column(heading, justify="right", no_wrap=True)
    corrected = holm_correction([figure["p"] for _, figure in measured])
    for (pair, figure), p_holm in zip(measured, corrected, strict=True):
        pairs = figure["pairs"]
        table.add_row(
            f"{pair['one']}\n- {pair['other']}",
            f"{100 * figure['difference']:+.2f}",
            f"{100 * figure['low']:+.2f} to {100 * figure['high']:+.2f}",
            f"{figure['p']:.2g}",
            f"{p_holm:.2g}",
            f"{pairs['only_one']} : {pairs['only_other']}" if pairs else "",
            _METHOD_MARKS[figure["kind"]],
        )
    kinds = {figure["kind"] for _, figure in measured}
    return [table, *(text for kind, text in _METHOD_NOTES.items() if kind in kinds), *notes]
