"""The tables of docs/reproducing.md on cifar10-small, from the files that `cifar10_small` wrote: one for each run.

The claims of the papers are tested over common seeds, and answered with yes, no, or how many seeds it would need.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from cifar10_small import GRIDS, Job, plan, tuned
from paper_tables import Record
from result_tables import (
    CLAIMS,
    POWER,
    group_lines,
    seeds_needed,
    signed,
    table_head,
    table_line,
    with_spread,
)

from rb_smooth.core import files
from rb_smooth.core.formatting import counted, percent
from rb_smooth.core.statistics import apply_holm, paired_t_test
from rb_smooth.training.sweep.comparison import SIGNIFICANT, RunResult, compare_methods

RECIPE, TUNED = "The recipes' values", "The values chosen on validation images"


def read_runs(results: Path) -> list[Record]:
    """The files of all finished runs, by name."""
    return [files.read_json(path) for path in sorted(results.glob("*.json"))]


def small_lines(results: Path) -> Iterator[str]:
    """Provenance, what is not run, and the tables at the recipes' and at the chosen values."""
    runs = read_runs(results)
    if not runs:
        yield from ("Not run yet.", "")
        return
    yield from (f"{_provenance(runs)} {_missing_text(results)}", "")
    yield from ("![Robust accuracy by epoch and by seconds of training](figures/learning-curves-cifar10-small.png)", "")
    yield from _time_lines([run for run in runs if run["score"] and "cpu_seconds" in run])
    in_recipe_order = sorted((run for run in runs if run["score"]), key=_order)
    yield from _compared_lines(RECIPE, [run for run in in_recipe_order if not run["settings"]])
    yield from _grid_lines(results)
    chosen = {method: tuned(method, results) for method in GRIDS}
    if all(settings is not None for settings in chosen.values()) and any(chosen.values()):
        yield from _compared_lines(TUNED, [run for run in in_recipe_order if run["settings"] == chosen[run["method"]]])


def _order(run: Record) -> tuple[Any, ...]:
    methods = list(dict.fromkeys(job.method for job in plan(Path("none"))))
    return (methods.index(run["method"]), run["seed"])


def _provenance(runs: Sequence[Record]) -> str:
    commits = ", ".join(sorted({run["commit"][:7] for run in runs}))
    machines = ", ".join(
        sorted({f"{run['machine']['cpu']}, {counted(run['machine']['cores'], 'core')}" for run in runs})
    )
    images = ", ".join(sorted({run["images"] for run in runs}))
    return f"`python benchmarks/cifar10_small.py`, commit {commits} ({machines} for each run; images: {images})."


def _time_lines(runs: Sequence[Record]) -> Iterator[str]:
    if runs:
        cpu, wall = (median(run[key] for run in runs) for key in ("cpu_seconds", "wall_seconds"))
        yield (
            f"A run with AutoAttack took {cpu:.0f} CPU seconds on one core, and {wall:.0f} by the clock of the shared "
            f"machine (median of {len(runs)})."
        )
        yield ""


def _missing_text(results: Path) -> str:
    missing = list(dict.fromkeys(job.name for job in plan(results) if not job.is_finished(results)))
    shown = ", ".join(f"`{name}`" for name in missing[:6])
    more = f" and {len(missing) - 6} more" if len(missing) > 6 else ""
    return f"Not run yet: {shown}{more}." if missing else "All are run."


def _compared_lines(title: str, runs: Sequence[Record]) -> Iterator[str]:
    if not runs:
        return
    yield from (f"**{title}.**", "")
    found = [RunResult(run["method"], run["seed"], run["score"]) for run in runs]
    for group in compare_methods(found):
        yield from group_lines(group, runs)
        yield from _claim_answers(group)
        yield from _overfitting_lines(group, runs)


def _claim_answers(group: Record) -> Iterator[str]:
    """One line for each claim of the papers whose two methods are run."""
    tested = {(each["method"], each["minus"]): each for each in group["differences"]}
    claimed = [tested[pair] for pair in CLAIMS if pair in tested]
    for each in apply_holm([{key: each[key] for key in each if key != "p_holm"} for each in claimed]):
        yield f"- Is `{each['method']}` more robust than `{each['minus']}` under AutoAttack? {answer(each)}"
    if claimed:
        yield ""


