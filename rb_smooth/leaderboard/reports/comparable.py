"""Entries, ours and the published, in the terms in which they are compared; and in what two were not measured alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rb_smooth.config.yaml import parse
from rb_smooth.core.errors import Refused
from rb_smooth.core.formatting import eps_text
from rb_smooth.evaluation.per_example import Outcomes
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry, find_entry, published, read_outcomes

FIGURES = ("clean", "autoattack")

BALL_AND_ATTACK = frozenset({"data set", "norm", "eps", "attack"})
"""If one of these differs, robust accuracies are not of one thing, and their difference is of nothing."""

_PUBLISHED_POINTS = 10_000
"""RobustBench's figures are of CIFAR's whole test sets."""


@dataclass(frozen=True)
class Contender:
    """One entry. figures: shares in [0, 1]. terms: what must be equal for figures to be compared; None: not known.

    fingerprint: of its test points, None if not known; official: whether they are the whole official test set.
    entry: None for a published one.
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
        """What its robust accuracy is called."""
        return "AutoAttack" if self.entry is None else attack_title(self.entry.own["score"])

    @cached_property
    def outcomes(self) -> Outcomes | str | None:
        """Point by point; None where that is not known; a sentence where the file is damaged."""
        try:
            return None if self.entry is None else read_outcomes(self.entry)
        except Refused as refused:
            return str(refused)


Either = Contender | Entry | dict[str, Any]
"""What is compared; a dict is one of `published_rows`."""


def contender(of: Either) -> Contender:
    """`of`, in the terms in which it is compared."""
    if isinstance(of, Contender):
        return of
    if isinstance(of, Entry):
        score = of.own["score"]
        terms = {
            "data set": of.dataset,
            "norm": score["threat"]["norm"],
            "eps": _eps_said(score["threat"]["eps"]),
            "attack": "AutoAttack" if score["version"] == "standard" else score["version"],
            "points": score["n"],
            "seed": score.get("seed"),
            "batch size": score.get("batch_size"),
        }
        figures = {figure: score[figure] for figure in FIGURES}
        return Contender(of.name, figures, terms, score["fingerprint"], score["official"] and score["whole"], of)
    terms = {"data set": of["dataset"], "norm": of["threat"], "eps": _eps_said(parse(of["eps"], of["name"]))}
    terms |= {"attack": "AutoAttack", "points": _PUBLISHED_POINTS, "seed": None, "batch size": None}
    return Contender(of["name"], {figure: of[figure] for figure in FIGURES}, terms, None, True, None)


def published_rows(dataset: str, threat: str) -> dict[str, dict[str, Any]]:
    """RobustBench's entries of one board by name, each with the board's `dataset` and `threat`."""
    rows = published(dataset, threat)["entries"]
    return {row["name"]: row | {"dataset": dataset, "threat": threat} for row in rows}


def chosen(
    names: Sequence[str], leaderboard: Path, dataset: str | None = None, threat: str | None = None
) -> list[Either]:
    """An entry of ours, and further ones of ours or published ones of its board, each once. Raises Refused for names
    that nobody has.
    """
    first = find_entry(names[0], leaderboard, dataset, threat)
    rows = published_rows(first.dataset, first.threat)
    others = dict.fromkeys(name for name in names[1:] if name != first.name)
    return [
        first,
        *(rows[n] if n in rows else find_entry(n, leaderboard, dataset, threat, also=rows) for n in others),
    ]


def apart(one: Contender, other: Contender) -> list[str]:
    """In what they were not measured alike: `eps: 8/255 and 0.031`, …; nothing, and they can be ranked."""
    pairs = {term: (one.terms[term], other.terms[term]) for term in one.terms}
    reasons = [f"{term}: {a} and {b}" for term, (a, b) in pairs.items() if a != b and None not in (a, b)]
    return reasons if on_same_points(one, other) else [*reasons, "test points: not the same"]


def on_same_points(one: Contender, other: Contender) -> bool:
    if one.fingerprint is None or other.fingerprint is None:
        return one.official and other.official and one.terms["data set"] == other.terms["data set"]
    return one.fingerprint == other.fingerprint and one.n == other.n


def _eps_said(eps: float) -> str:
    """One text for one radius: `8/255`, however many of its digits were written."""
    nearest = round(255 * eps) / 255
    return eps_text(nearest if abs(nearest - eps) < 1e-9 else eps)
