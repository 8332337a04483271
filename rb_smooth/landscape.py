"""python -m rb_smooth.landscape: plot the adversarial loss around trained weights along random directions.

    python -m rb_smooth.landscape at-s0                            first, best and last epoch, train and test
    python -m rb_smooth.landscape at-s0 at-s1 at+awp-s0 at+awp-s1  methods on one axis, seeds as bands
    python -m rb_smooth.landscape at-s0 --directions 5             mean and spread over five directions
    python -m rb_smooth.landscape at-s0 --2d --points 21           over two directions
    python -m rb_smooth.landscape plot runs/digits/at-s0/landscapes/*-1d-*.npz --out again.png

Directions are filter-normalised (Li et al., arXiv 1712.09913). The adversarial examples are recomputed at every point;
BatchNorm's running statistics are fixed. Results are stored in the run's folder: repeat an interrupted command to
resume it; a finished landscape is only drawn. Exit codes: 0 success; 2 invalid input; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from rich.table import Table

from rb_smooth.analysis.landscape.grid import LandscapeSummary, LossLandscape, read_landscape, summarise_landscapes
from rb_smooth.analysis.landscape.plot import check_drawable, draw_landscapes
from rb_smooth.core import environment
from rb_smooth.core.cli import make_parser, run_cli
from rb_smooth.core.console import console
from rb_smooth.core.errors import UserError
from rb_smooth.core.numbers import real_number, seed_number, whole_number, worker_number

if TYPE_CHECKING:
    from rb_smooth.analysis.landscape.compute import Slice


def main() -> int:
    options = _parse()
    landscapes = _stored_landscapes(options) if options.what[0] == "plot" else _compute(options)
    draw_landscapes(landscapes, options.out)
    console.print(_table(summarise_landscapes(landscapes)), soft_wrap=False)
    console.print(f"picture: {options.out}")
    return 0


def _parse() -> argparse.Namespace:
    parser = make_parser("landscape", __doc__)
    add = parser.add_argument
    add("what", nargs="+", metavar="RUN", help="runs (folder or name) or leaderboard entries; or: plot FILE.npz …")
    add("--two-dimensional", "--2d", action="store_true", help="over two directions (default weights: best)")
    add(
        "--points",
        type=whole_number(3, 1001),
        help="grid points on each axis, an odd number (default: 51; with --2d 21)",
    )
    add(
        "--range",
        type=real_number(1e-9, 1000),
        default=1.0,
        dest="radius",
        help="end of each axis, in filter norms (default: 1)",
    )
    add("--weights", metavar="first,best,last", type=_split, help="checkpoints (default: all that each run has)")
    add("--n", type=whole_number(1), default=1000, help="number of training images and of test images (default: 1000)")
    add(
        "--steps",
        type=whole_number(1, 10_000),
        default=10,
        help="PGD steps, with the step size of the run's evaluation (default: 10)",
    )
    add(
        "--directions",
        type=whole_number(1, 1000),
        default=1,
        help="number of random directions to average over (default: 1)",
    )
    add("--seed", type=seed_number, default=0, help="seed of the directions and of PGD's random starts (default: 0)")
    add("--workers", type=worker_number, help="worker processes (default: one per core; on a GPU 1)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    add("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    add("--leaderboard", type=Path, default=Path("leaderboard"), help="folder of the entries (default: leaderboard)")
    add("--data-dir", type=Path, default=Path("data"), help="torchvision's data folder (default: data)")
    add("--out", type=Path, help="picture, .png or .svg (default: landscape.png in --runs)")
    options = parser.parse_args()
    options.out = options.out or options.runs / "landscape.png"
    if options.points is None:
        options.points = 21 if options.two_dimensional else 51
    if options.weights is None and options.two_dimensional:
        options.weights = ["best"]
    return options


def _split(text: str) -> list[str]:
    return text.split(",")


def _stored_landscapes(options: argparse.Namespace) -> list[LossLandscape]:
    if not options.what[1:]:
        raise UserError("expected files to draw, got none; use plot runs/digits/at-s0/landscapes/*.npz")
    landscapes = []
    for path in options.what[1:]:
        landscapes.append(landscape := read_landscape(Path(path)))
        if landscape.missing_points:
            raise UserError(
                f"expected a finished landscape in {path}, got {landscape.done.sum()} of {landscape.done.size} points; "
                "repeat the command that computed it"
            )
    check_drawable([landscape.meta for landscape in landscapes], options.out)
    return landscapes


def _compute(options: argparse.Namespace) -> list[LossLandscape]:
    from rb_smooth.analysis.landscape.compute import LandscapeSettings, compute_landscapes, make_slices
    from rb_smooth.analysis.trained_model import find_trained_model
    from rb_smooth.training.validate import resolve_device

    settings = LandscapeSettings(**{field.name: getattr(options, field.name) for field in fields(LandscapeSettings)})
    device = resolve_device(options.device)
    where = {"runs": options.runs, "leaderboard": options.leaderboard, "data_dir": options.data_dir}
    slices: dict[Path, Slice] = {}  # by file, so that a run named twice counts once
    for name in options.what:
        slices |= {
            each.path: each for each in make_slices(find_trained_model(name, **where), settings, options.leaderboard)
        }
    check_drawable([each.meta for each in slices.values()], options.out)
    workers = options.workers or (environment.usable_cores() if device.type == "cpu" else 1)
    return compute_landscapes(list(slices.values()), device, workers)


def _table(summaries: Sequence[LandscapeSummary]) -> Table:
    """Loss and robust accuracy at the checkpoints, and their gaps between training and test images."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("", "weights"):
        table.add_column(heading, overflow="fold")
    columns = ("train_loss", "test_loss", "loss_gap", "train_robust", "test_robust", "robust_gap")
    for heading in ("train\nloss", "test\nloss", "\ngap", "train\nrobust", "test\nrobust", "\ngap"):
        table.add_column(heading, justify="right", no_wrap=True)
    for summary in summaries:
        cells = [_mean_and_std(summary.at_centre(name), percent="robust" in name) for name in columns]
        table.add_row(summary.title, summary.weights, *cells)
    return table


def _mean_and_std(values: Sequence[float], percent: bool) -> str:
    scale, digits = (100, 1) if percent else (1, 3)
    mean = f"{scale * fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {scale * stdev(values):.{digits}f}"


if __name__ == "__main__":
    sys.exit(run_cli(main)())
