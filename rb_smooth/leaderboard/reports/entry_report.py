"""Everything about one entry, on one screen: figures and how sure they are, attacks, cost, recipe, checks, files."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.config.yaml import dump_sections
from rb_smooth.core.errors import UserError
from rb_smooth.evaluation.per_example import CLEAN, PGD, PerExampleResults, counts_by_attack
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry, model_dir, read_per_example_results
from rb_smooth.leaderboard.metadata import architecture_title
from rb_smooth.leaderboard.reports.ranking import position_table


def render_entry_report(entry: Entry) -> list[Table | str]:
    """What to print of one entry. A damaged points.csv is named, and the rest is shown."""
    score = entry.own["score"]
    found: PerExampleResults | None = None
    notes = [f"AutoAttack warned: {warning}" for warning in score.get("warnings", [])]
    try:
        found = read_per_example_results(entry)
    except UserError as refused:
        notes.append(f"not used: {refused}")
    lines: list[Table | str] = [_figures_table(entry), _attacks_table(score, found), *notes]
    lines += position_table(entry)
    checks = score.get("checks", [])
    lines.append(_checks_table(checks) if checks else "checks: none recorded (an older entry); submit it again")
    lines.append(f"recipe (run {entry.own['run']}):\n{dump_sections(entry.own['recipe'])}".rstrip())
    return [*lines, _files_table(entry), f"load it:\n{loading_code(entry)}"]


def loading_code(entry: Entry) -> str:
    """Python that loads the entry, through us and through RobustBench's own function."""
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


def package_credits(entry: Entry) -> str:
    """`perturbation sam from rb-smooth-sam 0.1`: the methods that are not ours, with whose they are."""
    return ", ".join(f"{method.replace('.', ' ')} from {package}" for method, package in entry.packages.items())


def format_duration(seconds: float) -> str:
    """`5.4 h`: in the largest unit of which there is one."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


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
        "measured with": ", ".join(f"{name} {version}" for name, version in entry.own["versions"].items()),
        "commit": str(entry.own.get("commit", "not recorded")),
    }
    if entry.packages:
        rows["of other packages"] = package_credits(entry)
    if origin := entry.own.get("origin"):
        rows["origin"] = f"{origin['checkpoint']}, SHA-256 {origin['sha256']}"
    table = Table(title=entry.name, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _last_epoch(score: dict[str, Any]) -> str:
    if (last := score.get("last")) is None:
        return "no training here: a checkpoint"
    lost = 100 * (score["pgd20"] - last["pgd20"])
    return f"clean {last['clean']:.2%}, PGD-20 {last['pgd20']:.2%}, best minus last {lost:+.2f} points"


def _selection(score: dict[str, Any]) -> str:
    chosen = score.get("selected_on", "not known")
    return "test: the test set chose the epoch, so that these figures flatter" if chosen == "test" else chosen


def _training(training: dict[str, Any] | None) -> str:
    if training is None:
        return "not here"
    known = {key: training.get(key) for key in ("device", "precision")}
    words = [format_duration(training["seconds"])] if "seconds" in training else []
    return ", ".join([*words, *(str(value) for value in known.values() if value)]) or "not recorded"


def _evaluation(score: dict[str, Any]) -> str:
    spent = score.get("seconds") or sum(attack["seconds"] for attack in score["attacks"].values())
    words = [format_duration(spent), f"version {score['version']}"]
    for key, name in (("seed", "seed"), ("batch_size", "batch size"), ("processes", "processes")):
        words += [f"{name} {score[key]}"] if key in score else []
    return ", ".join([*words, *([score["backend"]] if "backend" in score else [])])


def _broken_by_attack(score: dict[str, Any]) -> dict[str, int]:
    """How many points each attack broke, from the shares that were left after it."""
    left, counts = 1.0, {}
    shares = {CLEAN: score["clean"]} | ({} if score["version"] == "standard" else {PGD: score["pgd20"]})
    for name, share in (shares | {name: attack["robust"] for name, attack in score["attacks"].items()}).items():
        counts[name] = round((left - min(left, share)) * score["n"])
        left = min(left, share)
    return counts


def _attacks_table(score: dict[str, Any], results: PerExampleResults | None) -> Table:
    source = "the shares left standing" if results is None else "points.csv"
    broken = _broken_by_attack(score) if results is None else counts_by_attack(results)
    table = Table(title=f"attacks; points broken from {source}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("attack")
    for heading in ("broke", "left standing", "time"):
        table.add_column(heading, justify="right")
    table.add_row("none: misclassified", str(broken.get(CLEAN, 0)), f"{score['clean']:.2%}", "")
    if PGD in broken:
        table.add_row(PGD, str(broken[PGD]), f"{score['pgd20']:.2%}", "")
    for name, attack in score["attacks"].items():
        table.add_row(name, str(broken.get(name, 0)), f"{attack['robust']:.2%}", format_duration(attack["seconds"]))
    return table


def _checks_table(checks: list[dict[str, Any]]) -> Table:
    table = Table(title="checks", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "verdict"):
        table.add_column(heading, no_wrap=True)
    table.add_column("found", overflow="fold")
    for check in checks:
        marked = {"unreliable": "bold red"}.get(check["verdict"])
        table.add_row(check["name"], check["verdict"], check["found"], style=marked)
    return table


def _files_table(entry: Entry) -> Table:
    table = Table(title="files", title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    places = {"entry": entry.path, "weights": entry.weights, "points": entry.points}
    for name, path in (places | {"training log": entry.curves, "examples": entry.examples}).items():
        table.add_row(name, f"{path}{'' if path.exists() else ' (none there)'}")
    table.add_row("SHA-256", f"{entry.own.get('weights_sha256', 'not recorded')} (weights)")
    return table
