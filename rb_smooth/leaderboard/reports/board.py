"""Boards: our models and RobustBench's of one data set and norm, in groups of comparable ones, each group ranked."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rb_smooth.core.environment import data_roots
from rb_smooth.leaderboard.entries import Entry, list_entries, published_entries
from rb_smooth.leaderboard.metadata import dataset_title
from rb_smooth.leaderboard.reports.rows import GROUP_TERMS, ModelRow, own_row, published_rows, separation

_NORMS = {"Linf": "ℓ∞", "L2": "ℓ2"}


@dataclass(frozen=True)
class Seeds:
    """Models of one method of ours that differ only in the seed; or a single model. rows: best first."""

    rows: list[ModelRow]

    @property
    def mean(self) -> float:
        """Of the accuracy that ranks."""
        return self.mean_of("best_known")

    def mean_of(self, figure: str) -> float:
        return fmean(getattr(row, figure) for row in self.rows)

    def std_of(self, figure: str) -> float | None:
        """Sample standard deviation over seeds; None for a single model."""
        return stdev(getattr(row, figure) for row in self.rows) if len(self.rows) > 1 else None

    @property
    def title(self) -> str:
        """`AT+AWP (5 seeds)`; of a single model, its name."""
        return f"{self.rows[0].title} ({len(self.rows)} seeds)" if len(self.rows) > 1 else self.rows[0].name

    @property
    def ranks(self) -> str:
        """`3`, or `3 to 7` if the seeds' ranks differ; empty without a rank."""
        ranks = [row.rank for row in self.rows if row.rank]
        return "" if not ranks else f"{ranks[0]}" if ranks[0] == ranks[-1] else f"{ranks[0]} to {ranks[-1]}"


@dataclass(frozen=True)
class RankedRows:
    """Models, best first. Ranks are found by bisection, so that a board's cost stays about linear in its entries."""

    rows: list[ModelRow]

    @cached_property
    def _descending(self) -> list[float]:
        return [-row.best_known for row in self.rows]

    def better(self, accuracy: float) -> int:
        """The number of models that are better than `accuracy`; one less than its rank."""
        return bisect_left(self._descending, -accuracy)


@dataclass(frozen=True)
class Group:
    """Comparable models, best first. why: how their protocol differs from that of the first group; "" there."""

    why: str
    rows: list[ModelRow]

    @property
    def title(self) -> str:
        """The common protocol."""
        first = self.rows[0]
        points = f"{first.n} test points" if first.score.get("whole") is False else "all test points"
        return f"ε = {first.eps}, {points}, {first.attack}"

    @cached_property
    def subsets(self) -> dict[tuple[str, bool | None], RankedRows]:
        """By (architecture family or "" for any, with extra data or without or None for any)."""
        found: dict[tuple[str, bool | None], list[ModelRow]] = {}
        for row in self.rows:
            for family in ("", row.family):
                for extra in (None, row.extra_data):
                    found.setdefault((family, extra), []).append(row)
        return {key: RankedRows(rows) for key, rows in found.items()}

    @cached_property
    def places(self) -> dict[str, int]:
        """The index of each model, by key."""
        return {row.key: place for place, row in enumerate(self.rows)}

    @cached_property
    def methods(self) -> list[Seeds]:
        """The models with the seeds of one method together, by the mean of the accuracy that ranks."""
        found: dict[tuple[bool, str], list[ModelRow]] = {}
        for row in self.rows:
            found.setdefault((row.ours, row.method), []).append(row)
        return sorted(map(Seeds, found.values()), key=lambda seeds: (-seeds.mean, seeds.rows[0].name))

    @cached_property
    def seeds_of(self) -> dict[str, Seeds]:
        """The seeds of each model's method, by the model's key."""
        return {row.key: seeds for seeds in self.methods for row in seeds.rows}