def answer(difference: Record) -> str:
    """Yes, No, or that it cannot be told and how many seeds would tell it, from a paired test with `p_holm`."""
    n = len(difference["seeds"])
    if difference["p"] is None:
        return f"Cannot be told from {n} seed{'s' if n != 1 else ''} ({signed(difference['mean'])} points)."
    if difference["p_holm"] < SIGNIFICANT:
        verdict = "Yes" if difference["mean"] > 0 else "No, it is less robust"
        return f"{verdict} ({signed(difference['mean'])} points, p {difference['p_holm']:.2g})."
    needed = seeds_needed(difference)
    seeds = "more than 1,000" if needed is None else f"about {needed}"
    return (
        f"Cannot be told from {n} seeds ({signed(difference['mean'])} points); would need {seeds} seeds, if mean and "
        f"spread stay, for {100 * POWER:.0f} % power."
    )


def _overfitting_lines(group: Record, runs: Sequence[Record]) -> Iterator[str]:
    """PGD-20 accuracy of the chosen minus that of the last epoch, and how much smaller that is than `at`'s."""
    rows = {row["method"]: row for row in group["methods"]}
    tests = {method: _less_than_at(rows, method) for method in rows if method != "at" and "at" in rows}
    tested = dict(zip(tests, apply_holm(list(tests.values())), strict=True))
    yield (
        "Robust overfitting: PGD-20 accuracy of the chosen minus that of the last epoch on test images, and how much "
        "less it is than `at`'s (paired by seed, t-test, p corrected for this table); PGD-20 accuracy on 128 training "
        "images after the last epoch:"
    )
    yield ""
    yield from table_head("method", "n", "best − last", "less than `at`'s by", "95 % interval", "p (Holm)", "training")
    for method, row in rows.items():
        gaps = with_spread(signed(row["gap"]["mean"]), row["gap"]["std"])
        test = tested.get(method)
        cells = ["", "", ""] if test is None else [signed(test["mean"]), "", ""]
        if test is not None and test["p"] is not None:
            cells = [cells[0], f"{signed(test['low'])} to {signed(test['high'])}", f"{test['p_holm']:.2g}"]
        train = [_trained(run) for run in runs if run["method"] == method]
        shown = with_spread(percent(fmean(train)), stdev(train) if len(train) > 1 else None)
        yield table_line(f"`{method}`", str(len(row["seeds"])), gaps, *cells, shown)
    yield ""


def _trained(run: Record) -> float:
    """PGD-20 accuracy on training images after the last epoch."""
    return float(run["curve"]["train_pgd20"].split()[-1])


def _less_than_at(rows: Record, method: str) -> Record:
    here, there = ({int(seed): gap for seed, gap in rows[each]["gap"]["by_seed"].items()} for each in (method, "at"))
    return paired_t_test(there, here)


def _grid_lines(results: Path) -> Iterator[str]:
    """Validation accuracy of every setting that was tried; the chosen one in bold."""
    yield from (
        "**Settings tried**, seed 0: PGD-20 accuracy on 200 validation images, %; bold: the chosen one; training: on "
        "128 training images after the last epoch.",
        "",
    )
    yield from table_head("method", "settings", "best epoch", "last epoch", "training")
    for method, grid in GRIDS.items():
        chosen = tuned(method, results)
        for settings in grid:
            job = Job(method, settings, evaluated=False)
            title = ", ".join(f"{key}={value:g}" for key, value in settings.items()) or "the recipe's"
            cells = ["not run"] * 3
            if job.is_finished(results):
                run = files.read_json(job.file(results))
                cells = [percent(share) for share in (run["val_robust"], run["last_val_robust"], _trained(run))]
            yield table_line(f"`{method}`", f"**{title}**" if settings == chosen else title, *cells)
    yield ""
