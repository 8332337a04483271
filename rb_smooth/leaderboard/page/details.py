"""Data for the panel of one of our entries: attacks, cost, checks, recipe, origin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import TypeVar

from rb_smooth.config.yaml import dump_sections
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import duration, percent
from rb_smooth.evaluation.per_example import PerExampleResults
from rb_smooth.leaderboard.entries import Entry, read_per_example_results
from rb_smooth.leaderboard.page.gallery import ExamplePair, read_pairs
from rb_smooth.leaderboard.page.rows import ModelRow
from rb_smooth.leaderboard.reports.entry_facts import (
    AttackStep,
    attack_steps,
    evaluation_seconds,
    loading_code,
    package_credits,
    versions_text,
)
from rb_smooth.training.run_folder.log import LogRow, best_row, read_log

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
    """Content of a panel. facts: (heading, [(name, value)]). checks: as in the score. doubt: why the accuracies may be
    unreliable, or "". crowded_out: whether pairs are left out for lack of room. complaints: damaged files, and why.
    """

    steps: list[AttackStep]
    classes: list[ClassShare]
    facts: list[tuple[str, list[tuple[str, str]]]]
    checks: list[dict[str, str]]
    warnings: list[str]
    doubt: str
    recipe: str
    loading: str
    commands: str
    log: list[LogRow] = field(default_factory=list)
    pairs: list[ExamplePair] = field(default_factory=list)
    crowded_out: bool = False
    complaints: list[str] = field(default_factory=list)


def read_details(row: ModelRow) -> Details:
    """Details from the entry and its files. Raises UserError for an entry with missing or malformed fields."""
    entry = row.entry
    if entry is None:
        raise UserError(f"expected one of our entries, got the published {row.name}; show it without details")
    complaints: list[str] = []
    results = _read_or_report(complaints, lambda: read_per_example_results(entry))
    log = _read_or_report(complaints, lambda: read_log(entry.curves) if entry.curves.exists() else [])
    pairs = _read_or_report(complaints, lambda: read_pairs(entry.examples))
    try:
        return _build_details(entry, results, log or [], pairs or [], complaints)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise UserError(f"expected all fields of an entry in {entry.path}, got {error!r}; restore it") from None


def _read_or_report(complaints: list[str], read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except (UserError, OSError) as error:
        complaints.append(f"left out: {error}")
        return None


def _build_details(
    entry: Entry, results: PerExampleResults | None, log: list[LogRow], pairs: list[ExamplePair], complaints: list[str]
) -> Details:
    own, score = entry.own, entry.own["score"]
    shown = entry if not entry.leaderboard.is_absolute() else replace(entry, leaderboard=Path(entry.leaderboard.name))
    where = f"{quote(entry.name)} --dataset {quote(entry.dataset)} --threat {quote(entry.threat)}"
    where += "" if shown.leaderboard == Path("leaderboard") else f" --leaderboard {quote(str(shown.leaderboard))}"
    program = "python -m rb_smooth.leaderboard"
    retrained = "" if "origin" in own else f"\n{program} reproduce {where}"
    return Details(
        steps=attack_steps(score, results),
        classes=_class_shares(results) if results else [],
        facts=[(title, facts) for title, facts in _facts(entry, log) if facts],
        checks=[{key: str(check[key]) for key in ("name", "verdict", "found")} for check in score.get("checks", [])],
        warnings=[str(warning) for warning in score.get("warnings", [])],
        doubt=f"Unreliable: {entry.info.get('footnote') or 'no reason given'}" if entry.info.get("unreliable") else "",
        recipe=dump_sections(own["recipe"]).rstrip(),
        loading=loading_code(shown),
        commands=f"{program} verify {where}{retrained}",
        log=log,
        pairs=pairs,
        complaints=complaints,
    )


def _class_shares(results: PerExampleResults) -> list[ClassShare]:
    """In order of the labels; of more than _MAX_CLASSES, the least robust ones."""
    points = Counter(results.label)
    robust = Counter(label for label, is_robust in zip(results.label, results.is_robust, strict=True) if is_robust)
    found = [ClassShare(label, points[label], robust[label] / points[label]) for label in sorted(points)]
    return found if len(found) <= _MAX_CLASSES else sorted(found, key=lambda each: each.robust)[:_MAX_CLASSES]


def _facts(entry: Entry, log: list[LogRow]) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    own, score, training = entry.own, entry.own["score"], entry.own["score"].get("training") or {}
    last = score.get("last")
    yield (
        "Evaluation",
        _drop_empty(
            ("test points", f"{score['n']}, {'the whole test set' if score['whole'] else 'a part of the test set'}"),
            ("source of the points", "official files" if score["official"] else "not the official files"),
            ("PGD-20", f"{percent(score['pgd20'])} %"),
            ("last epoch", f"clean {percent(last['clean'])} %, PGD-20 {percent(last['pgd20'])} %" if last else None),
            ("epoch selected on", score.get("selected_on")),
            ("forward passes per prediction", entry.info.get("number_forward_passes")),
        ),
    )
    yield (
        "Cost",
        _drop_empty(
            ("training", duration(training["seconds"]) if "seconds" in training else None),
            ("trained on", training.get("device")),
            ("training processes", training.get("processes")),
            ("precision", training.get("precision")),
            ("epochs", f"{len(log)}, best {best_row(log)['epoch'] + 1}" if log else None),
            ("evaluation", duration(evaluation_seconds(score))),
            ("evaluation processes", score.get("processes")),
            ("batch size", score.get("batch_size")),
        ),
    )
    yield (
        "Origin",
        _drop_empty(
            ("run", own["run"]),
            ("method", own.get("method")),
            ("methods of other packages", package_credits(entry)),
            ("checkpoint", own["origin"]["checkpoint"] if "origin" in own else None),
            ("checkpoint's SHA-256", own["origin"]["sha256"] if "origin" in own else None),
            ("weights' SHA-256", own.get("weights_sha256")),
            ("test points' SHA-256", score["fingerprint"]),
            ("seed of the attacks", score.get("seed")),
            ("AutoAttack by", score.get("backend")),
            ("commit", own.get("commit")),
            ("versions", versions_text(entry)),
        ),
    )


def _drop_empty(*facts: tuple[str, object]) -> list[tuple[str, str]]:
    """Drop facts that are not recorded."""
    return [(name, str(value)) for name, value in facts if value is not None and value != ""]
