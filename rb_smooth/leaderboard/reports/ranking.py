"""Rank an entry among our comparable entries and RobustBench's: `ranking_table` to print, `position` as values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.leaderboard.entries import Entry, list_entries, published_entries
from rb_smooth.leaderboard.metadata import architecture_family
from rb_smooth.leaderboard.reports.board import ModelRow, make_board, own_row, published_rows, separation

_NEIGHBOURS = 4
"""Rows shown above and below each of ours."""

_MAX_UNWRAPPED = 20
"""Characters of a column's title above which it may wrap."""


def rank(robust: float, others: Iterable[float]) -> int:
    """1 + the number of `others` with a higher accuracy: equal models share a rank."""
    return 1 + sum(other > robust for other in others)


def rank_range(interval: Sequence[float], others: Sequence[float]) -> list[int]:
    """[best, worst]: the ranks at the two ends of a confidence interval, `others` taken as exact."""
    low, high = interval
    return [rank(high, others), rank(low, others)]


def ranking_table(entry: Entry) -> list[Table | str]:
    """Lines to print: the board around `entry`, entries that are not comparable and why, and unreadable files."""
    entries, complaints = list_entries(entry.leaderboard, entry.dataset, entry.threat)
    board = make_board(entry.dataset, entry.threat, entries)
    group = next(group for group in board.groups if any(row.ours and row.name == entry.name for row in group.rows))
    own = next(row for row in group.rows if row.ours and row.name == entry.name)
    table = Table(title=f"{own.dataset} {own.threat} eps {own.eps}, {own.n} test points", title_justify="left")
    table.box = SIMPLE_HEAD
    table.add_column("rank", justify="right")
    table.add_column("model", overflow="fold")
    for column in ("clean", "PGD-20", own.attack, "95 % interval"):
        table.add_column(column, justify="right", no_wrap=len(column) < _MAX_UNWRAPPED)
    for row in _excerpt(group.rows):
        cells = [str(row.rank or 1), *_cells(row)] if row else ["…"]
        table.add_row(*cells, style="bold" if row is own else None)
    lines: list[Table | str] = [table]
    if board.source and not all(row.ours for row in group.rows):
        lines.append(f"published entries: {board.source['source']}, {board.source['date']}")
    elif board.source:
        lines.append(f"published entries not ranked: {unranked_reason(own)}")
    lines += [
        f"not ranked: {row.name}, {row.attack} {row.robust:.2%} ({separation(row, own)})"
        for row in board.ours
        if row not in group.rows
    ]
    return lines + list(complaints)


def _cells(row: ModelRow) -> list[str]:
    figures = [f"{row.clean:.2%}", f"{row.score['pgd20']:.2%}" if row.ours else "", f"{row.robust:.2%}"]
    if row.interval:
        low, high = row.interval
        return [row.name + caveats(row), *figures, f"{low:.1%} – {high:.1%}"]
    remarks = [f"{row.best_known:.2%} by others"] if row.best_known < row.robust else []
    return [row.name, *figures, ", ".join(remarks + ["unreliable"] * bool(row.unreliable))]


def caveats(row: ModelRow) -> str:
    """What to know about the accuracy of one of ours, in brackets; empty if there is nothing."""
    remarks = ["selected on test"] * row.selected_on_test + ["unreliable"] * bool(row.unreliable)
    return f" ({', '.join(remarks)})" if remarks else ""


def _excerpt(rows: list[ModelRow]) -> list[ModelRow | None]:
    """The best rows, ours, and the neighbours of ours; None stands for a gap."""
    centres = [place for place, row in enumerate(rows) if row.ours]
    found: list[ModelRow | None] = []
    for place, row in enumerate(rows):
        if place < _NEIGHBOURS or any(abs(place - centre) <= _NEIGHBOURS for centre in centres):
            found.append(row)
        elif found[-1] is not None:
            found.append(None)
    return found


