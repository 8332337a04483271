"""Rank of a model among the comparable ones of its board, ours and published: the same in page, show and compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.leaderboard.entries import Entry
from rb_smooth.leaderboard.reports.board import Board, RankedRows, read_board
from rb_smooth.leaderboard.reports.rows import ModelRow, separation

_NEIGHBOURS = 4
"""Rows shown above and below each of ours."""

_MAX_UNWRAPPED = 20
"""Characters of a column's title above which it may wrap."""


def place_entry(entry: Entry) -> tuple[ModelRow, Board]:
    """The entry's row on its board, which is read from its leaderboard's folder."""
    board = read_board(entry.leaderboard, entry.dataset, entry.threat)
    return _row_of(entry, board), board


def _row_of(entry: Entry, board: Board) -> ModelRow:
    return next(row for row in board.local if row.name == entry.name)


_UNRANKED_SHOWN = 3
"""Entries that are not comparable, above which their number alone is said."""


def ranking_table(entry: Entry) -> list[Table | str]:
    """Lines to print: the board around `entry`, and entries that are not comparable, and why."""
    board = read_board(entry.leaderboard, entry.dataset, entry.threat)
    own = _row_of(entry, board)
    group = board.group_of(own)
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
    if board.source and any(row.entry is None for row in group.rows):
        lines.append(f"published entries: {board.source['source']}, {board.source['date']}")
    elif board.source:
        lines.append(f"published entries not ranked: {unranked_reason(own, board)}")
    others = [row for row in board.local if board.group_of(row) is not group]
    lines += [
        f"not ranked: {row.name}, {row.attack} {row.robust:.2%} ({separation(row, own)})"
        for row in others[: len(others) if len(others) <= _UNRANKED_SHOWN else 0]
    ]
    if len(others) > _UNRANKED_SHOWN:
        lines.append(f"not ranked: {len(others)} entries with another eps, attack or test points; `compare` names them")
    return lines


def _cells(row: ModelRow) -> list[str]:
    figures = [f"{row.clean:.2%}", f"{row.score['pgd20']:.2%}" if row.entry else "", f"{row.robust:.2%}"]
    if row.interval:
        low, high = row.interval
        return [row.name + caveats(row), *figures, f"{low:.1%} – {high:.1%}"]
    remarks = [f"{row.best_known:.2%} by others"] if row.best_known < row.robust else []
    return [row.name, *figures, ", ".join(remarks + ["unreliable"] * bool(row.unreliable))]


def caveats(row: ModelRow) -> str:
    """What to know about a model beside its figures, in brackets; empty if there is nothing."""
    remarks = [row.whose] * (not row.ours) + ["selected on test"] * row.selected_on_test
    remarks += [f"selected by {rule}"] if (rule := row.score.get("select_rule")) else []
    remarks += ["unreliable"] * bool(row.unreliable)
    return f" ({', '.join(remarks)})" if remarks else ""


def _excerpt(rows: list[ModelRow]) -> list[ModelRow | None]:
    """The best rows, those of the leaderboard's folder, and their neighbours; None stands for a gap."""
    shown: set[int] = set(range(_NEIGHBOURS))
    for place, row in enumerate(rows):
        if row.entry:
            shown.update(range(place - _NEIGHBOURS, place + _NEIGHBOURS + 1))
    found: list[ModelRow | None] = []
    for place, row in enumerate(rows):
        if place in shown:
            found.append(row)
        elif found[-1] is not None:
            found.append(None)
    return found


def unranked_reason(row: ModelRow, board: Board) -> str:
    """Why no published model is comparable with `row`; empty if one is."""
    reasons = [separation(row, group.rows[0]) for group in board.groups if any(not each.entry for each in group.rows)]
    if not reasons:
        return f"RobustBench has no board {row.dataset} {row.threat}"
    return min(reasons, key=lambda reason: (reason != "", reason.count("; ")))


