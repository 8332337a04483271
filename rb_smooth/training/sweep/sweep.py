"""Run several methods and seeds as processes, and compare them in one table."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rb_smooth.config.overrides import ResolvedRecipe
from rb_smooth.config.sections import short_hash
from rb_smooth.core import environment, files, robustbench
from rb_smooth.core.console import console, log_info
from rb_smooth.core.environment import git_commit
from rb_smooth.core.errors import Failed, UserError
from rb_smooth.training.run_folder.run import Run, run_path
from rb_smooth.training.sweep.comparison import RunResult, compare_methods
from rb_smooth.training.sweep.job_process import Job
from rb_smooth.training.sweep.job_queue import Failure, run_jobs
from rb_smooth.training.sweep.tables import render_tables

_SWEEP_OPTIONS = {"what", "seed", "seeds", "gpus", "workers", "device", "plan", "json"}
"""Options that the processes of a sweep do not receive, or receive in another form."""

_KEYS_WITHOUT_SHAPE = {
    *("batch_size", "augment", "standardise", "extra", "validation", "split_seed", "train_examples"),
    *("stream", "workers"),
}
"""Keys of `data` that do not change the shape of images; other keys are options of the data set."""


@dataclass(frozen=True, eq=False)
class SweepRun:
    """A run of the sweep. what: its positional arguments; options: of the whole command.

    is_entered: whether a run is on a leaderboard.
    """

    what: tuple[str, ...]
    recipe: ResolvedRecipe
    options: argparse.Namespace
    is_entered: Callable[[Run, Path], bool]

    @property
    def seed(self) -> Any:
        return self.recipe.sections["train"]["seed"]

    @cached_property
    def run(self) -> Run:
        return run_path(self.options.runs, self.recipe)

    @property
    def job(self) -> Job:
        command = (sys.executable, "-m", "rb_smooth.recipe", *self.what, f"--seed={self.seed}")
        name, command = f"{self.recipe.method}, seed {self.seed}", (*command, *_forwarded_options(self.options))
        return Job(name, self.run, command, self.is_done, self.network_key)

    @property
    def network_key(self) -> str:
        """Equal for runs with the same layers and image shape."""
        data = {key: value for key, value in self.recipe.sections["data"].items() if key not in _KEYS_WITHOUT_SHAPE}
        return short_hash([data, self.recipe.sections["model"]])

    def is_done(self) -> bool:
        """Whether the run is complete. Imports no torch. False for a damaged run, whose process reports the damage."""
        if self.options.fresh:
            return False
        try:
            finished = self.run.is_finished(self.recipe.sections)
            return finished and (self.options.no_submit or self.is_entered(self.run, self.options.leaderboard))
        except UserError:
            return False

    def result(self) -> RunResult | None:
        """The run's evaluation, if it is finished."""
        try:
            score = self.run.score if self.run.is_finished(self.recipe.sections) else None
        except UserError:
            return None
        return None if score is None else RunResult(self.recipe.method, self.seed, score)


def run_sweep(sweep_runs: Sequence[SweepRun], options: argparse.Namespace) -> Path | None:
    """Carry out the unfinished runs and print the comparison. Imports no torch if all runs are finished.

    Returns the path of the results as JSON; None if there are none. Raises Failed if runs failed, UserError if the user
    can fix all of them; the other runs complete first.
    """
    _check_distinct(sweep_runs)
    ahead = [sweep_run for sweep_run in sweep_runs if options.plan or not sweep_run.is_done()]
    failures: list[Failure] = []
    if ahead:
        _check(ahead)
        devices = choose_devices(options.gpus, options.workers, options.device)[: len(ahead)]
        if options.plan:
            _plan(sweep_runs, devices)
            return None
        log_info(f"{len(ahead)} of {len(sweep_runs)} runs to do, {len(devices)} at a time; --plan estimates them")
        threads = environment.cores_per_worker(len(devices)) if len(devices) > 1 else None  # None: torch's default
        failures = run_jobs([sweep_run.job for sweep_run in ahead], devices, threads)
    record = _report(sweep_runs, failures, options, starts_over=bool(ahead))
    if failures:
        first, more = failures[0], f"; {len(failures) - 1} more above" if len(failures) > 1 else ""
        line = (
            f"{len(failures)} of {len(sweep_runs)} runs failed ({first.job.name}: {first.line}{more}); fix what their "
            "output.txt report; the same command goes on from there"
        )
        raise UserError(line) if all(failure.is_user_error for failure in failures) else Failed(line)
    return record


def choose_devices(gpus: Sequence[int] | None, workers: int | None, device: str) -> list[str]:
    """The device of each worker: `gpus`, or `workers` spread over `device` or all GPUs, or one per GPU, or the CPU."""
    import torch

    count = torch.cuda.device_count()
    if gpus is not None:
        if workers is not None or device != "auto":
            other = "--device" if workers is None else "--workers"
            raise UserError(f"expected --gpus or {other}, got both; drop one")
        if absent := [gpu for gpu in gpus if gpu >= count]:
            has = f"{count} GPUs, from 0" if count else "no GPU: use --workers"
            raise UserError(f"expected GPUs that this machine has, got {absent[0]}; it has {has}")
        return [f"cuda:{gpu}" for gpu in gpus]
    if device != "auto":
        from rb_smooth.training.validate import resolve_device

        resolve_device(device)
    devices = [device] if device != "auto" else [f"cuda:{gpu}" for gpu in range(count)] or ["cpu"]
    if workers is None:
        return devices
    if workers < 1:
        raise UserError(f"expected --workers of at least 1, got {workers}; correct it")
    return [devices[worker % len(devices)] for worker in range(workers)]


