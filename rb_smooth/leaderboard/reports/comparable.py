"""Our entries and published ones in one form for comparison, and the terms in which two protocols differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rb_smooth.config.yaml import parse_yaml
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import eps_text
from rb_smooth.evaluation.per_example import PerExampleResults
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry, find_entry, published_entries, read_per_example_results

ACCURACIES = ("clean", "autoattack")

BALL_AND_ATTACK = frozenset({"data set", "norm", "eps", "attack"})
"""If one of these differs, robust accuracies are different quantities and are not subtracted."""

_PUBLISHED_POINTS = 10_000
"""RobustBench's figures are of CIFAR's whole test sets."""


@dataclass(frozen=True)
class ComparableModel:
    """One entry. figures: shares in [0, 1]. terms: the protocol, equal for comparable models; None if not known.

    fingerprint: of its test points, None if not known; official: whether they are the whole official test set.
    entry: None for a published model.
    """

    name: str
    figures: dict[str, float]
    terms: dict[str, Any]
    fingerprint: str | None
    official: bool
    entry: Entry | None

    @property
    def n(self) -> int:
        return int(self.terms["points"])

    @property
    def title(self) -> str:
        """The name of its robust accuracy."""
        return "AutoAttack" if self.entry is None else attack_title(self.entry.own["score"])

    @cached_property
    def outcomes(self) -> PerExampleResults | str | None:
        """Per-example results; None if there is no points.csv; the error message if the file is damaged."""
        try:
            return None if self.entry is None else read_per_example_results(self.entry)
        except UserError as error:
            return str(error)


ModelLike = ComparableModel | Entry | dict[str, Any]
"""Accepted by the comparisons; a dict is one of `published_by_name`."""


def comparable_model(entry: ModelLike) -> ComparableModel:
    """`entry` as a ComparableModel."""
    if isinstance(entry, ComparableModel):
        return entry
    if isinstance(entry, Entry):
        score = entry.own["score"]
        terms = {
            "data set": entry.dataset,
            "norm": score["threat"]["norm"],
            "eps": _eps_text(score["threat"]["eps"]),
            "attack": "AutoAttack" if score["version"] == "standard" else score["version"],
            "points": score["n"],
            "seed": score.get("seed"),
            "batch size": score.get("batch_size"),
        }
        figures = {figure: score[figure] for figure in ACCURACIES}
        return ComparableModel(
            entry.name, figures, terms, score["fingerprint"], score["official"] and score["whole"], entry
        )
    terms = {
        "data set": entry["dataset"],
        "norm": entry["threat"],
        "eps": _eps_text(parse_yaml(entry["eps"], entry["name"])),
    }
    terms |= {"attack": "AutoAttack", "points": _PUBLISHED_POINTS, "seed": None, "batch size": None}
    return ComparableModel(entry["name"], {figure: entry[figure] for figure in ACCURACIES}, terms, None, True, None)


def published_by_name(dataset: str, threat: str) -> dict[str, dict[str, Any]]:
    """RobustBench's entries of one board by name, each with the board's `dataset` and `threat`."""
    rows = published_entries(dataset, threat)["entries"]
    return {row["name"]: row | {"dataset": dataset, "threat": threat} for row in rows}


def select_entries(
    names: Sequence[str], leaderboard: Path, dataset: str | None = None, threat: str | None = None
) -> list[ModelLike]:
    """The entries named: first one of ours, then further ones of ours or published ones of its board, each once.

    Raises UserError for an unknown name.
    """
    first = find_entry(names[0], leaderboard, dataset, threat)
    rows = published_by_name(first.dataset, first.threat)
    others = dict.fromkeys(name for name in names[1:] if name != first.name)
    return [
        first,
        *(rows[n] if n in rows else find_entry(n, leaderboard, dataset, threat, also=rows) for n in others),
    ]


def incomparable_because(one: ComparableModel, other: ComparableModel) -> list[str]:
    """The terms in which two protocols differ: `eps: 8/255 and 0.031`, …; empty if the two can be ranked."""
    pairs = {term: (one.terms[term], other.terms[term]) for term in one.terms}
    reasons = [f"{term}: {a} and {b}" for term, (a, b) in pairs.items() if a != b and None not in (a, b)]
    return reasons if has_same_points(one, other) else [*reasons, "test points: not the same"]


def has_same_points(one: ComparableModel, other: ComparableModel) -> bool:
    if one.fingerprint is None or other.fingerprint is None:
        return one.official and other.official and one.terms["data set"] == other.terms["data set"]
    return one.fingerprint == other.fingerprint and one.n == other.n


def _eps_text(eps: float) -> str:
    """One text per radius: `8/255`, also for a rounded 0.0313725."""
    nearest = round(255 * eps) / 255
    return eps_text(nearest if abs(nearest - eps) < 1e-9 else eps)
