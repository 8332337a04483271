"""The papers' methods on cifar10-small: one seed of each, a small grid for each, then five seeds at the chosen values.

    python benchmarks/cifar10_small.py                                    CIFAR-10's files, downloaded into data/
    python benchmarks/cifar10_small.py --root cifar10-jpeg --label cifar10-jpeg-small
    python benchmarks/cifar10_small.py --list                             what is there, and what is not run yet

Each finished run is at once a file benchmarks/cifar10-small/METHOD-SETTINGS-sSEED.json: settings, curve, validation
accuracy, and for the runs that are compared the score, with commit, machine and versions. Seconds are those of this
process for the whole run: on a shared machine its CPU seconds are fewer than those of the clock, and after a resumption
both miss what was done before. The command skips files that exist, so it continues where it was stopped. Weights stay
in the folder of runs.

Every method has as many settings, `GRIDS`, of one seed; the highest PGD-20 accuracy on validation images decides, in a
tie the earlier one in the list. No test image is used for it.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speed import machine_kind

import rb_smooth
from rb_smooth.core import files, robustbench
from rb_smooth.core.cli import run_cli
from rb_smooth.core.environment import git_commit
from rb_smooth.training.run_folder.log import best_row, read_log

HERE = Path(__file__).parent
RESULTS = HERE / "cifar10-small"
DATASET = "cifar10-small"
SEEDS = range(5)

Settings = dict[str, float]

GRIDS: dict[str, list[Settings]] = {
    "at": [
        {},
        {"optimizer.lr": 0.03},
        {"optimizer.lr": 0.3},
        {"optimizer.weight_decay": 0.002},
        {"optimizer.lr": 0.03, "optimizer.weight_decay": 0.002},
        {"optimizer.lr": 0.3, "optimizer.weight_decay": 0.002},
    ],
    "at+ensgd": [
        {},
        {"optimizer.lr": 0.3},
        {"optimizer.inner_steps": 10},
        {"optimizer.lr": 0.3, "optimizer.inner_steps": 10},
        {"optimizer.weight_decay": 0.002},
        {"optimizer.lr": 0.3, "optimizer.weight_decay": 0.002},
    ],
    "at+awp": [
        {},
        {"perturbation.gamma": 0.005},
        {"perturbation.gamma": 0.02},
        {"optimizer.weight_decay": 0.002},
        {"optimizer.lr": 0.03},
        {"perturbation.gamma": 0.02, "optimizer.weight_decay": 0.002},
    ],
    "at+awp+ensgd": [
        {},
        {"perturbation.gamma": 0.01},
        {"perturbation.gamma": 0.02},
        {"optimizer.lr": 0.3},
        {"perturbation.gamma": 0.01, "optimizer.lr": 0.3},
        {"optimizer.weight_decay": 0.002},
    ],
}
"""Settings of each of the four methods; the first are the recipe's own values."""

OTHERS = ("at+ensgdplain", "at+wa", "trades", "trades+awp", "at+ensgd-tuned")
"""Run at the recipes' values, after the four."""

CURVE = ("epoch", "lr", "loss", "train_robust", "train_pgd20", "val_clean", "val_robust", "seconds")


@dataclass(frozen=True)
class Job:
    """One run. evaluated: whether its score is measured too; a run of a grid needs none."""

    method: str
    settings: Settings = field(default_factory=dict)
    seed: int = 0
    evaluated: bool = True

    @property
    def name(self) -> str:
        values = [f"{key.rpartition('.')[2]}={value:g}" for key, value in self.settings.items()]
        return f"{self.method}-{'-'.join(values) or 'recipe'}-s{self.seed}"

    def file(self, results: Path) -> Path:
        return results / f"{self.name}.json"

    def is_finished(self, results: Path) -> bool:
        path = self.file(results)
        return path.exists() and not (self.evaluated and files.read_json(path)["score"] is None)


def plan(results: Path) -> Iterator[Job]:
    """All jobs in order, read while they run: the tuned values of a method are known once its grid is finished."""
    yield from (Job(method, evaluated=evaluated) for evaluated in (False, True) for method in GRIDS)
    for number in range(1, 6):
        yield from (Job(method, grid[number], evaluated=False) for method, grid in GRIDS.items())
    for seed in SEEDS:
        yield from (Job(method, chosen, seed) for method in GRIDS if (chosen := tuned(method, results)) is not None)
    for seed in SEEDS:
        yield from (Job(method, {}, seed) for method in (*GRIDS, *OTHERS))


def tuned(method: str, results: Path) -> Settings | None:
    """The settings of the highest validation accuracy; None until all of the grid are run."""
    grid = [Job(method, settings, evaluated=False) for settings in GRIDS[method]]
    if not all(job.is_finished(results) for job in grid):
        return None
    return max(grid, key=lambda job: files.read_json(job.file(results))["val_robust"]).settings


def run_job(job: Job, options: argparse.Namespace) -> None:
    changes: dict[str, Any] = dict(job.settings)
    if options.root is not None:
        changes |= {"data.name": "folder", "data.root": str(options.root), "data.label": options.label}
    places = {"data_dir": options.data_dir}
    started, cpu_started = time.perf_counter(), time.process_time()
    run = rb_smooth.train(f"{DATASET}/{job.method}", seed=job.seed, set=changes, runs=options.runs, **places)
    rows = read_log(run.path / "log.csv")
    score = None
    if job.evaluated:
        rb_smooth.evaluate(run, leaderboard=options.leaderboard, **places)
        score = {key: value for key, value in files.read_json(run.path / "score.json").items() if key != "checks"}
    best = best_row(rows)
    record = {
        "method": job.method,
        "settings": job.settings,
        "seed": job.seed,
        "images": "CIFAR-10" if options.root is None else f"folder {options.label}",
        "commit": git_commit(),
        "versions": {"python": platform.python_version(), **robustbench.package_versions()},
        "machine": machine_kind(),
        "best_epoch": best["epoch"],
        "val_robust": best["val_robust"],
        "last_val_robust": rows[-1]["val_robust"],
        "wall_seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "training": {"seconds": sum(row["seconds"] for row in rows)},
        "curve": {key: " ".join(_short(row[key]) for row in rows) for key in CURVE if key in rows[0]},
        "score": score,
    }
    files.write_json(job.file(options.results), record)


def _short(value: Any) -> str:
    """A number of a log, or - for none."""
    return "-" if value is None else f"{value:.4g}"


def main() -> int:
    options = parse_options()
    options.results.mkdir(parents=True, exist_ok=True)
    for job in plan(options.results):
        if options.list:
            print(f"{'there' if job.is_finished(options.results) else 'not run':8}{job.name}")
        elif not job.is_finished(options.results):
            print(f"running: {job.name}", flush=True)
            run_job(job, options)
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="list the runs and stop")
    parser.add_argument("--root", type=Path, help="a folder of CIFAR-10's images, train/CLASS/ and test/CLASS/")
    parser.add_argument("--label", default="cifar10-small", help="its board is folder-LABEL")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--leaderboard", type=Path, default=Path("leaderboard"))
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_cli(main)())
