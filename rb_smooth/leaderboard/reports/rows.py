"""A model of a board as one row: an entry's or one of RobustBench's, with its protocol in comparable terms."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import eps_text
from rb_smooth.evaluation.per_example import PerExampleResults
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry, published_entries, read_per_example_results
from rb_smooth.leaderboard.metadata import architecture_family, architecture_title, entry_title

_PUBLISHED_POINTS = 10_000
"""RobustBench's figures are of CIFAR's whole test sets."""

_SEED_SUFFIX = re.compile(r"_s\d+(?=_[0-9a-f]{6}$|$)")

GROUP_TERMS = ("data set", "norm", "eps", "attack", "test points")
"""Terms of a protocol that agree within a group."""


@dataclass(frozen=True, eq=False)
class ModelRow:
    """One model. Accuracies are shares in [0, 1]; models are ranked by `best_known`, the lowest under any attack.

    link: to its paper, http or https, or "". unreliable: None if not known. points: the test points in words, equal for
    equal ones. info: RobustBench's fields. entry: None for a published model. key: its unique id on the page. rank:
    one more than the number of comparable models of the board, ours and published, that are better; None if there are
    no others.
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
    def whose(self) -> str:
        """`ours` if we trained it, `external` if submitted as a checkpoint, `published` if it is RobustBench's."""
        return "published" if self.entry is None else "external" if self.entry.is_external else "ours"

    @property
    def ours(self) -> bool:
        return self.whose == "ours"

    @property
    def method(self) -> str:
        """Equal for models of ours that differ only in the seed: the name without it. Of other models, the name."""
        return _SEED_SUFFIX.sub("", self.name) if self.ours else self.name

    @property
    def family(self) -> str:
        """Its architecture; `ResNet-18` for the pre-activation form too."""
        return architecture_family(self.architecture) or self.architecture

    @property
    def score(self) -> dict[str, Any]:
        """The score of an entry; of a published model, what is known of it."""
        return self.entry.own["score"] if self.entry else {"version": "standard"}

    @property
    def attack(self) -> str:
        """The name of `robust`."""
        return attack_title(self.score)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of an entry; None for a published model."""
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
        title=entry_title(entry),
        link=safe_link(info.get("link")),
        venue="" if info.get("venue") == "local" else str(info.get("venue") or ""),
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


def safe_link(link: object) -> str:
    """`link` if it is an http or https address; "" for anything else, such as `javascript:…`."""
    return link if isinstance(link, str) and re.match(r"https?://\S+$", link, re.IGNORECASE) else ""
