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
from rb_smooth.leaderboard.entries import Entry
from rb_smooth.leaderboard.reports.comparable import (
    BALL_AND_ATTACK,
    ComparableModel,
    ModelLike,
    comparable_model,
    has_same_points,
    incomparable_because,
    published_by_name,
)
from rb_smooth.leaderboard.reports.ranking import position, position_sentence, position_table, rank

_METHOD_MARKS = {"paired": "a", "same points": "b", "other points": "c"}

_METHOD_NOTES = {
    "paired": "a: McNemar's exact test and Tango's interval, on the points that only one of the two has right.",
    "same points": "b: test of two proportions and Newcombe's interval, as for independent samples. The points are the "
    "same, and models tend to fail on the same ones: intervals and p are larger than with a paired test.",
    "other points": "c: as b, but the test points differ: the difference is one of points as well as of models.",
}


def differences(one: ModelLike, other: ModelLike) -> dict[str, Any]:
    """`one` minus `other`, as JSON-ready values: each an Entry of ours, or one of `comparable.published_by_name`.

    one, other: names. apart: the terms in which their protocols differ, in words; if there are any, they are not
    ranked. figures: for `clean` and `autoattack` the `difference` of shares, its 95 % interval `low` to `high`, `p` of
    no difference, `kind` (paired, same points, other points) with `test` and `interval` by name, and `pairs`: the
    number of points that both, only one, only the other, neither classifies correctly; None unless paired. A figure is
    None if the two are not the same quantity: other ball, other attack. notes: unusable files, and why.
    """
    first, second = comparable_model(one), comparable_model(other)
    reasons = incomparable_because(first, second)
    differing = {reason.partition(":")[0] for reason in reasons}
    return {
        "one": first.name,
        "other": second.name,
        "apart": reasons,
        "figures": {
            "clean": None if "data set" in differing else _accuracy_difference(first, second, "clean"),
            "autoattack": None if differing & BALL_AND_ATTACK else _accuracy_difference(first, second, "autoattack"),
        },
        "notes": [each.outcomes for each in (first, second) if isinstance(each.outcomes, str)],
    }


def compare_entries(entries: Sequence[ModelLike]) -> dict[str, Any]:
    """JSON-ready values: `positions` of our entries by name (`ranking.position`), `differences` of every pair."""
    return {
        "positions": {entry.name: position(entry) for entry in entries if isinstance(entry, Entry)},
        "differences": [differences(one, other) for one, other in combinations(entries, 2)],
    }


def comparison_table(entries: Sequence[ModelLike]) -> list[Table | str]:
    """Lines to print: accuracies, ranked if all protocols agree, and the difference of every pair.

    For a single entry of ours: its position among the published entries, and its differences from its neighbours.
    """
    models = list({each.name: each for each in map(comparable_model, entries)}.values())
    if len(models) == 1 and models[0].entry is not None:
        return _single_entry_table(models[0])
    models.sort(key=lambda each: -each.figures["autoattack"])
    found = [differences(*pair) for pair in combinations(models, 2)]
    titles = dict.fromkeys(each.title for each in models)
    lines: list[Table | str] = [_figures_table(models, ranked=not any(pair["apart"] for pair in found))]
    lines += [
        f"not ranked: {pair['one']} and {pair['other']} differ in {'; '.join(pair['apart'])}"
        for pair in found
        if pair["apart"]
    ]
    lines += _differences_lines(found, " or ".join(titles))
    return lines + [position_sentence(position(each.entry)) for each in models if each.entry is not None]


def _single_entry_table(own_entry: ComparableModel) -> list[Table | str]:
    assert own_entry.entry is not None
    rows = published_by_name(own_entry.entry.dataset, own_entry.entry.threat)
    neighbours = [place[side] for place in position(own_entry.entry)["places"] for side in ("above", "below")]
    names = dict.fromkeys(row["name"] for row in neighbours if row is not None)
    return position_table(own_entry.entry) + _differences_lines(
        [differences(own_entry, rows[name]) for name in names], own_entry.title
    )


def _accuracy_difference(one: ComparableModel, other: ComparableModel, figure: str) -> dict[str, Any]:
    a, b = one.outcomes, other.outcomes
    same_points = has_same_points(one, other)
    if same_points and isinstance(a, PerExampleResults) and isinstance(b, PerExampleResults):
        return (
            _paired_counts(a.is_correct, b.is_correct)
            if figure == "clean"
            else _paired_counts(a.is_robust, b.is_robust)
        )
    sizes = (one.figures[figure], one.n, other.figures[figure], other.n)
    low, high = newcombe_interval(*sizes)
    return {
        "difference": one.figures[figure] - other.figures[figure],
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


def _figures_table(models: list[ComparableModel], ranked: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("model", overflow="fold")
    for heading in ("clean", "robust", "95 % interval", "points", "eps", "attack"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in models:
        robust = each.figures["autoattack"]
        place = rank(robust, (other.figures["autoattack"] for other in models))
        low, high = wilson_interval(robust * each.n, each.n)
        cells = [f"{each.figures['clean']:.2%}", f"{robust:.2%}", f"{low:.1%} – {high:.1%}", str(each.n)]
        terms = [f"{each.terms['norm']} {each.terms['eps']}", each.terms["attack"]]
        table.add_row(str(place) if ranked else "–", each.name + _caveats(each), *cells, *terms)
    return table


def _caveats(model: ComparableModel) -> str:
    """Caveats for a model's accuracy, in brackets; empty if there are none."""
    if model.entry is None:
        return " (published)"
    remarks = ["selected on test"] if model.entry.own["score"].get("selected_on") == "test" else []
    remarks += ["unreliable"] if model.entry.info.get("unreliable") else []
    return f" ({', '.join(remarks)})" if remarks else ""


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
