"""Where an entry would stand in RobustBench's table, how sure that is, and who stands next to it there.

Ranked are, as everywhere, only the official test set, AutoAttack standard, and the very same ball (`ranking`); the
published by the lowest accuracy that any attack is known to leave.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.board.ranking import of_equal_eps, why_unranked
from rb_smooth.entries import Entry, published

Row = dict[str, Any]

_TITLES = {"preactresnet18": "PreActResNet-18", "resnet18": "ResNet-18"}


def architecture_title(entry: Entry) -> str:
    """As RobustBench writes architectures: `WideResNet-34-10`, also where an older entry says `wideresnet`."""
    model = entry.own["model"]
    if entry.info["architecture"] != "wideresnet":
        return _TITLES.get(entry.info["architecture"], str(entry.info["architecture"]))
    options = {"depth": 34, "width": 10} | model.get("options", {})
    return f"WideResNet-{options['depth']}-{options['width']}"


def family(architecture: str) -> str | None:
    """`ResNet-18` also for its pre-activation form, `WideResNet-34-10` for itself; None for one without relatives."""
    if re.fullmatch(r"(PreAct)?ResNet-18", architecture):
        return "ResNet-18"
    return architecture if re.fullmatch(r"(WideResNet|ResNet|DenseNet)-\d+(-\d+)?", architecture) else None


def position(entry: Entry) -> dict[str, Any]:
    """The entry among the published ones of its data set, norm and eps, as plain values.

    unranked: why there is no rank; then `places` is empty. places: one for all the published, one for those that used
    extra data as this one did or did not, and the same for its own architecture. Each holds `among` (in words), `rank`
    and `of` (itself included), `ranks` (best and worst: at the ends of its 95 % interval; the published figures are
    taken as they stand), and the published rows next `above` and `below`, None at the ends. Equal ones share a rank.
    """
    board, score = published(entry.dataset, entry.threat), entry.own["score"]
    extra, kin = bool(entry.info["additional_data"]), family(architecture_title(entry))
    reason = why_unranked(entry, board)
    if not board["entries"]:
        reason = f"RobustBench has no board {entry.dataset} {entry.threat}"
    rows = [] if reason else of_equal_eps(entry, board)
    data = "with extra data" if extra else "without extra data"
    groups = {"published": rows, f"published, {data}": [row for row in rows if row["extra_data"] == extra]}
    if kin is not None:
        groups |= {
            name.replace("published", f"published {kin}"): [row for row in group if family(row["architecture"]) == kin]
            for name, group in groups.items()
        }
    return {
        "name": entry.name,
        "autoattack": score["autoattack"],
        "interval": list(score["interval"]),
        "unranked": reason,
        "source": board.get("source"),
        "date": board.get("date"),
        "places": [_place(name, score, group) for name, group in groups.items() if group],
    }


def in_short(found: dict[str, Any]) -> str:
    """One line of a `position`."""
    if found["unranked"]:
        return f"{found['name']}: no rank; {found['unranked']}"
    places = [
        f"{place['rank']} of {place['of']} {place['among']} ({_span(place['ranks'])})" for place in found["places"]
    ]
    return f"{found['name']}: rank {'; '.join(places)}"


def placed(entry: Entry) -> list[Table | str]:
    """What to print of `position`: the ranks, the neighbours and their lead, or why there is no rank."""
    found = position(entry)
    if found["unranked"]:
        return [in_short(found)]
    title = f"{entry.name} among published entries of {entry.dataset} {entry.threat} eps {entry.info['eps']}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("among", overflow="fold")
    for heading in ("rank", "of", "95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("next above", "next below"):
        table.add_column(heading, overflow="fold")
    for place in found["places"]:
        beside = [_beside(place[side]) for side in ("above", "below")]
        table.add_row(place["among"], str(place["rank"]), str(place["of"]), _span(place["ranks"]), *beside)
    foot = "95 %: the ranks at the ends of the entry's own interval, the published figures taken as they stand."
    return [table, foot, f"published entries: {found['source']}, {found['date']}"]


def _place(among: str, score: dict[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
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


def _rank(robust: float, rows: Sequence[Row]) -> int:
    return 1 + sum(row["best_known"] > robust for row in rows)


def _span(ranks: list[int]) -> str:
    best, worst = ranks
    return f"{best}" if best == worst else f"{best} to {worst}"


def _beside(row: Row | None) -> str:
    if row is None:
        return "nobody"
    remarks = [f"{row['best_known']:.2%}", row["architecture"]] + (["extra data"] if row["extra_data"] else [])
    return f"{row['name']} ({', '.join(remarks)})"
