"""Boards of the page: models grouped by what is comparable, each group ranked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rb_smooth.core.environment import data_roots
from rb_smooth.leaderboard.entries import Entry, list_entries, published_entries
from rb_smooth.leaderboard.page.rows import IdGenerator, ModelRow, display_error, own_row, published_row
from rb_smooth.leaderboard.reports.ranking import incomparable_reason, rank, same_eps_entries, unranked_reason

_TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN", "digits": "Digits", "imagenet": "ImageNet"}
_NORMS = {"Linf": "ℓ∞", "L2": "ℓ2"}


@dataclass(frozen=True)
class Group:
    """Comparable models, best first. title: their common protocol. why: in what it differs from the first; "" there.

    eps: of all its models, as text. published: whether RobustBench's models are in it.
    """

    title: str
    why: str
    eps: str
    published: bool
    rows: list[ModelRow]


@dataclass(frozen=True)
class Board:
    """All models of one data set and norm. source: of the published figures, with commit and date, or None."""

    key: str
    dataset: str
    threat: str
    groups: list[Group]
    source: dict[str, str] | None

    @property
    def title(self) -> str:
        return f"{_TITLES.get(self.dataset, self.dataset)} {_NORMS.get(self.threat, self.threat)}"

    @property
    def rows(self) -> list[ModelRow]:
        return [row for group in self.groups for row in group.rows]

    @property
    def ours(self) -> list[ModelRow]:
        return [row for row in self.rows if row.ours]

    @property
    def figure(self) -> str:
        """Column title of the robust accuracies: AutoAttack, unless no model of the board has it."""
        attacks = sorted({row.attack for row in self.rows})
        return "AutoAttack robust accuracy" if "AutoAttack" in attacks else f"Robust accuracy, {attacks[0]}"


def read_boards(leaderboard: Path) -> tuple[list[Board], list[str]]:
    """(boards, complaints): boards with published models first. Each unreadable entry is one complaint."""
    entries, complaints = list_entries(leaderboard)
    errors = [display_error(entry) for entry in entries]
    complaints += [
        f"skipped: expected an entry of rb_smooth in {entry.path}, got {error}; restore or delete it"
        for entry, error in zip(entries, errors, strict=True)
        if error
    ]
    valid = [entry for entry, error in zip(entries, errors, strict=True) if not error]
    names = dict.fromkeys([*_published_boards(), *((entry.dataset, entry.threat) for entry in valid)])
    keys = IdGenerator()
    return [_board(name, [e for e in valid if (e.dataset, e.threat) == name], keys) for name in names], complaints


def _published_boards() -> list[tuple[str, str]]:
    folders = [root / folder for root in data_roots() for folder in ("leaderboard/published", "published")]
    names = {path.stem.rpartition("-")[::2] for folder in folders for path in folder.glob("*-*.json")}
    return sorted(names, key=lambda name: (name[0], name[1] == "L2"))


def _board(name: tuple[str, str], entries: list[Entry], keys: IdGenerator) -> Board:
    key = keys.new_id("-".join(name))
    table = published_entries(*name)
    by_eps = _group_by_eps(published_row(each, keys.new_id(f"{key}-{each['name']}")) for each in table["entries"])
    separate: dict[tuple[Any, ...], list[ModelRow]] = {}
    for entry in entries:
        row, why = own_row(entry, keys.new_id(f"{key}-{entry.name}")), unranked_reason(entry, table)
        if by_eps and not why:
            by_eps[same_eps_entries(entry, table)[0]["eps"]].append(row)
        else:
            separate.setdefault((why, entry.protocol()), []).append(row)
    groups: list[Group] = []
    for eps, rows in by_eps.items():
        why = f"Not ranked with those above: ε is {eps} here, {groups[0].eps} there" if groups else ""
        groups.append(Group(f"ε = {eps}, all test points, AutoAttack", why, eps, True, _rank_rows(rows)))
    for (why, *_), rows in sorted(separate.items(), key=lambda item: _group_sort_key(item[1])):
        reason = why or (_separation_reason(rows[0], groups[0].rows[0]) if groups else "")
        groups.append(
            Group(_protocol_title(rows[0]), reason[:1].upper() + reason[1:], rows[0].eps, False, _rank_rows(rows))
        )
    source = {part: str(table[part]) for part in ("source", "commit", "date")} if by_eps else None
    return Board(key, *name, groups, source)


def _group_by_eps(rows: Iterable[ModelRow]) -> dict[str, list[ModelRow]]:
    """Rows by eps, the most frequent eps first: RobustBench has 8/255 and 0.031 on one board."""
    groups: dict[str, list[ModelRow]] = {}
    for row in rows:
        groups.setdefault(row.eps, []).append(row)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def _separation_reason(row: ModelRow, first: ModelRow) -> str:
    assert row.entry and first.entry, "published models are grouped by eps alone"  # noqa: PT018
    return f"Not ranked with those above: {incomparable_reason(row.entry, first.entry)}"


def _group_sort_key(rows: list[ModelRow]) -> tuple[Any, ...]:
    """Ascending: AutoAttack first, then the whole test set, more points, more models."""
    score = rows[0].score
    return score["version"] != "standard", not score["whole"], -score["n"], -len(rows), rows[0].key


def _protocol_title(row: ModelRow) -> str:
    points = f"all {row.score['n']} test points" if row.score["whole"] else f"{row.score['n']} test points"
    return f"ε = {row.eps}, {points}, {row.attack}"


def _rank_rows(rows: list[ModelRow]) -> list[ModelRow]:
    """Best first. Equal models share a rank; a single model has none."""
    ordered = sorted(rows, key=lambda row: (-row.best_known, row.name))
    if len(rows) < 2:
        return ordered
    return [replace(row, rank=rank(row.best_known, (other.best_known for other in rows))) for row in ordered]
