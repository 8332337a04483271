"""One entry in full, as text: accuracies, attacks, cost, recipe, checks, files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.config.yaml import dump_sections
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import duration
from rb_smooth.evaluation.per_example import PerExampleResults
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry, read_per_example_results
from rb_smooth.leaderboard.metadata import architecture_title
from rb_smooth.leaderboard.reports.entry_facts import (
    attack_steps,
    evaluation_seconds,
    loading_code,
    package_credits,
    versions_text,
)
from rb_smooth.leaderboard.reports.ranking import position_table


def render_entry_report(entry: Entry) -> list[Table | str]:
    """Lines to print. A damaged points.csv is named, and the rest is shown."""
    score = entry.own["score"]
    results: PerExampleResults | None = None
    notes = [f"AutoAttack warned: {warning}" for warning in score.get("warnings", [])]
    try:
        results = read_per_example_results(entry)
    except UserError as error:
        notes.append(f"not used: {error}")
    lines: list[Table | str] = [_figures_table(entry), _attacks_table(score, results), *notes]
    lines += position_table(entry)
    checks = score.get("checks", [])
    lines.append(_checks_table(checks) if checks else "checks: none recorded (an older entry); submit it again")
    lines.append(f"recipe (run {entry.own['run']}):\n{dump_sections(entry.own['recipe'])}".rstrip())
    return [*lines, _files_table(entry), f"load it:\n{loading_code(entry)}"]


def _figures_table(entry: Entry) -> Table:
    info, score = entry.info, entry.own["score"]
    low, high = score["interval"]
    points = f"{score['n']} test points, {'the whole' if score['whole'] else 'the first of the'} test set"
    points += ", official files" if score["official"] else ", not from RobustBench's official files"
    rows = {
        "method": entry.own["method"],
        "model": architecture_title(entry) + (", extra data" if info["additional_data"] else ", no extra data"),
        "threat": f"{score['threat']['norm']} eps {info['eps']}, {points}",
        "clean": f"{score['clean']:.2%}",
        "PGD-20": f"{score['pgd20']:.2%}",
        attack_title(score): f"{score['autoattack']:.2%} (95 % interval {low:.2%} to {high:.2%})",
        "last epoch": _last_epoch(score),
        "selected on": _selection(score),
        "unreliable": "yes: see checks" if info.get("unreliable") else "no",
        "training": _training(score.get("training")),
        "evaluation": _evaluation(score),
        "versions": versions_text(entry),
        "commit": str(entry.own.get("commit", "not recorded")),
    }
    if entry.packages:
        rows["other packages"] = package_credits(entry)
    if origin := entry.own.get("origin"):
        rows["origin"] = f"{origin['checkpoint']}, SHA-256 {origin['sha256']}"
    return _key_value_table(entry.name, rows)


def _last_epoch(score: dict[str, Any]) -> str:
    if (last := score.get("last")) is None:
        return "none: the entry is a checkpoint"
    lost = 100 * (score["pgd20"] - last["pgd20"])
    return f"clean {last['clean']:.2%}, PGD-20 {last['pgd20']:.2%}, best minus last {lost:+.2f} points"


def _selection(score: dict[str, Any]) -> str:
    split = score.get("selected_on", "not known")
    return (
        "test: the epoch was selected on the test set, so the accuracies are optimistic" if split == "test" else split
    )


def _training(training: dict[str, Any] | None) -> str:
    if training is None:
        return "none: the entry is a checkpoint"
    words = [duration(training["seconds"])] if "seconds" in training else []
    words += [str(training[key]) for key in ("device", "precision") if training.get(key)]
    return ", ".join(words) or "not recorded"


def _evaluation(score: dict[str, Any]) -> str:
    words = [duration(evaluation_seconds(score)), f"version {score['version']}"]
    for key, name in (("seed", "seed"), ("batch_size", "batch size"), ("processes", "processes")):
        words += [f"{name} {score[key]}"] if key in score else []
    return ", ".join([*words, *([score["backend"]] if "backend" in score else [])])


def _attacks_table(score: dict[str, Any], results: PerExampleResults | None) -> Table:
    source = "robust accuracies" if results is None else "points.csv"
    table = Table(title=f"attacks; points broken from {source}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("attack")
    for heading in ("broke", "accuracy after", "time"):
        table.add_column(heading, justify="right")
    for step in attack_steps(score, results):
        title = "none: misclassified" if step.attack == "unattacked" else step.attack
        took = "" if step.seconds is None else duration(step.seconds)
        table.add_row(title, str(step.broken), f"{step.accuracy:.2%}", took)
    return table


def _checks_table(checks: list[dict[str, Any]]) -> Table:
    table = Table(title="checks", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "verdict"):
        table.add_column(heading, no_wrap=True)
    table.add_column("result", overflow="fold")
    for check in checks:
        style = "bold red" if check["verdict"] == "unreliable" else None
        table.add_row(check["name"], check["verdict"], check["found"], style=style)
    return table


def _files_table(entry: Entry) -> Table:
    paths = {"entry": entry.path, "weights": entry.weights, "points": entry.points}
    paths |= {"training log": entry.curves, "examples": entry.examples}
    rows = {name: f"{path}{'' if path.exists() else ' (missing)'}" for name, path in paths.items()}
    return _key_value_table("files", rows | {"SHA-256": f"{entry.own.get('weights_sha256', 'not recorded')} (weights)"})


def _key_value_table(title: str, rows: Mapping[str, str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table