@dataclass(frozen=True, eq=False)
class Board:
    """All models of one data set and norm. source: of the published figures, with commit and date, or None."""

    key: str
    dataset: str
    threat: str
    groups: list[Group]
    source: dict[str, str] | None

    @property
    def title(self) -> str:
        return f"{dataset_title(self.dataset)} {_NORMS.get(self.threat, self.threat)}"

    @cached_property
    def rows(self) -> list[ModelRow]:
        return [row for group in self.groups for row in group.rows]

    @cached_property
    def ours(self) -> list[ModelRow]:
        """The models that we trained."""
        return [row for row in self.rows if row.ours]

    @property
    def local(self) -> list[ModelRow]:
        """The entries of the leaderboard's folder: ours, and external checkpoints."""
        return [row for row in self.rows if row.entry]

    @cached_property
    def _groups_by_key(self) -> dict[str, Group]:
        return {row.key: group for group in self.groups for row in group.rows}

    def group_of(self, row: ModelRow) -> Group:
        return self._groups_by_key[row.key]

    @cached_property
    def shows_two_figures(self) -> bool:
        """Whether AutoAttack's accuracy and the best known one differ for any model."""
        return any(row.robust != row.best_known for row in self.rows)

    @property
    def figure(self) -> str:
        """Column title of the accuracies that rank."""
        if self.shows_two_figures:
            return "Best known robust accuracy"
        attacks = {row.attack for row in self.rows}
        return f"{attacks.pop()} accuracy" if attacks == {"AutoAttack"} else "Robust accuracy"


def read_boards(leaderboard: Path) -> tuple[list[Board], list[str]]:
    """(boards, complaints): boards with published models first. Each unreadable entry is one complaint."""
    entries, complaints = list_entries(leaderboard)
    boards: dict[tuple[str, str], list[Entry]] = {name: [] for name in published_boards()}
    for entry in entries:
        boards.setdefault((entry.dataset, entry.threat), []).append(entry)
    taken: set[str] = set()
    return [make_board(*name, members, taken) for name, members in boards.items()], complaints


def read_board(leaderboard: Path, dataset: str, threat: str) -> Board:
    """The board of one data set and norm."""
    return make_board(dataset, threat, list_entries(leaderboard, dataset, threat)[0])


def published_boards() -> list[tuple[str, str]]:
    """(data set, norm) of RobustBench's boards, of which published entries are there."""
    folders = [root / folder for root in data_roots() for folder in ("leaderboard/published", "published")]
    names = {path.stem.rpartition("-")[::2] for folder in folders for path in folder.glob("*-*.json")}
    return sorted(names, key=lambda name: (name[0], name[1] == "L2"))


def make_board(dataset: str, threat: str, entries: Iterable[Entry], taken: set[str] | None = None) -> Board:
    """The board of `entries` and RobustBench's models. taken: keys in use, to which the new ones are added."""
    taken = set() if taken is None else taken
    key = _unique_key(f"{dataset}-{threat}", taken)
    by_terms: dict[tuple[Any, ...], list[ModelRow]] = {}
    for row in [*published_rows(dataset, threat), *map(own_row, entries)]:
        row = replace(row, key=_unique_key(f"{key}-{row.name}", taken))
        by_terms.setdefault(tuple(row.terms[term] for term in GROUP_TERMS), []).append(row)
    groups: list[Group] = []
    for rows in sorted(by_terms.values(), key=_group_order):
        why = f"Not ranked with those above: {separation(rows[0], groups[0].rows[0])}" if groups else ""
        groups.append(Group(why, rank_rows(rows)))
    table = published_entries(dataset, threat)
    source = {part: str(table[part]) for part in ("source", "commit", "date")} if table["entries"] else None
    return Board(key, dataset, threat, groups, source)


def _group_order(rows: list[ModelRow]) -> tuple[Any, ...]:
    """Ascending: published models, their most frequent eps first; then AutoAttack, the whole test set, more points."""
    published, score = sum(row.entry is None for row in rows), rows[0].score
    return -published, score["version"] != "standard", not score.get("whole"), -rows[0].n, -len(rows), rows[0].key


def rank_rows(rows: Sequence[ModelRow]) -> list[ModelRow]:
    """Best first. Equal models share a rank; a single model has none."""
    ordered = sorted(rows, key=lambda row: (-row.best_known, row.name))
    first: dict[float, int] = {}
    for place, row in enumerate(ordered, 1):
        first.setdefault(row.best_known, place)
    return [replace(row, rank=first[row.best_known] if len(rows) > 1 else None) for row in ordered]


def _unique_key(name: str, taken: set[str]) -> str:
    """A key of plain characters that `taken`, to which it is added, lacks in either case."""
    plain = re.sub(r"[^\w.+-]+", "_", name, flags=re.ASCII)[:150]  # a file of the page has this name
    key, number = plain, 1
    while key.lower() in taken:
        number += 1
        key = f"{plain}~{number}"
    taken.add(key.lower())
    return key
