"""Grid search of a recipe's hyperparameters on validation images; no test image is used.

    python benchmarks/tuning.py digits at+ensgd --beside at \\
        --grid optimizer.inner_steps=10,20,30 optimizer.beta=0.25,0.75 --grid optimizer.lr=0.1 \\
        --write benchmarks/tuning.json

Each --grid is tried at every combination of its values, and the unchanged recipe too. The best epoch is chosen on the
same validation images, which are held out of the training images; so its accuracy is biased upwards, for all settings
alike, and the last epoch's is shown too. Finished runs are not trained again: the same command resumes.
benchmarks/reproducing.py writes the table.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from result_tables import detectable, signed, table_head, table_line, with_spread
from speed import machine_kind

import rb_smooth
from rb_smooth.config.overrides import resolve_config
from rb_smooth.core import files, robustbench
from rb_smooth.core.cli import run_cli
from rb_smooth.core.environment import cores_per_worker, git_commit
from rb_smooth.core.formatting import percent
from rb_smooth.core.statistics import apply_holm, paired_t_test
from rb_smooth.core.worker_pool import map_unordered
from rb_smooth.training.run_folder.log import best_row, read_log

BEST, LAST = "best", "last"


@dataclass(frozen=True)
class Trial:
    """One row: a method, a point of a grid, and the settings that all rows share."""

    method: str
    point: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    @property
    def settings(self) -> tuple[str, ...]:
        """The --set arguments."""
        return (*self.shared, *self.point)

    @property
    def title(self) -> str:
        return " ".join([f"`{self.method}`", *(setting.split(".", 1)[1] for setting in self.point)])


def main() -> int:
    options = _parse()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    trials = list(trials_of(options))
    tasks = [(trial, seed) for seed, trial in product(seeds, trials)]
    make = partial(trainer, options.dataset, options.epochs, options.runs, options.workers)
    found = {}
    for (trial, seed), of in map_unordered(make, tasks, options.workers):
        found[trial, seed] = of
        print(f"{trial.title}, seed {seed}: {of}", flush=True)
    rows = [
        {
            "method": trial.method,
            "settings": list(trial.point),
            "title": trial.title,
            "by_seed": {str(seed): found[trial, seed] for seed in seeds},
        }
        for trial in trials
    ]
    if options.write:
        files.write_json(options.write, _caption(options, seeds) | {"rows": rows})
    print("\n".join(table({"rows": rows})))
    return 0


def trials_of(options: argparse.Namespace) -> Iterator[Trial]:
    """The recipe, the methods of --beside, and the points of the grids; each recipe once."""
    shared = tuple(options.set)
    trials = [Trial(method, shared=shared) for method in (options.method, *options.beside)]
    for grid in options.grid:
        axes = [
            [f"{key}={value}" for value in values.split(",")] for key, _, values in (a.partition("=") for a in grid)
        ]
        trials += [Trial(options.method, point, shared) for point in product(*axes)]
    seen: list[Any] = []
    for trial in trials:
        meant = resolve_config(options.dataset, trial.method, trial.settings)
        if meant not in seen:
            seen.append(meant)
            yield trial


def trainer(
    dataset: str, epochs: int | None, runs: Path, workers: int
) -> Callable[[tuple[Trial, int]], dict[str, float]]:
    """The task of each of `workers` processes, one (trial, seed) after the other, on its share of the cores."""
    torch.set_num_threads(min(torch.get_num_threads(), cores_per_worker(workers)))
    return lambda task: outcome(dataset, *task, epochs, runs)


def outcome(dataset: str, trial: Trial, seed: int, epochs: int | None, runs: Path) -> dict[str, float]:
    """Robust validation accuracy, in [0, 1], of the best and the last epoch of one run."""
    changes = dict(setting.split("=", 1) for setting in trial.settings)
    recipe = f"{dataset}/{trial.method}"
    run = rb_smooth.train(recipe, seed=seed, epochs=epochs, set=changes, runs=runs, verbose=False)
    rows = read_log(run.path / "log.csv")
    return {BEST: best_row(rows)["val_robust"], LAST: rows[-1]["val_robust"]}


def table(record: dict[str, Any]) -> Iterator[str]:
    """Percent, mean ± standard deviation over n seeds; each row's difference from the first, paired by seed, and the
    detectable difference.
    """
    first, *others = record["rows"]
    differences = apply_holm([paired_t_test(_of(row, BEST), _of(first, BEST)) for row in others])
    compared = ("best, minus the first row", "95 % interval", "p (Holm)", "detectable")
    yield from table_head("method", "n", "best epoch", "last epoch", *compared)
    for row, difference in zip(record["rows"], [None, *differences], strict=True):
        cells = [row["title"], str(len(row["by_seed"])), *(_figure(_of(row, key)) for key in (BEST, LAST))]
        yield table_line(*cells, *_difference_text(difference))


def _of(row: dict[str, Any], key: str) -> dict[int, float]:
    return {int(seed): found[key] for seed, found in row["by_seed"].items()}


def _figure(by_seed: dict[int, float]) -> str:
    values = list(by_seed.values())
    return with_spread(percent(fmean(values)), stdev(values) if len(values) > 1 else None)


def _difference_text(difference: dict[str, Any] | None) -> tuple[str, str, str, str]:
    if difference is None:
        return "", "", "", ""
    mean = signed(difference["mean"])
    if difference["p"] is None:
        return mean, "", "", ""
    interval = f"{signed(difference['low'])} to {signed(difference['high'])}"
    return mean, interval, f"{difference['p_holm']:.2g}", f"{100 * detectable(difference):.1f}"


def _caption(options: argparse.Namespace, seeds: list[int]) -> dict[str, Any]:
    sections = resolve_config(options.dataset, options.method, options.set, options.epochs)[2]
    return {
        "command": f"python benchmarks/tuning.py {shlex.join(sys.argv[1:])}",
        "commit": git_commit(),
        "versions": {"python": platform.python_version(), **robustbench.package_versions()},
        "machine": machine_kind(),
        "dataset": options.dataset,
        "method": options.method,
        "seeds": seeds,
        "settings": options.set,
        "epochs": sections["train"]["epochs"],
        "validation": sections["data"]["validation"],
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("method")
    parser.add_argument("--grid", nargs="+", action="append", default=[], metavar="SECTION.KEY=A,B,…")
    parser.add_argument("--beside", nargs="+", default=[], metavar="METHOD", help="methods to train unchanged")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="for all rows")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--workers", type=int, default=1, help="parallel runs")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--write", type=Path, metavar="FILE.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_cli(main)())
