"""Facts of one entry, as its panel on the page and its bundle show them too, and the entry in full as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.config.yaml import dump_sections
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import duration, percent
from rb_smooth.evaluation.per_example import CLEAN, PGD, PerExampleResults, counts_by_attack
from rb_smooth.evaluation.score import attack_title, selection_title
from rb_smooth.leaderboard.entries import Entry, model_dir, read_per_example_results
from rb_smooth.leaderboard.metadata import architecture_title
from rb_smooth.leaderboard.reports.board import Board
from rb_smooth.leaderboard.reports.ranking import place_entry, position_table
from rb_smooth.leaderboard.reports.rows import ModelRow
from rb_smooth.training.run_folder.log import LogRow, best_row


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


def facts_by_heading(entry: Entry, log: Sequence[LogRow] = ()) -> dict[str, dict[str, str]]:
    """heading -> name -> value: accuracies, evaluation, cost and origin; what is not recorded is left out.

    log: the entry's training log.
    """
    own, score, info = entry.own, entry.own["score"], entry.info
    low, high = score["interval"]
    last, training, origin = score.get("last"), score.get("training") or {}, own.get("origin") or {}
    points = f"{score['n']}, {'the whole test set' if score['whole'] else 'a part of the test set'}"
    seconds = score.get("seconds") or sum(attack["seconds"] for attack in score["attacks"].values())
    on_test = ": accuracies are optimistic" if score.get("selected_on") == "test" else ""
    facts = {
        "Accuracies": {
            "clean": f"{percent(score['clean'])} %",
            "PGD-20": f"{percent(score['pgd20'])} %",
            attack_title(score): f"{percent(score['autoattack'])} % (95 % interval {percent(low)} to {percent(high)})",
            "last epoch": last and f"clean {percent(last['clean'])} %, PGD-20 {percent(last['pgd20'])} %",
            "unreliable": "yes: see checks" if info.get("unreliable") else None,
        },
        "Evaluation": {
            "threat": f"{score['threat']['norm']}, eps {info['eps']}",
            "test points": f"{points}, {'official files' if score['official'] else 'not the official files'}",
            "test points' SHA-256": score["fingerprint"],
            "version": score["version"],
            "seed of the attacks": score.get("seed"),
            "batch size": score.get("batch_size"),
            "code of the attacks": score.get("backend"),
            "epoch selected on": score.get("selected_on") and f"{selection_title(score)}{on_test}",
            "forward passes per prediction": info.get("number_forward_passes"),
        },
        "Cost": {
            "training": duration(training["seconds"]) if "seconds" in training else None,
            "trained on": training.get("device"),
            "training processes": training.get("processes"),
            "precision": training.get("precision"),
            "epochs": f"{len(log)}, best {best_row(log)['epoch'] + 1}" if log else None,
            "evaluation": duration(float(seconds)),
            "evaluation processes": score.get("processes"),
        },
        "Origin": {
            "run": own["run"],
            "method": own.get("method"),
            "model": f"{architecture_title(entry)}, {'extra' if info.get('additional_data') else 'no extra'} data",
            "methods of other packages": ", ".join(
                f"{method.replace('.', ' ')} from {package}" for method, package in entry.packages.items()
            ),
            "checkpoint": origin.get("checkpoint"),
            "checkpoint's SHA-256": origin.get("sha256"),
            "weights' SHA-256": own.get("weights_sha256"),
            "commit": own.get("commit"),
            "versions": ", ".join(f"{name} {version}" for name, version in own.get("versions", {}).items()),
        },
    }
    return {
        heading: {name: str(value) for name, value in named.items() if value not in (None, "")}
        for heading, named in facts.items()
    }


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


def render_report(row: ModelRow, board: Board) -> list[Table | str]:
    """Lines to print: all of an entry, or what is known of a published model."""
    if row.entry is not None:
        return render_entry_report(row.entry, (row, board))
    facts = {
        "standard accuracy": f"{percent(row.clean)} %",
        "AutoAttack": f"{percent(row.robust)} %",
        "best known robust accuracy": f"{percent(row.best_known)} %",
        "threat": f"{row.threat}, eps {row.eps}",
        "test points": row.points,
        "model": f"{row.architecture}, {'extra' if row.extra_data else 'no extra'} data",
        "paper": f"{row.title}, {row.venue}",
        "link": row.link,
    } | ({"unreliable": "yes, according to RobustBench"} if row.unreliable else {})
    table = _key_value_table(f"{row.name}: published", facts)
    return [table, *position_table(row, board), f"load it (RobustBench downloads it):\n{published_loading_code(row)}"]


def published_loading_code(row: ModelRow) -> str:
    """Python that loads a published model with RobustBench, which downloads its weights."""
    return (
        "import rb_smooth  # so that robustbench can be imported\n"
        "from robustbench.utils import load_model\n"
        f"model = load_model({row.name!r}, dataset={row.dataset!r}, threat_model={row.threat!r})"
    )


def render_entry_report(entry: Entry, placed: tuple[ModelRow, Board] | None = None) -> list[Table | str]:
    """Lines to print. A damaged points.csv is named, and the rest is shown. placed: its row and board, if read."""
    score = entry.own["score"]
    results: PerExampleResults | None = None
    notes = [f"AutoAttack warned: {warning}" for warning in score.get("warnings", [])]
    try:
        results = read_per_example_results(entry)
    except UserError as error:
        notes.append(f"not used: {error}")
    accuracies, *others = [_key_value_table(heading, facts) for heading, facts in facts_by_heading(entry).items()]
    accuracies.title = f"{entry.name}: accuracies"
    lines: list[Table | str] = [
        accuracies,
        _attacks_table(score, results),
        *notes,
        *others,
        *position_table(*(placed or place_entry(entry))),
    ]
    checks = score.get("checks", [])
    lines.append(_checks_table(checks) if checks else "checks: none recorded (an older entry); submit it again")
    lines.append(f"recipe:\n{dump_sections(entry.own['recipe'])}".rstrip())
    paths = {"entry": entry.path, "weights": entry.weights, "points": entry.points}
    paths |= {"training log": entry.curves, "examples": entry.examples}
    files = {name: f"{path}{'' if path.exists() else ' (missing)'}" for name, path in paths.items()}
    load = [f"load it:\n{loading_code(entry)}"] if entry.weights.exists() else []
    return [*lines, _key_value_table("Files", files), *load]


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
