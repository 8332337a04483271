"""Data for the panel of one of our entries: attacks, cost, checks, recipe, origin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TypeVar

from rb_smooth.config.yaml import dump_sections
from rb_smooth.core.errors import UserError
from rb_smooth.evaluation.per_example import PerExampleResults
from rb_smooth.leaderboard.entries import Entry, read_per_example_results
from rb_smooth.leaderboard.page.charts import Chart, training_chart
from rb_smooth.leaderboard.page.gallery import ExamplePair, read_pairs
from rb_smooth.leaderboard.reports.entry_facts import AttackStep, attack_steps, facts_by_heading, loading_code
from rb_smooth.training.run_folder.log import read_log

_MAX_CLASSES = 20
"""Classes shown with a bar; of more, the least robust ones."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class ClassShare:
    """robust: the share in [0, 1] of the `n` test points of a class that no attack broke."""

    label: int
    n: int
    robust: float


@dataclass(frozen=True)
class Details:
    """Content of a panel. facts: heading -> name -> value. checks: as in the score. complaints: damaged files, and why.

    crowded_out: whether images and curves are left out for lack of room.
    """

    steps: list[AttackStep]
    classes: list[ClassShare]
    facts: dict[str, dict[str, str]]
    checks: list[dict[str, str]]
    recipe: str
    loading: str
    commands: str
    warnings: list[str]
    training: Chart | None
    pairs: list[ExamplePair]
    complaints: list[str]
    crowded_out: bool = False

    @property
    def size(self) -> int:
        """Characters of images and curves."""
        paths = [path for *_, path in self.training.curves] if self.training else []
        return sum(map(len, paths)) + sum(len(pair.clean) + len(pair.adversarial) for pair in self.pairs)


def read_details(entry: Entry) -> Details:
    """Details from the entry and its files. Raises UserError for an entry with missing or malformed fields."""
    complaints: list[str] = []

    def read_or_report(read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except (UserError, OSError) as error:
            complaints.append(f"left out: {error}")
            return None

    results = read_or_report(lambda: read_per_example_results(entry))
    log = read_or_report(lambda: read_log(entry.curves) if entry.curves.exists() else None) or []
    pairs = read_or_report(lambda: read_pairs(entry.examples)) or []
    score, board = entry.own["score"], entry.leaderboard
    shown = replace(entry, leaderboard=Path(board.name)) if board.is_absolute() else entry  # shows no local paths
    where = f"{quote(entry.name)} --dataset {quote(entry.dataset)} --threat {quote(entry.threat)}"
    where += "" if shown.leaderboard == Path("leaderboard") else f" --leaderboard {quote(str(shown.leaderboard))}"
    commands = ["verify"] if "origin" in entry.own else ["verify", "reproduce"]
    try:
        return Details(
            steps=attack_steps(score, results),
            classes=_class_shares(results) if results else [],
            facts=facts_by_heading(entry, log),
            checks=[
                {key: str(check[key]) for key in ("name", "verdict", "found")} for check in score.get("checks", [])
            ],
            recipe=dump_sections(entry.own["recipe"]).rstrip(),
            loading=loading_code(shown),
            commands="\n".join(f"python -m rb_smooth.leaderboard {command} {where}" for command in commands),
            warnings=[str(warning) for warning in score.get("warnings", [])],
            training=training_chart(log, entry.name) if log else None,
            pairs=pairs,
            complaints=complaints,
        )
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise UserError(f"expected all fields of an entry in {entry.path}, got {error!r}; restore it") from None


def _class_shares(results: PerExampleResults) -> list[ClassShare]:
    """In order of the labels; of more than _MAX_CLASSES, the least robust ones."""
    points = Counter(results.label)
    robust = Counter(label for label, is_robust in zip(results.label, results.is_robust, strict=True) if is_robust)
    found = [ClassShare(label, points[label], robust[label] / points[label]) for label in sorted(points)]
    return found if len(found) <= _MAX_CLASSES else sorted(found, key=lambda each: each.robust)[:_MAX_CLASSES]
