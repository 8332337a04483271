"""Scaling of time and memory: straight lines fitted to the time of a step by images and attack steps, the time of an
evaluation by points, and memory by the images of a folder. Draws scaling.png.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from benchmark_runs import first_minibatch, on_digits, training_step_of
from interleaved_timing import time_interleaved

from rb_smooth.evaluation.accuracy import measure_accuracy

PICTURE = Path(__file__).with_suffix(".png")
_FOLDER_MEMORY = Path(__file__).with_name("folder_memory.py")
_IMAGE_SIZE = 64


class Line(NamedTuple):
    """y = slope x + intercept by least squares, and the share of y's variance that it explains."""

    slope: float
    intercept: float
    r2: float


class Series(NamedTuple):
    x: list[float]
    y: list[float]
    line: Line


def fit_line(x: Sequence[float], y: Sequence[float]) -> Series:
    slope, intercept = np.polyfit(x, y, 1)
    left = np.square(np.asarray(y) - slope * np.asarray(x) - intercept).sum()
    total = np.square(np.asarray(y) - np.mean(y)).sum()
    return Series(list(x), list(y), Line(float(slope), float(intercept), float(1 - left / total if total else 1.0)))


def measure(toy: bool) -> dict[str, Any]:
    panels = {
        "batch size": {"step": _relative_times(_step_of_batches((4, 8) if toy else (8, 16, 24, 32, 48, 64)), toy)},
        "attack steps": {"step": _relative_times(_step_of_attack_steps((1, 2) if toy else (1, 2, 5, 10, 15, 20)), toy)},
        "points": {
            "PGD-20": _relative_times(_evaluation_of_points((10, 20) if toy else (60, 120, 180, 240, 300, 360)), toy)
        },
        "images": _memory_of_folders((16, 32) if toy else (500, 1000, 2000, 4000)),
    }
    if not toy:
        _draw(panels, PICTURE)
    return {
        "figures": [],
        "network": "small_preactresnet, as digits at has it",
        "times": "relative to the first point of their panel",
        "images": f"{_IMAGE_SIZE} x {_IMAGE_SIZE} pixels, three channels",
        "panels": {
            name: {label: {"x": each.x, "y": each.y, **each.line._asdict()} for label, each in series.items()}
            for name, series in panels.items()
        },
    }


def _relative_times(functions: Mapping[int, Callable[[], object]], toy: bool) -> Series:
    """Median time of each, relative to the first."""
    named = {str(size): work for size, work in functions.items()}
    times = time_interleaved(named, seconds=0 if toy else 12, fewest=3)
    medians = [float(np.median(each)) for each in (times[name] for name in named)]
    return fit_line([float(size) for size in functions], [each / medians[0] for each in medians])


def _step_of_batches(sizes: Sequence[int]) -> dict[int, Callable[[], object]]:
    trainer = on_digits("at")
    x, y = first_minibatch(trainer)
    return {size: training_step_of(trainer, x[:size], y[:size]) for size in sizes}


def _step_of_attack_steps(counts: Sequence[int]) -> dict[int, Callable[[], object]]:
    found: dict[int, Callable[[], object]] = {}
    for count in counts:
        trainer = on_digits("at", f"objective.steps={count}")
        found[count] = training_step_of(trainer, *first_minibatch(trainer))
    return found


def _evaluation_of_points(counts: Sequence[int]) -> dict[int, Callable[[], object]]:
    trainer = on_digits("at")
    test, threat = trainer.data.test, trainer.objective.threat

    def evaluating(count: int) -> Callable[[], object]:
        return lambda: measure_accuracy(trainer.model, test[:count], threat, batch_size=60)

    return {count: evaluating(count) for count in counts}


def _memory_of_folders(counts: Sequence[int]) -> dict[str, Series]:
    """MiB that an epoch over a folder adds to a new process, streamed and in memory."""
    found: dict[str, list[float]] = {"streamed": [], "in memory": []}
    with TemporaryDirectory() as place:
        for count in counts:
            root = Path(place) / str(count)
            _write_images(root, count)
            for way, stream in (("streamed", "true"), ("in memory", "false")):
                shown = subprocess.run(
                    [sys.executable, _FOLDER_MEMORY, root, stream], check=True, capture_output=True, text=True
                )
                found[way].append(int(shown.stdout) / 2**20)
    return {way: fit_line([float(count) for count in counts], megabytes) for way, megabytes in found.items()}


def _write_images(root: Path, count: int) -> None:
    """Four classes, AutoAttack's minimum, under train and test. All files are links to one image."""
    from PIL import Image

    root.mkdir()
    one = root / "one.png"
    pixels = torch.randint(0, 256, (_IMAGE_SIZE, _IMAGE_SIZE, 3), dtype=torch.uint8).numpy()
    Image.fromarray(pixels).save(one)
    for part, images in (("train", count), ("test", 8)):
        for label in "abcd":
            folder = root / part / label
            folder.mkdir(parents=True)
            for number in range(images // 4):
                (folder / f"{number}.png").hardlink_to(one)


def _draw(panels: dict[str, dict[str, Series]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 7), constrained_layout=True)
    relative = "time, relative to the first point"
    titles = {
        "batch size": ("A training step (digits at)", "images in the minibatch", relative),
        "attack steps": ("A training step (digits at)", "steps of the attack", relative),
        "points": ("An evaluation under PGD-20 (digits)", "points", relative),
        "images": ("An epoch over a folder", f"images of {_IMAGE_SIZE} x {_IMAGE_SIZE} pixels", "memory added, MiB"),
    }
    for axis, (name, series) in zip(axes.flat, panels.items(), strict=True):
        title, across, up = titles[name]
        axis.set(title=title, xlabel=across, ylabel=up)
        for label, (x, y, line) in series.items():
            (points,) = axis.plot(x, y, "o", label=f"{label}: slope {line.slope:.2g}, R² {line.r2:.3f}")
            ends = np.array([0, max(x)])
            axis.plot(ends, line.slope * ends + line.intercept, "-", lw=1, color=points.get_color())
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(path, dpi=120)
