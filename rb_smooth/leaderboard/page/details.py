"""All that is known of one entry of ours, as plain data for its panel: attacks, cost, checks, recipe, origin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

from rb_smooth.config.yaml import dump_sections
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import percent
from rb_smooth.evaluation.per_example import CLEAN, PGD, PerExampleResults, counts_by_attack
from rb_smooth.leaderboard.entries import Entry, read_per_example_results
from rb_smooth.leaderboard.page.gallery import ExamplePair, read_pairs
from rb_smooth.leaderboard.page.rows import ModelRow
from rb_smooth.leaderboard.reports.entry_report import format_duration, loading_code, package_credits
from rb_smooth.training.run_folder.log import LogRow, best_row, read_log

_MAX_CLASSES = 20
"""Classes of which each gets a bar; of more, the weakest."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class AttackStep:
    """What is left after an attack and those before it. left: share in [0, 1]. broke: points, None if not known."""

    attack: str
    left: float
    broke: int | None = None
    took: str = ""


@dataclass(frozen=True)
class ClassShare:
    """Of the test points of one class, `n`, the share that withstood every attack."""

    label: int
    n: int
    stood: float


@dataclass(frozen=True)
class Details:
    """What a panel tells. facts: (heading, [(what, value)]). checks: as in the score. doubt: why the figures may
    be unreliable; empty if they are not. crowded_out: whether there are pairs for which the page has no room.
    complaints: which files beside the entry are damaged.
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
    """What the entry and the files beside it say. Raises UserError for an entry that tells it in another form."""
    entry = row.entry
    if entry is None:
        raise UserError(f"expected an entry of ours, got the published {row.name}; show it without details")
    complaints: list[str] = []
    outcomes = _read_or_report(complaints, lambda: read_per_example_results(entry))
    log = _read_or_report(complaints, lambda: read_log(entry.curves) if entry.curves.exists() else [])
    pairs = _read_or_report(complaints, lambda: read_pairs(entry.examples))
    try:
        return _build_details(entry, outcomes, log or [], pairs or [], complaints)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise UserError(
            f"expected all that an entry tells in {entry.path}, got another form ({error!r}); restore it"
        ) from None


def _read_or_report(complaints: list[str], read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except (UserError, OSError) as error:
        complaints.append(f"left out: {error}")
        return None


def _build_details(
    entry: Entry, outcomes: PerExampleResults | None, log: list[LogRow], pairs: list[ExamplePair], complaints: list[str]
) -> Details:
    own, score = entry.own, entry.own["score"]
    shown = entry if not entry.leaderboard.is_absolute() else replace(entry, leaderboard=Path(entry.leaderboard.name))
    where = f"{quote(entry.name)} --dataset {quote(entry.dataset)} --threat {quote(entry.threat)}"
    where += "" if shown.leaderboard == Path("leaderboard") else f" --leaderboard {quote(str(shown.leaderboard))}"
    program = "python -m rb_smooth.leaderboard"
    retrained = "" if "origin" in own else f"\n{program} reproduce {where}"
    return Details(
        steps=_steps(score, counts_by_attack(outcomes) if outcomes else None),
        classes=_class_shares(outcomes) if outcomes else [],
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


def _steps(score: dict[str, Any], broken: dict[str, int] | None) -> list[AttackStep]:
    """Unattacked, then every attack in order; PGD-20 of `quick` goes before its attacks, elsewhere it stands apart."""
    counts: dict[str, int] = broken if broken is not None else {}

    def step(attack: str, name: str, left: float, took: str = "") -> AttackStep:
        return AttackStep(attack, float(left), counts.get(name, 0) if broken is not None else None, took)

    steps = [step("unattacked", CLEAN, score["clean"])]
    if score["version"] != "standard":
        steps.append(step("PGD-20", PGD, score["pgd20"]))
    for name, attack in score["attacks"].items():
        steps.append(step(name, name, attack["robust"], format_duration(attack["seconds"])))
    return steps


def _class_shares(outcomes: PerExampleResults) -> list[ClassShare]:
    """In order of their numbers, or the weakest of many."""
    points = Counter(outcomes.label)
    stood = Counter(label for label, left in zip(outcomes.label, outcomes.is_robust, strict=True) if left)
    found = [ClassShare(label, points[label], stood[label] / points[label]) for label in sorted(points)]
    return found if len(found) <= _MAX_CLASSES else sorted(found, key=lambda each: each.stood)[:_MAX_CLASSES]


def _facts(entry: Entry, log: list[LogRow]) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    own, score, training = entry.own, entry.own["score"], entry.own["score"].get("training") or {}
    last = score.get("last")
    yield (
        "Measured",
        _drop_empty(
            ("test points", f"{score['n']}, {'the whole test set' if score['whole'] else 'a part of the test set'}"),
            ("source of the points", "official files" if score["official"] else "not the official files"),
            ("PGD-20", f"{percent(score['pgd20'])} %"),
            ("last epoch", f"clean {percent(last['clean'])} %, PGD-20 {percent(last['pgd20'])} %" if last else None),
            ("epoch selected on", score.get("selected_on")),
            ("forward passes for a prediction", entry.info.get("number_forward_passes")),
        ),
    )
    yield (
        "Cost",
        _drop_empty(
            ("training", format_duration(training["seconds"]) if "seconds" in training else None),
            ("trained on", training.get("device")),
            ("training processes", training.get("processes")),
            ("precision", training.get("precision")),
            ("epochs", f"{len(log)}, best {best_row(log)['epoch'] + 1}" if log else None),
            ("evaluation", format_duration(_evaluation_seconds(score))),
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
            ("versions", ", ".join(f"{name} {version}" for name, version in own.get("versions", {}).items())),
        ),
    )


def _evaluation_seconds(score: dict[str, Any]) -> float:
    return float(score.get("seconds") or sum(attack["seconds"] for attack in score["attacks"].values()))


def _drop_empty(*facts: tuple[str, object]) -> list[tuple[str, str]]:
    """Without what nobody recorded."""
    return [(what, str(value)) for what, value in facts if value is not None and value != ""]
