"""Where an entry stands among the published ones: the table around it, and its rank in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.core.formatting import eps_text
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry, list_entries, published_entries
from rb_smooth.leaderboard.metadata import architecture_family, architecture_title

_NEIGHBOURS = 4
"""Published entries shown above and below ours."""

_LINE_WIDTH = 20
"""Characters of a heading that is folded rather than the model's name."""


def ranking_table(own_entry: Entry) -> list[Table | str]:
    """What to print: the board with `own_entry` in its place, what cannot be ranked against it and why, and
    complaints.
    """
    entries, complaints = list_entries(own_entry.leaderboard, own_entry.dataset, own_entry.threat)
    ranked = [
        _own_row(entry, entry.name == own_entry.name) for entry in entries if entry.protocol() == own_entry.protocol()
    ]
    others = [
        (entry, incomparable_reason(entry, own_entry)) for entry in entries if entry.protocol() != own_entry.protocol()
    ]
    board = published_entries(own_entry.dataset, own_entry.threat)
    note = unranked_reason(own_entry, board)
    if not note:
        ranked += [_published_row(entry) for entry in same_eps_entries(own_entry, board)]
    ranked.sort(key=lambda row: (-row["robust"], row["cells"]))
    table = _table(own_entry)
    for rank, row in _neighbourhood(ranked):
        table.add_row(*([str(rank), *row["cells"]] if row else ["…"]), style="bold" if row and row["mine"] else None)
    lines: list[Table | str] = [table]
    if note:
        lines.append(note)
    elif board["entries"]:
        lines.append(f"published entries: {board['source']}, {board['date']}")
    lines += [f"not ranked: {entry.name}, {_robust_accuracy(entry)} ({why})" for entry, why in others]
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
        table.add_column(column, justify="right", no_wrap=len(column) < _LINE_WIDTH)
    return table


def _own_row(entry: Entry, own_entry: bool) -> dict[str, Any]:
    score = entry.own["score"]
    low, high = score["interval"]
    return {
        "robust": score["autoattack"],
        "mine": own_entry,
        "ours": True,
        "cells": [
            entry.name + (" (selected on test)" if score.get("selected_on") == "test" else ""),
            f"{score['clean']:.2%}",
            f"{score['pgd20']:.2%}",
            f"{score['autoattack']:.2%}",
            f"{low:.1%} – {high:.1%}",
        ],
    }


def _robust_accuracy(entry: Entry) -> str:
    return f"{attack_title(entry.own['score'])} {entry.info['autoattack_acc']} %"


def _published_row(entry: dict[str, Any]) -> dict[str, Any]:
    """Ranked, as RobustBench does, by the lowest accuracy that any attack is known to leave."""
    lower = entry["best_known"] < entry["autoattack"]
    remarks = [f"{entry['best_known']:.2%} by others"] if lower else []
    remarks += ["unreliable"] if entry["unreliable"] else []
    cells = [entry["name"], f"{entry['clean']:.2%}", "", f"{entry['autoattack']:.2%}", ", ".join(remarks)]
    return {"robust": entry["best_known"], "mine": False, "ours": False, "cells": cells}


def _neighbourhood(ranked: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any] | None]]:
    """Rank and row: the best, ours, and their neighbours; None stands for a gap. Equal models share a rank."""
    ours = [place for place, row in enumerate(ranked) if row["ours"]]
    shown = [
        place
        for place in range(len(ranked))
        if place < _NEIGHBOURS or any(abs(place - each) <= _NEIGHBOURS for each in ours)
    ]
    rows: list[tuple[int, dict[str, Any] | None]] = []
    for before, place in zip([-1, *shown], shown, strict=False):
        if place != before + 1:
            rows.append((0, None))
        better = sum(row["robust"] > ranked[place]["robust"] for row in ranked)
        rows.append((better + 1, ranked[place]))
    return [*rows, (0, None)] if shown and shown[-1] != len(ranked) - 1 else rows


