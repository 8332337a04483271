"""python -m rb_smooth.runs: list runs with progress and accuracy, and compare them.

    python -m rb_smooth.runs                       all runs below runs/, with state and accuracy
    python -m rb_smooth.runs --json                the list as JSON; accuracies are shares in [0, 1]
    python -m rb_smooth.runs compare at-s0 trades-s0 --out at-or-trades.png
                                                   accuracy and settings in columns, curves in one figure

A run is named by its folder or by the path below --runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.config.sections import SECTIONS, Sections
from rb_smooth.core.cli import make_parser, run_cli
from rb_smooth.core.console import console
from rb_smooth.core.crashes import FIX_HINT
from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.core.formatting import duration, number_text, percent, percentage_points
from rb_smooth.training.run_folder.curves import draw_curves
from rb_smooth.training.run_folder.log import read_log
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.run_folder.summary import Summary, find_run, find_runs, summarise

_FOOTNOTE = "Percent. gap: PGD-20 of the best epoch minus the last, on validation images until evaluated."


def main() -> int:
    options = _parse()
    command, names = (options.what[0], options.what[1:]) if options.what else ("list", [])
    if command == "list" and not names:
        _list(options.runs, options.json)
    elif command == "compare" and not options.json:
        _compare([(name, find_run(name, options.runs)) for name in dict.fromkeys(names)], options.out)
    elif command == "compare":
        raise UserError("expected --json with the list of runs, got it with compare; drop it")
    else:
        raise UserError(
            f"expected a command, {did_you_mean(command if command != 'list' else names[0], ['compare', 'list'])}"
        )
    return 0


def _parse() -> argparse.Namespace:
    parser = make_parser("runs", __doc__)
    parser.add_argument("what", nargs="*", metavar="compare RUN …", help="compare and runs; else the list")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs (default: runs)")
    parser.add_argument("--json", action="store_true", help="the list as JSON")
    parser.add_argument("--out", type=Path, help="figure of compare (default: curves-compare.png in --runs)")
    options = parser.parse_args()
    options.out = options.out or options.runs / "curves-compare.png"
    return options


def _list(folder: Path, as_json: bool) -> None:
    summaries = [summarise(name, run) for name, run in find_runs(folder)]
    if as_json and folder.is_dir():
        console.print(json.dumps([asdict(summary) for summary in summaries], indent=2))
        return
    if not summaries:
        raise UserError(
            f"expected runs in {folder}, got none; train one (python -m rb_smooth.recipe digits at), or set --runs"
        )
    console.print(_table(summaries), soft_wrap=False)
    console.print(_FOOTNOTE)
    for summary in summaries:
        if summary.damage:
            console.print(f"damaged: {summary.damage}")
        if summary.crash:
            run = Run(folder / summary.name)
            console.print(
                f"crashed: {run.path}, by {summary.crash} in native code, see {run.crash_file.name} there; {FIX_HINT}"
            )


def _table(summaries: list[Summary]) -> Table:
    """One row per run, grouped by folder."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("state", no_wrap=True)
    heads = ("epochs", "val\nclean", "\nrobust", "test\nclean", "\nPGD-20", "Auto\nAttack", "\ngap", "\nago")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    above = ""
    for summary in summaries:
        folder, _, name = summary.name.rpartition("/")
        if folder != above:
            table.add_row(f"{folder}/", style="bold")
            above = folder
        figures = (summary.val_clean, summary.val_robust, summary.test_clean, summary.test_pgd20)
        table.add_row(
            name,
            summary.state,
            _progress(summary),
            *(percent(figure, 1) for figure in figures),
            _autoattack_text(summary),
            percentage_points(summary.gap, 1),
            duration(time.time() - summary.changed),
            style={"damaged": "red", "crashed": "red", "training": "green", "evaluating": "green"}.get(summary.state),
        )
    return table


def _progress(summary: Summary) -> str:
    return "" if summary.damage else f"{summary.epochs_done}/{summary.epochs or '?'}"


def _autoattack_text(summary: Summary) -> str:
    """Accuracy under AutoAttack in percent; `≤ 52.1` if only an upper bound is known."""
    return percent(summary.test_autoattack, 1) if summary.test_bound is None else f"≤ {percent(summary.test_bound, 1)}"


def _compare(runs: list[tuple[str, Run]], out: Path) -> None:
    if not runs:
        raise UserError("expected runs to compare, got none; name some: compare A B (list: python -m rb_smooth.runs)")
    if out.suffix != ".png":
        raise UserError(f"expected a .png file to write, got --out {out}; choose a name that ends in .png")
    logs = {name.rstrip("/"): read_log(run.path / "log.csv") for name, run in runs}
    summaries = [summarise(name, run) for name, run in runs]
    for summary in summaries:
        if summary.damage:
            raise UserError(summary.damage)
    draw_curves(logs, out)
    console.print(_side_by_side(list(logs), summaries, [run.header for _, run in runs]), soft_wrap=False)
    console.print(_FOOTNOTE)
    console.print(f"curves: {out}")


def _side_by_side(names: list[str], summaries: list[Summary], headers: list[Sections]) -> Table:
    """One column per run: accuracy, and the settings that differ."""
    table = Table("", box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    rows = {
        "state": [summary.state for summary in summaries],
        "epochs": [_progress(summary) for summary in summaries],
        "best epoch": [str(summary.best_epoch) for summary in summaries],
        "time per epoch": [duration(summary.seconds / summary.epochs_done) for summary in summaries],
        "validation clean": [percent(summary.val_clean, 1) for summary in summaries],
        "validation robust": [percent(summary.val_robust, 1) for summary in summaries],
        "test points": [str(summary.test_points or "") for summary in summaries],
        "test clean": [percent(summary.test_clean, 1) for summary in summaries],
        "test PGD-20": [percent(summary.test_pgd20, 1) for summary in summaries],
        "test AutoAttack": [_autoattack_text(summary) for summary in summaries],
        "gap": [percentage_points(summary.gap, 1) for summary in summaries],
    }
    for what, cells in rows.items():
        table.add_row(what, *cells)
    table.add_section()
    settings = [_flatten(header) for header in headers]
    keys = dict.fromkeys(key for each in settings for key in each)
    for key in sorted(keys, key=lambda key: SECTIONS.index(key.partition(".")[0])):
        cells = [each.get(key, _ABSENT_MEANS.get(key, "")) for each in settings]
        if len(set(cells)) > 1:
            table.add_row(key, *cells)
    return table


_ABSENT_MEANS = {"train.select_rule": "maximum"}
"""Keys that recipes leave out at their default."""


def _flatten(header: Sections) -> dict[str, str]:
    """Flatten sections to `optimizer.lr: 0.1`; a list of stages is one value."""
    flat: dict[str, str] = {}
    for section in SECTIONS:
        values = header.get(section)
        named = values if isinstance(values, dict) else {"stages": values}
        flat |= {f"{section}.{key}": _text(value) for key, value in named.items()}
    return flat


def _text(value: Any) -> str:
    return number_text(value) if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(run_cli(main)())