def unranked_reason(row: ModelRow) -> str:
    """Why no published entry is comparable with `row`; empty if one is."""
    reasons = [separation(row, other) for other in published_rows(row.dataset, row.threat)]
    return min(reasons, key=len, default=f"RobustBench has no board {row.dataset} {row.threat}")


def position(entry: Entry) -> dict[str, Any]:
    """The rank of `entry` among the published entries of its data set, norm and eps, as JSON-ready values.

    unranked: why there is no rank, with `places` empty; or "". places: one among all published entries, one among those
    with the same use of extra data, and both again among its architecture family. Each has `among` (in words), `rank`
    and `of` (both count the entry itself), `ranks` (best and worst, at the ends of its 95 % interval, published figures
    taken as exact), and the published entries next `above` and `below`, None at the ends. Equal models share a rank.
    """
    board, own = published_entries(entry.dataset, entry.threat), own_row(entry)
    rows = [row for row in published_rows(entry.dataset, entry.threat) if not separation(own, row)]
    data, family = f"{'with' if own.extra_data else 'without'} extra data", architecture_family(own.architecture)
    same_data = [row for row in rows if row.extra_data == own.extra_data]
    groups = {"published": rows, f"published, {data}": same_data}
    if family is not None:
        for name, group in list(groups.items()):
            kin = [row for row in group if architecture_family(row.architecture) == family]
            groups[name.replace("published", f"published {family}")] = kin
    return {
        "name": entry.name,
        "autoattack": own.robust,
        "interval": list(own.score["interval"]),
        "unranked": unranked_reason(own),
        "source": board.get("source"),
        "date": board.get("date"),
        "places": [_place(name, own, group) for name, group in groups.items() if group],
    }


def _place(among: str, own: ModelRow, rows: Sequence[ModelRow]) -> dict[str, Any]:
    figures = [row.best_known for row in rows]
    above = [row for row in rows if row.best_known > own.robust]
    below = [row for row in rows if row.best_known <= own.robust]
    return {
        "among": among,
        "rank": len(above) + 1,
        "of": len(rows) + 1,
        "ranks": rank_range(own.score["interval"], figures),
        "above": min(above, key=lambda row: (row.best_known, row.name)).info if above else None,
        "below": max(below, key=lambda row: (row.best_known, row.name)).info if below else None,
    }


def position_sentence(found: dict[str, Any]) -> str:
    """A `position` in one line."""
    if found["unranked"]:
        return f"{found['name']}: no rank; {found['unranked']}"
    places = [
        f"{place['rank']} of {place['of']} {place['among']} ({_range_text(place['ranks'])})"
        for place in found["places"]
    ]
    return f"{found['name']}: rank {'; '.join(places)}"


def position_table(entry: Entry) -> list[Table | str]:
    """Lines to print: the entry's `position` with its neighbours, or why it has no rank."""
    found = position(entry)
    if found["unranked"]:
        return [position_sentence(found)]
    title = f"{entry.name} among published entries of {entry.dataset} {entry.threat} eps {entry.info['eps']}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("among", overflow="fold")
    for heading in ("rank", "of", "95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("next above", "next below"):
        table.add_column(heading, overflow="fold")
    for place in found["places"]:
        neighbours = [_neighbour_text(place[side]) for side in ("above", "below")]
        table.add_row(place["among"], str(place["rank"]), str(place["of"]), _range_text(place["ranks"]), *neighbours)
    foot = "95 %: ranks at the ends of the entry's 95 % interval; published figures are taken as exact."
    return [table, foot, f"published entries: {found['source']}, {found['date']}"]


def _range_text(ranks: list[int]) -> str:
    best, worst = ranks
    return f"{best}" if best == worst else f"{best} to {worst}"


def _neighbour_text(row: dict[str, Any] | None) -> str:
    if row is None:
        return "none"
    remarks = [f"{row['best_known']:.2%}", row["architecture"]] + (["extra data"] if row["extra_data"] else [])
    return f"{row['name']} ({', '.join(remarks)})"
