"""Boards: our models and RobustBench's of one data set and norm, in groups of comparable ones, each group ranked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rb_smooth.core.environment import data_roots
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import eps_text
from rb_smooth.evaluation.per_example import PerExampleResults
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry, list_entries, published_entries, read_per_example_results
from rb_smooth.leaderboard.metadata import architecture_title

_TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN", "digits": "Digits", "imagenet": "ImageNet"}
_NORMS = {"Linf": "ℓ∞", "L2": "ℓ2"}
_PUBLISHED_POINTS = 10_000
"""RobustBench's figures are of CIFAR's whole test sets."""

GROUP_TERMS = ("data set", "norm", "eps", "attack", "test points")
"""Terms of a protocol that agree within a group."""


@dataclass(frozen=True, eq=False)
class ModelRow:
    """One model. Accuracies are shares in [0, 1]; models are ranked by `best_known`, the lowest under any attack.

    link: to its paper, http or https, or "". unreliable: None if not known. points: the test points in words, equal for
    equal ones. info: RobustBench's fields. entry: None for a published
    model. key: its unique id on the page. rank: None without comparable models.
    """

    name: str
    title: str
    link: str
    venue: str
    architecture: str
    extra_data: bool
    dataset: str
    threat: str
    eps: str
    n: int
    points: str
    clean: float
    robust: float
    best_known: float
    unreliable: bool | None
    info: dict[str, Any]
    entry: Entry | None = None
    key: str = ""
    rank: int | None = None

    @property
    def ours(self) -> bool:
        return self.entry is not None

    @property
    def score(self) -> dict[str, Any]:
        """The score of our entry; of a published model, what is known of it."""
        return self.entry.own["score"] if self.entry else {"version": "standard"}

    @property
    def attack(self) -> str:
        """The name of `robust`."""
        return attack_title(self.score)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of our entry; None for a published model."""
        return tuple(self.score["interval"]) if self.entry else None

    @property
    def selected_on_test(self) -> bool:
        return bool(self.score.get("selected_on") == "test")

    @property
    def terms(self) -> dict[str, Any]:
        """The protocol in words; None for a term that is not known."""
        attack = "AutoAttack" if self.score["version"] == "standard" else self.score["version"]
        terms = (self.dataset, self.threat, self.eps, attack, self.points)
        return dict(zip(GROUP_TERMS, terms, strict=True)) | {
            "seed": self.score.get("seed"),
            "batch size": self.score.get("batch_size"),
        }

    @cached_property
    def results(self) -> PerExampleResults | str | None:
        """Per-example results; None if there is no points.csv; the error message if the file is damaged."""
        try:
            return read_per_example_results(self.entry) if self.entry else None
        except UserError as error:
            return str(error)


def own_row(entry: Entry) -> ModelRow:
    info, score = entry.info, entry.own["score"]
    eps = score["threat"]["eps"]
    exact = round(255 * eps) / 255
    official = score["official"] and score["whole"]
    return ModelRow(
        name=entry.name,
        title=str(info.get("name") or entry.name),
        link=safe_link(info.get("link")),
        venue=str(info.get("venue") or ""),
        architecture=architecture_title(entry),
        extra_data=info.get("additional_data") is True,
        dataset=entry.dataset,
        threat=score["threat"]["norm"],
        eps=eps_text(exact if abs(exact - eps) < 1e-9 else eps),  # 8/255, also for a rounded 0.0313725
        n=score["n"],
        points=f"the official {score['n']}" if official else f"{score['n']} (SHA-256 {score['fingerprint'][:12]}…)",
        clean=score["clean"],
        robust=score["autoattack"],
        best_known=score["autoattack"],
        unreliable=True if info.get("unreliable") else False if score.get("checks") else None,
        info=info,
        entry=entry,
    )


def published_rows(dataset: str, threat: str) -> list[ModelRow]:
    """RobustBench's models of one board, in its order."""
    same = ("name", "title", "venue", "architecture", "extra_data", "eps", "clean", "best_known", "unreliable")
    return [
        ModelRow(
            link=safe_link(each["link"]),
            dataset=dataset,
            threat=threat,
            n=_PUBLISHED_POINTS,
            points=f"the official {_PUBLISHED_POINTS}",
            robust=each["autoattack"],
            info=each,
            **{name: each[name] for name in same},
        )
        for each in published_entries(dataset, threat)["entries"]
    ]


def differing_terms(one: ModelRow, other: ModelRow) -> dict[str, str]:
    """The terms in which two protocols differ: {"eps": "8/255 and 0.031"}; empty if they are equal where known."""
    pairs = {term: (value, other.terms[term]) for term, value in one.terms.items()}
    return {term: f"{a} and {b}" for term, (a, b) in pairs.items() if a != b and None not in (a, b)}


def separation(row: ModelRow, first: ModelRow) -> str:
    """Why two models are not in one group: `eps: 0.031 and 8/255`; empty if they are."""
    differing = differing_terms(row, first)
    return "; ".join(f"{term}: {differing[term]}" for term in GROUP_TERMS if term in differing)


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
    folders = [root / folder for root in data_roots() for folder in ("leaderboard/published", "published")]
    names = (path.stem.rpartition("-") for folder in folders for path in folder.glob("*-*.json"))
    published = sorted({(dataset, threat) for dataset, _, threat in names}, key=lambda name: (name[0], name[1] == "L2"))
    boards: dict[tuple[str, str], list[Entry]] = {name: [] for name in published}
    for entry in entries:
        boards.setdefault((entry.dataset, entry.threat), []).append(entry)
    taken: set[str] = set()
    return [make_board(*name, members, taken) for name, members in boards.items()], complaints


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
    published, score = sum(not row.ours for row in rows), rows[0].score
    return -published, score["version"] != "standard", not score.get("whole"), -rows[0].n, -len(rows), rows[0].key


def rank_rows(rows: Sequence[ModelRow]) -> list[ModelRow]:
    """Best first. Equal models share a rank; a single model has none."""
    ordered = sorted(rows, key=lambda row: (-row.best_known, row.name))
    first: dict[float, int] = {}
    for place, row in enumerate(ordered, 1):
        first.setdefault(row.best_known, place)
    return [replace(row, rank=first[row.best_known] if len(rows) > 1 else None) for row in ordered]


def safe_link(link: object) -> str:
    """`link` if it is an http or https address; "" for anything else, such as `javascript:…`."""
    return link if isinstance(link, str) and re.match(r"https?://\S+$", link, re.IGNORECASE) else ""


def _unique_key(name: str, taken: set[str]) -> str:
    """A key of plain characters that `taken`, to which it is added, lacks in either case."""
    plain = re.sub(r"[^\w.+-]+", "_", name, flags=re.ASCII)
    key, number = plain, 1
    while key.lower() in taken:
        number += 1
        key = f"{plain}~{number}"
    taken.add(key.lower())
    return key