def unranked_reason(own_entry: Entry, board: dict[str, Any]) -> str:
    """Why the published entries are not ranked with ours; empty if they are."""
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
    """The published entries in whose ball ours was attacked: 8/255 is not 0.031."""
    eps = own_entry.own["score"]["threat"]["eps"]
    return [entry for entry in board["entries"] if abs(_number(entry["eps"]) - eps) < 1e-9]


def incomparable_reason(entry: Entry, own_entry: Entry) -> str:
    names = ("norm", "eps", "attack", "number of points", "test points")
    return ", ".join(
        f"other {name}" for name, a, b in zip(names, entry.protocol(), own_entry.protocol(), strict=True) if a != b
    )


def _number(text: str) -> float:
    numerator, _, denominator = text.partition("/")
    return float(numerator) / float(denominator or 1)


PublishedEntry = dict[str, Any]


def position(entry: Entry) -> dict[str, Any]:
    """The entry among the published ones of its data set, norm and eps, as plain values.

    unranked: why there is no rank; then `places` is empty. places: one for all the published, one for those that used
    extra data as this one did or did not, and the same for its own architecture. Each holds `among` (in words), `rank`
    and `of` (itself included), `ranks` (best and worst: at the ends of its 95 % interval; the published figures are
    taken as they stand), and the published rows next `above` and `below`, None at the ends. Equal ones share a rank.
    """
    board, score = published_entries(entry.dataset, entry.threat), entry.own["score"]
    extra, kin = bool(entry.info["additional_data"]), architecture_family(architecture_title(entry))
    reason = unranked_reason(entry, board)
    if not board["entries"]:
        reason = f"RobustBench has no board {entry.dataset} {entry.threat}"
    rows = [] if reason else same_eps_entries(entry, board)
    data = "with extra data" if extra else "without extra data"
    groups = {"published": rows, f"published, {data}": [row for row in rows if row["extra_data"] == extra]}
    if kin is not None:
        groups |= {
            name.replace("published", f"published {kin}"): [
                row for row in group if architecture_family(row["architecture"]) == kin
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
    """One line of a `position`."""
    if found["unranked"]:
        return f"{found['name']}: no rank; {found['unranked']}"
    places = [
        f"{place['rank']} of {place['of']} {place['among']} ({_span(place['ranks'])})" for place in found["places"]
    ]
    return f"{found['name']}: rank {'; '.join(places)}"


def position_table(entry: Entry) -> list[Table | str]:
    """What to print of `position`: the ranks, the neighbours and their lead, or why there is no rank."""
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
        beside = [_neighbour_cells(place[side]) for side in ("above", "below")]
        table.add_row(place["among"], str(place["rank"]), str(place["of"]), _span(place["ranks"]), *beside)
    foot = "95 %: the ranks at the ends of the entry's own interval, the published figures taken as they stand."
    return [table, foot, f"published entries: {found['source']}, {found['date']}"]


def _position(among: str, score: dict[str, Any], rows: Sequence[PublishedEntry]) -> dict[str, Any]:
    robust, (low, high) = score["autoattack"], score["interval"]
    better = [row for row in rows if row["best_known"] > robust]
    others = [row for row in rows if row["best_known"] <= robust]
    return {
        "among": among,
        "rank": _rank(robust, rows),
        "of": len(rows) + 1,
        "ranks": [_rank(high, rows), _rank(low, rows)],
        "above": min(better, key=lambda row: (row["best_known"], row["name"]), default=None),
        "below": max(others, key=lambda row: (row["best_known"], row["name"]), default=None),
    }


def _rank(robust: float, rows: Sequence[PublishedEntry]) -> int:
    return 1 + sum(row["best_known"] > robust for row in rows)


def _span(ranks: list[int]) -> str:
    best, worst = ranks
    return f"{best}" if best == worst else f"{best} to {worst}"


def _neighbour_cells(row: PublishedEntry | None) -> str:
    if row is None:
        return "nobody"
    remarks = [f"{row['best_known']:.2%}", row["architecture"]] + (["extra data"] if row["extra_data"] else [])
    return f"{row['name']} ({', '.join(remarks)})"
