"""One model of a board, ours or published, as a row of the page."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from rb_smooth.core.formatting import eps_text
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry
from rb_smooth.leaderboard.metadata import architecture_title


@dataclass(frozen=True)
class ModelRow:
    """One model. Accuracies are shares in [0, 1]; models are ranked by `best_known`, the lowest under any attack.

    key: its unique id on the page. link: to its paper, http or https, or "". unreliable: None if not known.
    attack: the name of `robust`. entry: None for a published model. rank: None without comparable models.
    """

    key: str
    name: str
    title: str
    link: str
    venue: str
    architecture: str
    extra_data: bool
    eps: str
    clean: float
    robust: float
    best_known: float
    unreliable: bool | None
    attack: str = "AutoAttack"
    entry: Entry | None = None
    rank: int | None = None

    @property
    def ours(self) -> bool:
        return self.entry is not None

    @property
    def score(self) -> dict[str, Any]:
        """The score of our entry; empty for a published model."""
        return self.entry.own["score"] if self.entry else {}

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of our entry; None for a published model."""
        if not self.entry:
            return None
        low, high = self.score["interval"]
        return low, high

    @property
    def selected_on_test(self) -> bool:
        return bool(self.score.get("selected_on") == "test")


def own_row(entry: Entry, key: str) -> ModelRow:
    info, score = entry.info, entry.own["score"]
    return ModelRow(
        key=key,
        name=entry.name,
        title=str(info.get("name") or entry.name),
        link=safe_link(info.get("link")),
        venue=str(info.get("venue") or ""),
        architecture=_architecture(entry),
        extra_data=info.get("additional_data") is True,
        eps=eps_text(score["threat"]["eps"]),
        clean=score["clean"],
        robust=score["autoattack"],
        best_known=score["autoattack"],
        unreliable=True if info.get("unreliable") else False if score.get("checks") else None,
        attack=attack_title(score),
        entry=entry,
    )


def published_row(each: dict[str, Any], key: str) -> ModelRow:
    """The row of one of `entries.published_entries`."""
    same = ("name", "title", "venue", "architecture", "extra_data", "eps", "clean", "best_known", "unreliable")
    return ModelRow(
        key=key, link=safe_link(each["link"]), robust=each["autoattack"], **{name: each[name] for name in same}
    )


def display_error(entry: Entry) -> str | None:
    """Why the page cannot show an entry that `entries.read_entry` accepts; None if it can."""
    score = entry.own["score"]
    shares = [score["clean"], score["pgd20"], score["autoattack"], *score["interval"]]
    if len(shares) != 5 or not all(0 <= share <= 1 for share in shares):  # NaN is not in [0, 1] either
        return "accuracies outside [0, 1]"
    threat = score["threat"]
    if threat["norm"] != entry.threat:
        return f"the norm {threat['norm']} in the folder of {entry.threat}"
    if not isinstance(score["version"], str):
        return "a version that is not a string"
    if not (isinstance(threat["eps"], (int, float)) and math.isfinite(threat["eps"])):
        return "an eps that is not a finite number"
    if missing := [key for key in ("official", "whole") if not isinstance(score.get(key), bool)]:
        return f"no {missing[0]}"
    return None


def safe_link(link: object) -> str:
    """`link` if it is an http or https address; "" for anything else, such as `javascript:…`."""
    return link if isinstance(link, str) and re.match(r"https?://\S+$", link, re.IGNORECASE) else ""


class IdGenerator:
    """Unique ids for the page, of plain characters, from any names."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def new_id(self, name: str) -> str:
        plain = re.sub(r"[^\w.+-]+", "_", name, flags=re.ASCII)
        key, number = plain, 1
        while key.lower() in self.taken:
            number += 1
            key = f"{plain}~{number}"
        self.taken.add(key.lower())
        return key


def _architecture(entry: Entry) -> str:
    try:
        return architecture_title(entry)
    except (KeyError, TypeError, AttributeError):
        return str(entry.info["architecture"])
