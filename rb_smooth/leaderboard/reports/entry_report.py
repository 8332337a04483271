"""One entry in full, as text: accuracies, attacks, cost, origin, rank, checks, recipe, files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.config.yaml import dump_sections
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import duration
from rb_smooth.evaluation.per_example import PerExampleResults
from rb_smooth.leaderboard.entries import Entry, read_per_example_results
from rb_smooth.leaderboard.reports.entry_facts import attack_steps, facts_by_heading, loading_code
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
    accuracies, *others = [_key_value_table(heading, facts) for heading, facts in facts_by_heading(entry).items()]
    accuracies.title = f"{entry.name}: accuracies"
    lines: list[Table | str] = [accuracies, _attacks_table(score, results), *notes, *others, *position_table(entry)]
    checks = score.get("checks", [])
    lines.append(_checks_table(checks) if checks else "checks: none recorded (an older entry); submit it again")
    lines.append(f"recipe:\n{dump_sections(entry.own['recipe'])}".rstrip())
    paths = {"entry": entry.path, "weights": entry.weights, "points": entry.points}
    paths |= {"training log": entry.curves, "examples": entry.examples}
    files = {name: f"{path}{'' if path.exists() else ' (missing)'}" for name, path in paths.items()}
    return [*lines, _key_value_table("Files", files), f"load it:\n{loading_code(entry)}"]


def _attacks_table(score: dict[str, Any], results: PerExampleResults | None) -> Table:
    source = "robust accuracies" if results is None else "points.csv"
    table = Table(title=f"Attacks; points broken from {source}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("attack")
    for heading in ("broke", "accuracy after", "time"):
        table.add_column(heading, justify="right")
    for step in attack_steps(score, results):
        title = "none: misclassified" if step.attack == "unattacked" else step.attack
        took = "" if step.seconds is None else duration(step.seconds)
        table.add_row(title, str(step.broken), f"{step.accuracy:.2%}", took)
    return table


def _checks_table(checks: list[dict[str, Any]]) -> Table:
    table = Table(title="Checks", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "verdict"):
        table.add_column(heading, no_wrap=True)
    table.add_column("result", overflow="fold")
    for check in checks:
        style = "bold red" if check["verdict"] == "unreliable" else None
        table.add_row(check["name"], check["verdict"], check["found"], style=style)
    return table


def _key_value_table(title: str, rows: Mapping[str, str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table