def position(row: ModelRow, board: Board) -> dict[str, Any]:
    """The rank of a model among all comparable ones of its board, ours and published, as JSON-ready values.

    unranked: why there is no rank, with `places` empty; or "". places: one among all comparable models, then among
    those with the same use of extra data, of its architecture family, and of both; without those that are the same set
    or the model alone. Each has `among` (in words), `rank` and `of` (both count the model itself), `ranks` (best and
    worst, at the ends of its 95 % interval, the others taken as exact; None for a published model), and the models next
    `above` and `below`, None at the ends. Equal models share a rank.
    """
    group = board.group_of(row)
    data = f"{'with' if row.extra_data else 'without'} extra data"
    names = {
        ("", None): "models",
        ("", row.extra_data): f"models {data}",
        (row.family, None): row.family,
        (row.family, row.extra_data): f"{row.family} {data}",
    }
    sizes: set[int] = {1}
    places = []
    for key, among in names.items():
        if len(group.subsets[key].rows) not in sizes:
            sizes.add(len(group.subsets[key].rows))
            places.append(_place(among, row, group.subsets[key]))
    return {
        "name": row.name,
        "autoattack": row.robust,
        "interval": list(row.interval) if row.interval else None,
        "unranked": "" if places else unranked_reason(row, board) or "no other model has its protocol",
        "source": board.source and board.source["source"],
        "date": board.source and board.source["date"],
        "places": places,
    }


def _place(among: str, own: ModelRow, ranked: RankedRows) -> dict[str, Any]:
    better = ranked.better(own.best_known)
    after = (row for row in ranked.rows[better : better + 2] if row.key != own.key)
    ranks = None
    if own.interval:
        low, high = own.interval
        ranks = [1 + ranked.better(high), 1 + ranked.better(low) - (own.best_known > low)]
    return {
        "among": among,
        "rank": better + 1,
        "of": len(ranked.rows),
        "ranks": ranks,
        "above": _neighbour(ranked.rows[better - 1]) if better else None,
        "below": _neighbour(next(after, None)),
    }


def _neighbour(row: ModelRow | None) -> dict[str, Any] | None:
    if row is None:
        return None
    names = ("name", "whose", "clean", "best_known", "architecture", "extra_data", "venue", "title")
    rule = {"select_rule": row.score["select_rule"]} if "select_rule" in row.score else {}
    return {name: getattr(row, name) for name in names} | rule


def position_sentence(found: dict[str, Any]) -> str:
    """A `position` in one line."""
    if found["unranked"]:
        return f"{found['name']}: no rank; {found['unranked']}"
    return f"{found['name']}: rank {places_text(found)}"


def places_text(found: dict[str, Any]) -> str:
    """`61 of 96 models (59 to 63 by its 95 % interval); 4 of 12 ResNet-18 without extra data (3 to 5)`."""
    first, *others = found["places"]
    ranks = f" ({_range_text(first['ranks'])} by its 95 % interval)" if first["ranks"] else ""
    texts = [f"{first['rank']} of {first['of']} {first['among']}{ranks}"]
    for place in others:
        ranks = f" ({_range_text(place['ranks'])})" if place["ranks"] else ""
        texts.append(f"{place['rank']} of {place['of']} {place['among']}{ranks}")
    return "; ".join(texts)


def position_table(row: ModelRow, board: Board) -> list[Table | str]:
    """Lines to print: the model's `position` with its neighbours, or why it has no rank."""
    found = position(row, board)
    if found["unranked"]:
        return [position_sentence(found)]
    title = f"{row.name}{caveats(row)} on the board {row.dataset} {row.threat}, eps {row.eps}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("among", overflow="fold")
    for heading in ("rank", "of", "95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("next above", "next below"):
        table.add_column(heading, overflow="fold")
    for place in found["places"]:
        neighbours = [_neighbour_text(place[side]) for side in ("above", "below")]
        ranks = _range_text(place["ranks"]) if place["ranks"] else ""
        table.add_row(place["among"], str(place["rank"]), str(place["of"]), ranks, *neighbours)
    lines: list[Table | str] = [table]
    if row.interval:
        lines.append("95 %: ranks at the ends of the model's 95 % interval; the others' figures are taken as exact.")
    if reason := unranked_reason(row, board):
        lines.append(f"published entries not ranked: {reason}")
    else:
        lines.append(f"published entries: {found['source']}, {found['date']}")
    return lines


def _range_text(ranks: Sequence[int]) -> str:
    best, worst = ranks
    return f"{best}" if best == worst else f"{best} to {worst}"


def _neighbour_text(row: dict[str, Any] | None) -> str:
    if row is None:
        return "none"
    remarks = [f"{row['best_known']:.2%}", row["architecture"]] + (["extra data"] if row["extra_data"] else [])
    remarks += [f"selected by {rule}"] if (rule := row.get("select_rule")) else []
    return f"{row['name']} ({', '.join(remarks)})"
