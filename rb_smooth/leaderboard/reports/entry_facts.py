"""Facts of one entry that its text report, its panel on the page and its bundle share."""

from __future__ import annotations

from typing import Any, NamedTuple

from rb_smooth.evaluation.per_example import CLEAN, PGD, PerExampleResults, counts_by_attack
from rb_smooth.leaderboard.entries import Entry, model_dir


class AttackStep(NamedTuple):
    """Result of one attack. accuracy: the share in [0, 1] left after it and those before. broken: number of points."""

    attack: str
    accuracy: float
    broken: int
    seconds: float | None = None


def attack_steps(score: dict[str, Any], results: PerExampleResults | None) -> list[AttackStep]:
    """Unattacked, then each attack in order. Of `quick`, PGD-20 is the first attack; of `standard` it is separate.

    results: the exact numbers of broken points; without them, they are computed from the accuracies.
    """
    after: list[tuple[str, str, float, float | None]] = [("unattacked", CLEAN, score["clean"], None)]
    if score["version"] != "standard":
        after.append(("PGD-20", PGD, score["pgd20"], None))
    after += [(name, name, attack["robust"], attack["seconds"]) for name, attack in score["attacks"].items()]
    counts = None if results is None else counts_by_attack(results)
    left, steps = 1.0, []
    for title, key, accuracy, seconds in after:
        broken = round((left - min(left, accuracy)) * score["n"]) if counts is None else counts.get(key, 0)
        left = min(left, accuracy)
        steps.append(AttackStep(title, float(accuracy), broken, seconds))
    return steps


def evaluation_seconds(score: dict[str, Any]) -> float:
    """Seconds of the evaluation; of an older entry, the sum over its attacks."""
    return float(score.get("seconds") or sum(attack["seconds"] for attack in score["attacks"].values()))


def versions_text(entry: Entry) -> str:
    """`torch 2.0, robustbench 1.1.1`: packages at evaluation."""
    return ", ".join(f"{name} {version}" for name, version in entry.own.get("versions", {}).items())


def package_credits(entry: Entry) -> str:
    """`perturbation sam from rb-smooth-sam 0.1`: methods of other packages, with the package."""
    return ", ".join(f"{method.replace('.', ' ')} from {package}" for method, package in entry.packages.items())


def loading_code(entry: Entry) -> str:
    """Python that loads the entry with rb_smooth, or with RobustBench's `load_model`."""
    where = f"dataset={entry.dataset!r}, threat_model={entry.threat!r}"
    board = str(entry.leaderboard)
    new = "" if entry.dataset in ("cifar10", "cifar100") else ", new_datasets=True"
    return (
        f"import rb_smooth\n"
        f"model = rb_smooth.load_model({entry.name!r}, {where}, leaderboard={board!r})\n"
        f"# or\n"
        f"from robustbench.utils import load_model\n"
        f"rb_smooth.register({board!r}{new})\n"
        f"model = load_model({entry.name!r}, model_dir={str(model_dir(entry.leaderboard))!r}, {where})"
    )
