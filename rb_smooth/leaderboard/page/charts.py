"""Charts of the page in general, and an entry's training curves; scatter.py: clean against robust accuracy.

The numbers are computed here, charts.svg.j2 draws them, and page.css has the colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rb_smooth.core.formatting import counted, percent
from rb_smooth.training.run_folder.log import LogRow, best_row

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 560, 40, 10, 40, 56
"""Of a chart and its margins, in units of the viewBox."""

_MIN_SPAN = 0.06
"""Least range of an axis of accuracies, a share: noise alone should not look like a difference."""

_MAX_EPOCHS = 240
"""Points of a curve: more are not visible, and make the page larger."""

_MAX_DOTTED = 12
"""Epochs up to which each one has a dot."""

ARROWS = ("left", "right", "down", "up")
"""Shapes of points outside the axes."""

CURVES = (
    ("val_clean", "clean, validation"),
    ("train_robust", "robust, training minibatches"),
    ("test_robust", "robust, test"),
    ("val_robust", "robust, validation"),
)
"""(column of the log and CSS class, label); the last is drawn on top."""


@dataclass(frozen=True)
class Axis:
    """Linear map of [low, high] to the coordinates [start, end]. ticks: (value, label)."""

    low: float
    high: float
    start: float
    end: float
    ticks: list[tuple[float, str]]
    is_accuracy: bool = False

    def at(self, value: float) -> float:
        """The coordinate of `value`, at the edge for values outside."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


class Point(NamedTuple):
    """A marker. shape: diamond, dot, small, or an arrow. css: classes. key: of the linked panel, or ""."""

    x: float
    y: float
    shape: str
    css: str
    key: str = ""
    title: str = ""


@dataclass(frozen=True)
class Chart:
    """Content of a chart. title: its text for screen readers. intervals: (model's key, CSS class, x, low, high):
    vertical lines. curves: (CSS class, label, path data). labels: (x, y, text-anchor, text, path data
    of a line to its point or "").
    """

    title: str
    x: Axis
    y: Axis
    x_title: str
    y_title: str
    points: list[Point]
    intervals: list[tuple[str, str, float, float, float]] = field(default_factory=list)
    curves: list[tuple[str, str, str]] = field(default_factory=list)
    labels: list[tuple[float, float, str, str, str]] = field(default_factory=list)

    @property
    def height(self) -> float:
        return self.y.start + BOTTOM

    @property
    def width(self) -> float:
        return self.x.end + RIGHT

    @property
    def axis_note(self) -> str:
        """Where axes of accuracies start, unless they start at 0."""
        axes = [(name, axis) for name, axis in (("x", self.x), ("y", self.y)) if axis.is_accuracy and axis.low > 0]
        return ", ".join(f"{name} axis starts at {100 * axis.low:.0f} %" for name, axis in axes)

    @property
    def is_clipped(self) -> bool:
        """Whether any point is outside the axes."""
        return any(point.shape in ARROWS for point in self.points)


def training_chart(rows: Sequence[LogRow], name: str) -> Chart:
    """Accuracies over epochs, with a diamond at the best epoch. rows: of `log.read_log`, at least one."""
    best, last = best_row(rows), rows[-1]
    step = math.ceil(len(rows) / _MAX_EPOCHS)
    shown = [row for row in rows if row["epoch"] % step == 0 or row is last or row is best]
    curves = [curve for curve in CURVES if any(row.get(curve[0]) is not None for row in rows)]
    values = [row[column] for row in shown for column, _ in curves if _is_finite(row, column)]
    margin = max(0.03 * (len(rows) - 1), 0.5)
    low, high = 1 - margin, len(rows) + margin
    ticks = [(float(tick), f"{tick:.0f}") for tick in _ticks(low, high, 8, (1, 2, 5, 10)) if tick == round(tick)]
    x, y = Axis(low, high, LEFT, WIDTH - RIGHT, ticks), accuracy_axis(values, 280 - BOTTOM, TOP)
    dots = [
        Point(x.at(row["epoch"] + 1), y.at(row[column]), "small", f"small {column}")
        for column, _ in curves
        for row in shown
        if len(rows) <= _MAX_DOTTED and _is_finite(row, column)
    ]
    diamond = Point(x.at(best["epoch"] + 1), y.at(best["val_robust"]), "diamond", "ours")
    title = (
        f"Training of {name}: {counted(len(rows), 'epoch')}; robust validation accuracy {percent(best['val_robust'])} "
        f"% at the best, epoch {best['epoch'] + 1}, and {percent(last['val_robust'])} % at the last"
    )
    paths = [(column, label, _path(shown, column, x, y)) for column, label in curves]
    return Chart(title, x, y, "epoch", "accuracy, %", [*dots, diamond], curves=paths)


def _path(rows: Sequence[LogRow], column: str, x: Axis, y: Axis) -> str:
    """SVG path data, interrupted where a value is missing."""
    parts, pen = [], "M"
    for row in rows:
        if _is_finite(row, column):
            parts.append(f"{pen}{x.at(row['epoch'] + 1):g} {y.at(row[column]):g}")
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


def _is_finite(row: LogRow, column: str) -> bool:
    return row.get(column) is not None and math.isfinite(row[column])


def accuracy_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis in percent that includes `values` (shares) and little more, with ticks from 0 to 100 only."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = max(0.06 * (high - low), (_MIN_SPAN - (high - low)) / 2, 0.01)
    low, high = low - margin, high + margin
    edge = min(0.02, 0.06 * (high - low))
    low, high = max(min(low, 1 + edge - _MIN_SPAN), -edge), min(max(high, _MIN_SPAN - edge), 1 + edge)
    ticks = [(tick, f"{100 * tick:.4g}") for tick in _ticks(low, high, 6) if 0 <= tick <= 1]
    return Axis(low, high, start, end, ticks, is_accuracy=True)


def _ticks(low: float, high: float, most: int, steps: Sequence[float] = (1, 2, 2.5, 5, 10)) -> list[float]:
    """Multiples of a round step in [low, high], at most `most` + 1 of them."""
    unit = 10 ** math.floor(math.log10((high - low) / most))
    step = next(factor * unit for factor in steps if factor * unit >= (high - low) / most * (1 - 1e-9))
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
