"""python -m rb_smooth.leaderboard: submit, verify and compare models, and show the board.

    python -m rb_smooth.leaderboard submit runs/digits/at-s0            a run
    python -m rb_smooth.leaderboard submit net.pt --arch resnet18 --dataset cifar10 --threat Linf --eps 8/255
    python -m rb_smooth.leaderboard audit net.pt --model net.py:Net --claimed 0.6   test a claim
    python -m rb_smooth.leaderboard evaluate NAME --eps 2/255..16/255 --norms Linf,L2
    python -m rb_smooth.leaderboard verify NAME                         re-evaluate the stored weights
    python -m rb_smooth.leaderboard reproduce NAME                      retrain by the stored recipe
    python -m rb_smooth.leaderboard show NAME                           all data of one entry
    python -m rb_smooth.leaderboard compare NAME [NAME …]               ranks, neighbours, paired differences
    python -m rb_smooth.leaderboard table cifar10 Linf --latex          for a paper; or --csv, --bibtex
    python -m rb_smooth.leaderboard bundle NAME                         files for RobustBench's new-model issue
    python -m rb_smooth.leaderboard page                                leaderboard/index.html; `serve` opens it

Exit codes: 0 done; 1 verify or reproduce found a difference, audit refuted the claim; 2 user error (one line on
stderr); 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb_smooth.core.cli import run_cli
from rb_smooth.core.console import console
from rb_smooth.core.errors import UserError
from rb_smooth.evaluation.radii import parse_radii
from rb_smooth.leaderboard.entries import Entry, find_entry, list_entries, sweep_leftovers
from rb_smooth.leaderboard.parser import DEFAULT_FOLDER, parse_options, requested_protocol

if TYPE_CHECKING:
    from rb_smooth.leaderboard.external import ExternalModel

DIFFERENT = 1


def main() -> int:
    options = parse_options(__doc__ or "")
    commands = (_submit, _audit, _evaluate, _verify, _reproduce, _show, _compare, _table, _bundle, _page, _serve)
    by_name: dict[str, Callable[[argparse.Namespace], int | None]] = {each.__name__[1:]: each for each in commands}
    if options.command != "audit":  # which has no board
        board: Path = options.leaderboard
        sweep_leftovers(board)
        if options.command != "submit" and board != DEFAULT_FOLDER and not board.is_dir():
            raise UserError(f"expected a leaderboard's folder at {board}, got none; correct --leaderboard")
    return by_name[options.command](options) or 0


def _resources(options: argparse.Namespace) -> dict[str, Any]:
    """Data folder, device and number of processes of an evaluation."""
    from rb_smooth.training.validate import resolve_device

    return {"data_dir": options.data_dir, "device": resolve_device(options.device), "workers": options.workers}


def _submit(options: argparse.Namespace) -> None:
    from rb_smooth.leaderboard.reports.ranking import ranking_table
    from rb_smooth.training.run_folder.summary import is_run

    entry = _submitted_run(options) if is_run(options.what) else _submitted_checkpoint(options)
    _print(ranking_table(entry))
    checks = entry.own["score"].get("checks", [])
    for check in checks:
        if check["verdict"] == "unreliable":
            console.print(f"unreliable: {check['name']}: {check['found']}")
    verdicts = Counter(check["verdict"] for check in checks)
    counts = ", ".join(f"{verdicts[each]} {each}" for each in ("passed", "unreliable", "skipped") if verdicts[each])
    console.print(f"trust checks: {counts or 'none recorded'}; `leaderboard show {entry.name}` lists them")
    console.print(f"entry: {entry.path}")


def _submitted_run(options: argparse.Namespace) -> Entry:
    from rb_smooth.leaderboard.submission import submit
    from rb_smooth.training.run_folder.run import Run

    run = Run(options.what)
    if run.score is None and run.is_trained:
        from rb_smooth.training.pipeline import RunOptions, evaluate_run

        evaluate_run(run, RunOptions(data_dir=options.data_dir, device=options.device, workers=options.workers))
    return submit(run, options.leaderboard, options.replace)


def _submitted_checkpoint(options: argparse.Namespace) -> Entry:
    from rb_smooth.leaderboard.external import submit_checkpoint

    metadata = {key: getattr(options, key) for key in ("link", "authors", "venue") if getattr(options, key) is not None}
    metadata |= {"additional_data": options.additional_data} | ({"name": options.title} if options.title else {})
    return submit_checkpoint(
        replace(_external_model(options, options.arch), name=options.name, told=metadata),
        options.leaderboard,
        replace=options.replace,
        **_resources(options),
    )


def _audit(options: argparse.Namespace) -> int:
    from rb_smooth.leaderboard.auditing import audit_checkpoint, needs_child, run_in_child

    if needs_child(options.model):
        return run_in_child(options.model, sys.argv[1:])
    folder = options.report or Path("audits") / options.what.stem
    result = audit_checkpoint(
        _external_model(options, options.model or options.arch),
        options.claimed,
        folder,
        limit=options.n_examples,
        **_resources(options),
    )
    console.print(f"{result}\nreport: {folder / 'report.html'}")
    return DIFFERENT if result.refuted else 0


def _external_model(options: argparse.Namespace, network: str | None) -> ExternalModel:
    from rb_smooth.config.overrides import apply_overrides
    from rb_smooth.core.threat import Threat
    from rb_smooth.leaderboard.external import ExternalModel

    given = {"arch": network, "dataset": options.dataset, "threat": options.threat, "eps": options.eps}
    if missing := [name for name, value in given.items() if value is None]:
        raise UserError(
            f"expected --{missing[0]} with a checkpoint, got none; set --arch (resnet18, wideresnet, …: "
            "`recipe keys model`), --dataset, --threat and --eps"
        )
    if len(radii := parse_radii(options.eps)) > 1:
        raise UserError(f"expected one --eps with a checkpoint, got {options.eps}; correct it")
    eps = radii[0]
    defaults: dict[str, Any] = {"data": {"name": options.dataset}, "model": {"name": network}, "evaluate": {}}
    sections = apply_overrides(defaults, options.set)
    model = dict(sections["model"])
    step_size = eps / 4 if options.step_size is None else options.step_size
    return ExternalModel(
        checkpoint=options.what,
        architecture=model.pop("name"),
        options=model,
        data=sections["data"],
        threat=Threat(options.threat, eps, step_size),
        asked=requested_protocol(options, sections["evaluate"]),
        standardise=options.standardise,
        key=options.key,
    )


def _evaluate(options: argparse.Namespace) -> None:
    from rb_smooth.leaderboard.robustness_curve import CurveModel, draw_robustness_curve

    entries, _ = list_entries(options.leaderboard, options.dataset, options.threat, [options.what])
    if any(entry.name == options.what for entry in entries):
        curve_model = CurveModel.from_entry(_find_entry(options))
    else:
        board = options.dataset or "cifar10", options.threat or "Linf"
        curve_model = CurveModel.from_zoo(options.what, *board, options.zoo_dir, options.leaderboard)
    draw_robustness_curve(
        curve_model,
        parse_radii(options.eps or "8/255"),
        options.norms.split(",") if options.norms else [curve_model.threat],
        requested_protocol(options, {"version": "quick"}),
        **_resources(options),
    )


def _verify(options: argparse.Namespace) -> int:
    from rb_smooth.leaderboard.verification import verify

    entry = _find_entry(options)
    result = verify(entry, **_resources(options))
    for figure, (then, now) in result.figures.items():
        console.print(f"{figure:<12} {then:.4%} then, {now:.4%} now{'' if then == now else '  different'}")
    points = "unknown: the entry has no points.csv" if result.points is None else str(result.points)
    console.print(f"points with a different outcome: {points}")
    for condition in result.conditions:
        console.print(f"environment changed: {condition}")
    console.print(f"{entry.name}: {'same' if result.same else 'different'}")
    return 0 if result.same else DIFFERENT


def _reproduce(options: argparse.Namespace) -> int:
    from rb_smooth.leaderboard.verification import reproduce
    from rb_smooth.training.pipeline import RunOptions

    where = {"runs": options.runs, "data_dir": options.data_dir, "device": options.device, "workers": options.workers}
    return 0 if reproduce(_find_entry(options), RunOptions(**where)) else DIFFERENT


def _find_entry(options: argparse.Namespace) -> Entry:
    return find_entry(options.what, options.leaderboard, options.dataset, options.threat)


def _show(options: argparse.Namespace) -> None:
    from rb_smooth.leaderboard.reports.entry_report import render_report
    from rb_smooth.leaderboard.reports.lookup import find_models

    ((row, board),) = find_models([options.what], options.leaderboard, options.dataset, options.threat)
    if options.json:
        print(json.dumps(row.info, indent=2, ensure_ascii=False))
        return
    _print(render_report(row, board))


def _compare(options: argparse.Namespace) -> None:
    """Compare entries and published models with each other, or one with its neighbours."""
    from rb_smooth.leaderboard.reports.comparison import compare_entries, comparison_table
    from rb_smooth.leaderboard.reports.lookup import find_models

    models = find_models(options.what, options.leaderboard, options.dataset, options.threat)
    if options.json:
        print(json.dumps(compare_entries(models), indent=2, ensure_ascii=False))
        return
    _print(comparison_table(models))


def _table(options: argparse.Namespace) -> None:
    from rb_smooth.leaderboard.reports.latex import render_table
    from rb_smooth.leaderboard.reports.printed_tables import text_tables

    entries, _ = list_entries(options.leaderboard, options.dataset, options.threat)
    board = options.dataset, options.threat
    if options.form is None:
        _print(text_tables(entries, options.published, board))
    else:
        print(render_table(entries, options.form, options.published, board), end="")
    if not entries and options.form != "bibtex":
        print(f"no entries of {' '.join(board)} in {options.leaderboard}: published models only", file=sys.stderr)


def _bundle(options: argparse.Namespace) -> None:
    from rb_smooth.leaderboard.reports.bundle import write_bundle

    console.print(f"bundle: {write_bundle(_find_entry(options), options.out)}")


def _page(options: argparse.Namespace) -> None:
    from rb_smooth.leaderboard.page.render import write_page

    console.print(f"page: {write_page(options.leaderboard)}")


def _serve(options: argparse.Namespace) -> None:
    from rb_smooth.leaderboard.page.server import serve

    serve(options.leaderboard, options.port, not options.no_browser)


def _print(lines: list[Any]) -> None:
    for each in lines:
        console.print(each, soft_wrap=isinstance(each, str))  # tables fit the width


if __name__ == "__main__":
    sys.exit(run_cli(main)())
