"""Models compared on the points themselves: who is ahead, by how much, and how sure that is.

Two entries of which every point's fate is known are compared in pairs, point by point: McNemar's exact test and Tango's
interval. Where one of them is known by its share alone, as the published are, the two shares are compared as if each
came from points of its own: the test of two proportions and Newcombe's interval. If both stand on the same points this
errs on the side of caution, since models tend to fail on the same points, and what they share cancels in the truth.
Everything speaks of other test points, for these very weights; of other seeds `rb_smooth.training.sweep.comparison`
speaks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.core.statistics import Pairs, holm, mcnemar, newcombe, tango, two_proportions, wilson
from rb_smooth.evaluation.per_example import Outcomes
from rb_smooth.leaderboard.entries import Entry
from rb_smooth.leaderboard.reports.comparable import (
    BALL_AND_ATTACK,
    Contender,
    Either,
    apart,
    contender,
    on_same_points,
    published_rows,
)
from rb_smooth.leaderboard.reports.ranking import in_short, placed, position

_HOW = {"paired": "a", "same points": "b", "other points": "c"}

_KINDS = {
    "paired": "a: McNemar's exact test and Tango's interval, on the points that only one of the two has right.",
    "same points": "b: test of two proportions and Newcombe's interval, as if each had points of its own. They are the "
    "same, and models tend to fail on the same ones: intervals are wider, and p larger, than they need be.",
    "other points": "c: as b, but the points are not the same: the difference is one of points as well as of models.",
}


def differences(one: Either, other: Either) -> dict[str, Any]:
    """`one` minus `other`, as plain values: each an Entry of ours, or one of `comparable.published_rows`.

    one, other: names. apart: all in which they were not measured alike, in words; anything there, and they are not
    ranked. figures: for `clean` and `autoattack` the `difference` of shares, its 95 % interval `low` to `high`, `p` of
    no difference, `kind` (paired, same points, other points) with `test` and `interval` by name, and `pairs`: how many
    points both, only the one, only the other, neither has right; None unless paired. A figure is None where the two
    are of different things: other ball, other attack. notes: files that could not be used, and why.
    """
    first, second = contender(one), contender(other)
    reasons = apart(first, second)
    told = {reason.partition(":")[0] for reason in reasons}
    return {
        "one": first.name,
        "other": second.name,
        "apart": reasons,
        "figures": {
            "clean": None if "data set" in told else _measured(first, second, "clean"),
            "autoattack": None if told & BALL_AND_ATTACK else _measured(first, second, "autoattack"),
        },
        "notes": [each.outcomes for each in (first, second) if isinstance(each.outcomes, str)],
    }


def compared(entries: Sequence[Either]) -> dict[str, Any]:
    """Several in plain values: `positions` of ours by name (`ranking.position`), `differences` of every pair."""
    return {
        "positions": {entry.name: position(entry) for entry in entries if isinstance(entry, Entry)},
        "differences": [differences(one, other) for one, other in combinations(entries, 2)],
    }


def matched(entries: Sequence[Either]) -> list[Table | str]:
    """What to print of several: their figures, ranked if they were all measured alike, and every pair's difference.

    Of a single entry of ours: its place among the published, and the differences from those next to it there.
    """
    contenders = list({each.name: each for each in map(contender, entries)}.values())
    if len(contenders) == 1 and contenders[0].entry is not None:
        return _alone(contenders[0])
    contenders.sort(key=lambda each: -each.figures["autoattack"])
    found = [differences(*pair) for pair in combinations(contenders, 2)]
    titles = dict.fromkeys(each.title for each in contenders)
    lines: list[Table | str] = [_figures_table(contenders, ranked=not any(pair["apart"] for pair in found))]
    lines += [
        f"not ranked: {pair['one']} and {pair['other']} differ in {'; '.join(pair['apart'])}"
        for pair in found
        if pair["apart"]
    ]
    lines += _differences_lines(found, " or ".join(titles))
    return lines + [in_short(position(each.entry)) for each in contenders if each.entry is not None]


def _alone(mine: Contender) -> list[Table | str]:
    assert mine.entry is not None
    rows = published_rows(mine.entry.dataset, mine.entry.threat)
    beside = [place[side] for place in position(mine.entry)["places"] for side in ("above", "below")]
    names = dict.fromkeys(row["name"] for row in beside if row is not None)
    return placed(mine.entry) + _differences_lines([differences(mine, rows[name]) for name in names], mine.title)


def _measured(one: Contender, other: Contender, figure: str) -> dict[str, Any]:
    a, b = one.outcomes, other.outcomes
    same_points = on_same_points(one, other)
    if same_points and isinstance(a, Outcomes) and isinstance(b, Outcomes):
        return _paired(a.right, b.right) if figure == "clean" else _paired(a.stood, b.stood)
    sizes = (one.figures[figure], one.n, other.figures[figure], other.n)
    low, high = newcombe(*sizes)
    return {
        "difference": one.figures[figure] - other.figures[figure],
        "low": low,
        "high": high,
        "p": two_proportions(*sizes),
        "kind": "same points" if same_points else "other points",
        "test": "two proportions",
        "interval": "Newcombe's hybrid score",
        "pairs": None,
    }


def _paired(one: list[bool], other: list[bool]) -> dict[str, Any]:
    counted = Counter(zip(one, other, strict=True))
    pairs = Pairs(*(counted[flags] for flags in ((True, True), (True, False), (False, True), (False, False))))
    low, high = tango(pairs)
    return {
        "difference": (pairs.only_one - pairs.only_other) / pairs.n,
        "low": low,
        "high": high,
        "p": mcnemar(pairs),
        "kind": "paired",
        "test": "McNemar, exact",
        "interval": "Tango's score",
        "pairs": pairs._asdict(),
    }


def _figures_table(contenders: list[Contender], ranked: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("model", overflow="fold")
    for heading in ("clean", "robust", "95 % interval", "points", "eps", "attack"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in contenders:
        robust = each.figures["autoattack"]
        rank = 1 + sum(other.figures["autoattack"] > robust for other in contenders)
        low, high = wilson(robust * each.n, each.n)
        cells = [f"{each.figures['clean']:.2%}", f"{robust:.2%}", f"{low:.1%} – {high:.1%}", str(each.n)]
        terms = [f"{each.terms['norm']} {each.terms['eps']}", each.terms["attack"]]
        table.add_row(str(rank) if ranked else "–", each.name + _remarks(each), *cells, *terms)
    return table


def _remarks(of: Contender) -> str:
    """What a figure must not be read without."""
    if of.entry is None:
        return " (published)"
    remarks = ["selected on test"] if of.entry.own["score"].get("selected_on") == "test" else []
    remarks += ["unreliable"] if of.entry.info.get("unreliable") else []
    return f" ({', '.join(remarks)})" if remarks else ""


def _differences_lines(found: list[dict[str, Any]], title: str) -> list[Table | str]:
    """The table of all that could be compared, p corrected for all of its rows, and what the words in it mean."""
    measured = [(pair, pair["figures"]["autoattack"]) for pair in found if pair["figures"]["autoattack"]]
    notes: list[Table | str] = [*dict.fromkeys(note for pair in found for note in pair["notes"])]
    if not measured:
        return notes
    table = Table(title=f"{title}, difference in points", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("models", overflow="fold")
    for heading in ("difference", "95 % interval", "p", "p (Holm)", "only one right", "how"):
        table.add_column(heading, justify="right", no_wrap=True)
    corrected = holm([figure["p"] for _, figure in measured])
    for (pair, figure), p_holm in zip(measured, corrected, strict=True):
        pairs = figure["pairs"]
        table.add_row(
            f"{pair['one']}\n- {pair['other']}",
            f"{100 * figure['difference']:+.2f}",
            f"{100 * figure['low']:+.2f} to {100 * figure['high']:+.2f}",
            f"{figure['p']:.2g}",
            f"{p_holm:.2g}",
            f"{pairs['only_one']} : {pairs['only_other']}" if pairs else "",
            _HOW[figure["kind"]],
        )
    kinds = {figure["kind"] for _, figure in measured}
    return [table, *(text for kind, text in _KINDS.items() if kind in kinds), *notes]