def _check_distinct(sweep_runs: Sequence[SweepRun]) -> None:
    if environment.WORLD_SIZE > 1:
        raise UserError(
            "expected one process for several runs, got several from torchrun; start without torchrun, or with one run"
        )
    datasets = sorted({sweep_run.recipe.dataset for sweep_run in sweep_runs})
    if len(datasets) > 1:
        raise UserError(f"expected runs on one data set, got {' and '.join(datasets)}; use one command for each")
    seen: set[tuple[str, Any]] = set()
    for sweep_run in sweep_runs:
        if (sweep_run.recipe.method, sweep_run.seed) in seen:
            raise UserError(f"expected each method once, got {sweep_run.recipe.method} twice; drop one, or rename it")
        seen.add((sweep_run.recipe.method, sweep_run.seed))


def _check(sweep_runs: Sequence[SweepRun]) -> None:
    """Check all recipes before any process starts. Raises UserError."""
    from rb_smooth.training import validate

    robustbench.import_robustbench()
    for sweep_run in sweep_runs:
        new = sweep_run.options.fresh or sweep_run.options.plan
        validate.check_recipe(*sweep_run.recipe, "new" if new else sweep_run.run.progress)


def _plan(sweep_runs: Sequence[SweepRun], devices: Sequence[str]) -> None:
    """Print the estimated cost of one run of each method, and the number of runs."""
    from rb_smooth.training.pipeline import RunOptions, run_recipe

    first = {sweep_run.recipe.method: sweep_run for sweep_run in reversed(sweep_runs)}
    workers = 1 if len(devices) > 1 else None  # the command's own workers are runs, not attack processes
    for sweep_run in reversed(first.values()):
        folders = {"runs": sweep_run.options.runs, "data_dir": sweep_run.options.data_dir}
        run_recipe(
            sweep_run.recipe,
            RunOptions(**folders, device=devices[0], workers=workers, until="plan"),
        )
    seeds = len({sweep_run.seed for sweep_run in sweep_runs})
    console.print(f"{len(sweep_runs)} runs, {seeds} of each method, {len(devices)} at a time on {', '.join(devices)}")


def _report(
    sweep_runs: Sequence[SweepRun], failures: Sequence[Failure], options: argparse.Namespace, starts_over: bool
) -> Path | None:
    """Print the comparison and write it to sweep-….json beside the runs, unless no run was started."""
    old = {failure.job.run.path for failure in failures if options.fresh}  # their files are of an earlier command
    measured = [(sweep_run, sweep_run.result()) for sweep_run in sweep_runs if sweep_run.run.path not in old]
    results = {sweep_run: result for sweep_run, result in measured if result is not None}
    if not results:
        return None
    order = list(dict.fromkeys(sweep_run.recipe.method for sweep_run in sweep_runs))  # of the command line
    compared = compare_methods(sorted(results.values(), key=lambda result: order.index(result.method)))
    board = next(iter(results.values())).score.get("board", sweep_runs[0].recipe.dataset)
    for table in render_tables(board, compared):
        console.print(table)
    names = [[sweep_run.run.path.name, sweep_run.recipe.sections["evaluate"]] for sweep_run in sweep_runs]
    path = options.runs / sweep_runs[0].recipe.dataset / f"sweep-{short_hash(names)}.json"
    if starts_over or not path.exists():
        files.write_json(path, _record(results, compared, failures))
    if not options.no_submit:
        folder = shlex.quote(str(options.leaderboard))
        console.print(f"board: python -m rb_smooth.leaderboard page --leaderboard {folder}")
    first = {each.recipe.method: each.run.path for each in reversed(results)}  # of each method, its first run
    console.print(f"curves: python -m rb_smooth.runs compare {shlex.join(map(str, reversed(first.values())))}")
    console.print(f"all results: {path}")
    return path


def _record(
    results: dict[SweepRun, RunResult], compared: list[dict[str, Any]], failures: Sequence[Failure]
) -> dict[str, Any]:
    """The sweep's JSON: provenance, comparison, and metrics of each run with the commit that evaluated it.

    The outermost commit is that of this comparison.
    """
    first = next(iter(results))
    return {
        "command": f"python -m rb_smooth.recipe {shlex.join(sys.argv[1:])}",
        "commit": git_commit(),
        "versions": robustbench.package_versions(),
        "dataset": first.recipe.dataset,
        "settings": first.options.set,
        "groups": compared,
        "runs": [
            {
                "method": sweep_run.recipe.method,
                "seed": sweep_run.seed,
                "folder": sweep_run.run.path.name,
                "identity": sweep_run.run.identity,
                **result.metrics,
                **{key: result.score[key] for key in ("n", "training", "backend", "versions", "commit")},
            }
            for sweep_run, result in results.items()
        ],
        "failed": {failure.job.name: failure.line for failure in failures},
    }


def _forwarded_options(options: argparse.Namespace) -> Iterator[str]:
    """The command's options, as arguments of one of its processes."""
    for key, value in vars(options).items():
        flag = f"--{key.replace('_', '-')}"
        if key in _SWEEP_OPTIONS or value is None or value is False:
            continue
        if value is True:
            yield flag
        else:
            yield from (f"{flag}={each}" for each in (value if isinstance(value, list) else [value]))
