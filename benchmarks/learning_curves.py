"""Learning curves of the four methods of Kanai et al., as in their Figure 3: robust accuracy by epoch and by time.

    python benchmarks/learning_curves.py

`python benchmarks/reproducing.py --keep` copies the logs of the four methods' runs into benchmarks/curves/NAME.csv
(columns: method, seed, and the log's). Each such file is drawn to docs/figures/learning-curves-NAME.png: the mean over
seeds, and each seed as a thin line. The accuracy axis shows the range of the second half of training, of cifar10-small
all but the first tenth, since its best epochs come early, and says where it starts. Time is that of training and
validation of the median run, from the logs; parallel runs on one machine are slower.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

from result_tables import MAIN

from rb_smooth.analysis.plot_style import apply_style, new_figure, save_picture
from rb_smooth.core import files
from rb_smooth.core.colours import method_colours
from rb_smooth.leaderboard.metadata import method_title
from rb_smooth.training.run_folder.log import LogRow, read_log

HERE = Path(__file__).parent
STORED_CURVES, FIGURES = HERE / "curves", HERE.parent / "docs" / "figures"
COLUMNS = ("epoch", "lr", "loss", "train_robust", "val_clean", "val_robust", "test_clean", "test_robust", "seconds")
"""Columns of the log that are stored; empty where a log lacks one."""

Curves = dict[str, dict[int, list[LogRow]]]
"""Method -> seed -> rows of its log."""


SMALL = HERE / "cifar10-small"
"""Files of `cifar10_small`, one for each run; they hold the curves."""


def main() -> None:
    for path in sorted(STORED_CURVES.glob("*.csv")):
        print(f"drawn: {draw(read_curves(path), FIGURES / f'learning-curves-{path.stem}.png')}")
    if curves := curves_of([files.read_json(path) for path in sorted(SMALL.glob("*.json"))]):
        print(f"drawn: {draw(curves, FIGURES / 'learning-curves-cifar10-small.png', since=0.1)}")


def curves_of(runs: Sequence[dict[str, Any]]) -> Curves:
    """Curves of the four methods at the recipes' values, from files of `cifar10_small`."""
    curves: Curves = {method: {} for method in MAIN}
    for run in runs:
        if run["method"] in MAIN and not run["settings"]:
            columns = [[None if x == "-" else float(x) for x in text.split()] for text in run["curve"].values()]
            rows = [dict(zip(run["curve"], row, strict=True)) for row in zip(*columns, strict=True)]
            curves[run["method"]][run["seed"]] = rows
    return {method: seeds for method, seeds in curves.items() if seeds}


def logs_of(runs: Sequence[dict[str, Any]], folder: Path) -> Curves:
    """Logs of the four methods' runs that a sweep's file in `folder` names; methods without runs are left out."""
    logs = {
        method: {run["seed"]: folder / run["folder"] / "log.csv" for run in runs if run["method"] == method}
        for method in MAIN
    }
    return {method: {seed: read_log(log) for seed, log in seeds.items()} for method, seeds in logs.items() if seeds}


def write_curves(curves: Curves, path: Path) -> None:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["method", "seed", *COLUMNS])
    for method, seeds in curves.items():
        for seed, rows in sorted(seeds.items()):
            lines.writerows([method, seed, *(_short(row.get(column)) for column in COLUMNS)] for row in rows)
    files.write_text(path, text.getvalue())


def read_curves(path: Path) -> Curves:
    curves: Curves = {}
    for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))):
        method, seed = row.pop("method"), int(row.pop("seed"))
        numbers = {key: float(cell) for key, cell in row.items() if cell}
        curves.setdefault(method, {}).setdefault(seed, []).append(numbers)
    return curves


def draw(curves: Curves, path: Path, since: float = 0.5) -> Path:
    """Two panels: by epoch, and by the median time at which each epoch ended; since: as `_axis_limits`."""
    drawn = {method: list(seeds.values()) for method, seeds in curves.items()}
    tested = all("test_robust" in row for runs in drawn.values() for rows in runs for row in rows)
    column, images = ("test_robust", "test") if tested else ("val_robust", "validation")
    colours = method_colours(drawn)
    with apply_style():
        figure = new_figure(7.2, 3.8)
        by_epoch, by_time = figure.subplots(1, 2, sharey=True)
        for method, runs in drawn.items():
            seeds = [[100 * row[column] for row in rows] for rows in runs]
            means = [sum(values) / len(values) for values in zip(*seeds, strict=True)]
            ends = zip(*(accumulate(row["seconds"] for row in rows) for rows in runs), strict=True)
            epochs = [row["epoch"] + 1 for row in runs[0]]
            for panel, x in ((by_epoch, epochs), (by_time, list(map(median, ends)))):
                for values in seeds if len(seeds) > 1 else []:
                    panel.plot(x, values, color=colours[method], linewidth=0.5, alpha=0.35)
                panel.plot(
                    x, means, color=colours[method], linewidth=1.8, label=f"{method_title(method)} ({len(runs)})"
                )
                panel.grid(True)
        by_epoch.set_ylim(*_axis_limits(drawn.values(), column, since))
        low = by_epoch.get_ylim()[0]
        by_epoch.set(xlabel="epoch", ylabel=f"PGD accuracy on {images} images (%)\naxis from {low:.0f} %, not from 0")
        by_time.set(xlabel="seconds of training (median run)")
        thin = "; thin lines: each seed" if any(len(runs) > 1 for runs in drawn.values()) else ""
        title = f"{'mean of each ' if thin else ''}method (seeds){thin}"
        titles = by_epoch.get_legend_handles_labels()
        figure.legend(*titles, title=title, loc="upper center", ncols=len(drawn), frameon=False)
        figure.tight_layout(rect=(0, 0, 1, 0.86))
        return save_picture(figure, path)


def _axis_limits(methods: Iterable[Sequence[Sequence[LogRow]]], column: str, since: float) -> tuple[float, float]:
    """Limits in % that contain training from the share `since` of it on; the epochs before are below."""
    late = [100 * row[column] for runs in methods for rows in runs for row in rows[int(since * len(rows)) :]]
    margin = 0.25 * (max(late) - min(late)) + 0.5
    return min(late) - margin, max(late) + margin


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else value


if __name__ == "__main__":
    main()
