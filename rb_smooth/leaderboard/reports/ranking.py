"""Rank an entry among our comparable entries and RobustBench's: `ranking_table` to print, `position` as values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.core.formatting import eps_text
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry, list_entries, published_entries
from rb_smooth.leaderboard.metadata import architecture_family, architecture_title

PublishedEntry = dict[str, Any]
"""One of `published_entries`; ranked, as on RobustBench, by `best_known`, the lowest accuracy under any attack."""

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


def ranking_table(own_entry: Entry) -> list[Table | str]:
    """Lines to print: the board around `own_entry`, entries that are not comparable and why, and unreadable files."""
    entries, complaints = list_entries(own_entry.leaderboard, own_entry.dataset, own_entry.threat)
    comparable = [entry for entry in entries if entry.protocol() == own_entry.protocol()]
    others = [entry for entry in entries if entry.protocol() != own_entry.protocol()]
    rows = [_own_row(entry, entry.name == own_entry.name) for entry in comparable]
    board = published_entries(own_entry.dataset, own_entry.threat)
    reason = unranked_reason(own_entry, board)
    if not reason:
        rows += [_published_row(entry) for entry in same_eps_entries(own_entry, board)]
    rows.sort(key=lambda row: (-row["robust"], row["cells"]))
    table = _table(own_entry)
    for row in _excerpt(rows):
        cells = [str(rank(row["robust"], (each["robust"] for each in rows))), *row["cells"]] if row else ["…"]
        table.add_row(*cells, style="bold" if row and row["highlighted"] else None)
    lines: list[Table | str] = [table]
    if reason:
        lines.append(reason)
    elif board["entries"]:
        lines.append(f"published entries: {board['source']}, {board['date']}")
    lines += [
        f"not ranked: {entry.name}, {attack_title(entry.own['score'])} {entry.info['autoattack_acc']} % "
        f"({incomparable_reason(entry, own_entry)})"
        for entry in others
    ]
    return lines + list(complaints)


def _table(own_entry: Entry) -> Table:
    score = own_entry.own["score"]
    norm, eps = score["threat"]["norm"], eps_text(score["threat"]["eps"])
    table = Table(
        title=f"{own_entry.dataset} {norm} eps {eps}, {score['n']} test points", title_justify="left", box=SIMPLE_HEAD
    )
    table.add_column("rank", justify="right")
    table.add_column("model", overflow="fold")
    for column in ("clean", "PGD-20", attack_title(score), "95 % interval"):
        table.add_column(column, justify="right", no_wrap=len(column) < _MAX_UNWRAPPED)
    return table


def _own_row(entry: Entry, highlighted: bool) -> dict[str, Any]:
    score = entry.own["score"]
    low, high = score["interval"]
    cells = [
        entry.name + (" (selected on test)" if score.get("selected_on") == "test" else ""),
        f"{score['clean']:.2%}",
        f"{score['pgd20']:.2%}",
        f"{score['autoattack']:.2%}",
        f"{low:.1%} – {high:.1%}",
    ]
    return {"robust": score["autoattack"], "highlighted": highlighted, "ours": True, "cells": cells}


def _published_row(entry: PublishedEntry) -> dict[str, Any]:
    lower = entry["best_known"] < entry["autoattack"]
    remarks = [f"{entry['best_known']:.2%} by others"] if lower else []
    remarks += ["unreliable"] if entry["unreliable"] else []
    cells = [entry["name"], f"{entry['clean']:.2%}", "", f"{entry['autoattack']:.2%}", ", ".join(remarks)]
    return {"robust": entry["best_known"], "highlighted": False, "ours": False, "cells": cells}


def _excerpt(rows: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """The best rows, ours, and the neighbours of ours; None stands for a gap."""
    centres = [place for place, row in enumerate(rows) if row["ours"]]
    found: list[dict[str, Any] | None] = []
    for place, row in enumerate(rows):
        if place < _NEIGHBOURS or any(abs(place - centre) <= _NEIGHBOURS for centre in centres):
            found.append(row)
        elif found[-1] is not None:
            found.append(None)
    return found


def unranked_reason(own_entry: Entry, board: dict[str, Any]) -> str:
    """Why the published entries are not comparable with `own_entry`; empty if they are."""
    score = own_entry.own["score"]
    if not board["entries"]:
        return ""
    if score["version"] != "standard":
        return f"published entries not ranked: their figures are AutoAttack's, this one an {attack_title(score)}"
    if not score["official"]:
        return "published entries not ranked: these test points do not come from the official files"
    if not score["whole"]:
        return f"published entries not ranked: {score['n']} points here, the whole test set there"
    if not same_eps_entries(own_entry, board):
        return f"published entries not ranked: none has eps {eps_text(score['threat']['eps'])}"
    return ""


def same_eps_entries(own_entry: Entry, board: dict[str, Any]) -> list[dict[str, Any]]:
    """The published entries evaluated at the eps of `own_entry`: 8/255 is not 0.031."""
    eps = own_entry.own["score"]["threat"]["eps"]
    return [entry for entry in board["entries"] if abs(_parse_fraction(entry["eps"]) - eps) < 1e-9]


def incomparable_reason(entry: Entry, own_entry: Entry) -> str:
    """The terms in which two protocols differ, as text: `other eps, other test points`."""
    names = ("norm", "eps", "attack", "number of points", "test points")
    return ", ".join(
        f"other {name}" for name, a, b in zip(names, entry.protocol(), own_entry.protocol(), strict=True) if a != b
    )


def _parse_fraction(text: str) -> float:
    numerator, _, denominator = text.partition("/")
    return float(numerator) / float(denominator or 1)


def position(entry: Entry) -> dict[str, Any]:
    """The rank of `entry` among the published entries of its data set, norm and eps, as JSON-ready values.

    unranked: why there is no rank, with `places` empty; or "". places: one among all published entries, one among those
    with the same use of extra data, and both again among its architecture family. Each has `among` (in words), `rank`
    and `of` (both count the entry itself), `ranks` (best and worst, at the ends of its 95 % interval, published figures
    taken as exact), and the published entries next `above` and `below`, None at the ends. Equal models share a rank.
    """
    board, score = published_entries(entry.dataset, entry.threat), entry.own["score"]
    extra, family = bool(entry.info["additional_data"]), architecture_family(architecture_title(entry))
    reason = unranked_reason(entry, board)
    if not board["entries"]:
        reason = f"RobustBench has no board {entry.dataset} {entry.threat}"
    rows = [] if reason else same_eps_entries(entry, board)
    data = "with extra data" if extra else "without extra data"
    groups = {"published": rows, f"published, {data}": [row for row in rows if row["extra_data"] == extra]}
    if family is not None:
        groups |= {
            name.replace("published", f"published {family}"): [
                row for row in group if architecture_family(row["architecture"]) == family
            ]
            for name, group in groups.items()
        }
    return {
        "name": entry.name,
        "autoattack": score["autoattack"],
        "interval": list(score["interval"]),
        "unranked": reason,
        "source": board.get("source"),
        "date": board.get("date"),
        "places": [_position(name, score, group) for name, group in groups.items() if group],
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


def _position(among: str, score: dict[str, Any], rows: Sequence[PublishedEntry]) -> dict[str, Any]:
    robust, figures = score["autoattack"], [row["best_known"] for row in rows]
    better = [row for row in rows if row["best_known"] > robust]
    others = [row for row in rows if row["best_known"] <= robust]
    return {
        "among": among,
        "rank": rank(robust, figures),
        "of": len(rows) + 1,
        "ranks": rank_range(score["interval"], figures),
        "above": min(better, key=lambda row: (row["best_known"], row["name"]), default=None),
        "below": max(others, key=lambda row: (row["best_known"], row["name"]), default=None),
    }


def _range_text(ranks: list[int]) -> str:
    best, worst = ranks
    return f"{best}" if best == worst else f"{best} to {worst}"


def _neighbour_text(row: PublishedEntry | None) -> str:
    if row is None:
        return "none"
    remarks = [f"{row['best_known']:.2%}", row["architecture"]] + (["extra data"] if row["extra_data"] else [])
    return f"{row['name']} ({', '.join(remarks)})"
