"""Charts of the page: clean against robust accuracy, and an entry's training curves.

The numbers are computed here, charts.svg.j2 draws them, and page.css has the colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rb_smooth.core.formatting import percent
from rb_smooth.leaderboard.reports.board import Board
from rb_smooth.leaderboard.reports.rows import ModelRow
from rb_smooth.training.run_folder.log import LogRow, best_row

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 40, 10, 40, 56
"""Of a chart and its margins, in units of the viewBox."""

_MIN_SPAN = 0.06
"""Least range of an axis of accuracies, a share: noise alone should not look like a difference."""

_MAX_EPOCHS = 240
"""Points of a curve: more are not visible, and make the page larger."""

_MAX_DOTTED = 12
"""Epochs up to which each one has a dot."""

_ARROWS = ("left", "right", "down", "up")
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
    """Content of a chart. title: its text for screen readers. intervals: (model's key, x, low, high): vertical lines.

    curves: (CSS class, label, path data).
    """

    title: str
    x: Axis
    y: Axis
    x_title: str
    y_title: str
    points: list[Point]
    intervals: list[tuple[str, float, float, float]] = field(default_factory=list)
    curves: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def height(self) -> float:
        return self.y.start + _BOTTOM

    @property
    def width(self) -> float:
        return self.x.end + _RIGHT

    @property
    def is_clipped(self) -> bool:
        """Whether any point is outside the axes."""
        return any(point.shape in _ARROWS for point in self.points)


def scatter_chart(board: Board) -> Chart:
    """Each model by its clean and its best known robust accuracy; ours on top, with their 95 % intervals.

    Each point links to its model's panel. Published outliers do not widen the axes: they are arrows at the edge.
    """
    ranked = {row.key for row in board.groups[0].rows}
    rows = sorted(board.rows, key=lambda row: (row.ours, row.best_known))
    ours, published = [row for row in rows if row.ours], [row for row in rows if not row.ours]
    clean = [row.clean for row in ours] + _without_outliers([row.clean for row in published])
    robust = [end for row in ours for end in row.interval or ()]
    robust += _without_outliers([row.best_known for row in published])
    x, y = _accuracy_axis(clean, _LEFT, _WIDTH - _RIGHT), _accuracy_axis(robust, 390 - _BOTTOM, _TOP)
    return Chart(
        f"{board.title}: standard against robust accuracy",
        x,
        y,
        "standard accuracy, %",
        "best known robust accuracy, %",
        points=[_model_point(row, x, y, hollow=row.key not in ranked) for row in rows],
        intervals=[
            (row.key, x.at(row.clean), y.at(row.interval[0]), y.at(row.interval[1])) for row in ours if row.interval
        ],
    )


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
    x, y = Axis(low, high, _LEFT, _WIDTH - _RIGHT, ticks), _accuracy_axis(values, 280 - _BOTTOM, _TOP)
    dots = [
        Point(x.at(row["epoch"] + 1), y.at(row[column]), "small", f"small {column}")
        for column, _ in curves
        for row in shown
        if len(rows) <= _MAX_DOTTED and _is_finite(row, column)
    ]
    diamond = Point(x.at(best["epoch"] + 1), y.at(best["val_robust"]), "diamond", "ours")
    title = (
        f"Training of {name}: {len(rows)} epochs; robust validation accuracy {percent(best['val_robust'])} % at "
        f"the best, epoch {best['epoch'] + 1}, and {percent(last['val_robust'])} % at the last"
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


def _model_point(row: ModelRow, x: Axis, y: Axis, hollow: bool) -> Point:
    """A diamond for ours, a dot for a published model, an arrow for one outside the axes."""
    outside = (row.clean < x.low, row.clean > x.high, row.best_known < y.low, row.best_known > y.high)
    arrows = [arrow for arrow, is_outside in zip(_ARROWS, outside, strict=True) if is_outside]
    shape = [*arrows, "diamond" if row.ours else "dot"][0]
    css = " ".join(["ours"] * row.ours + ["hollow"] * hollow)
    return Point(x.at(row.clean), y.at(row.best_known), shape, css, row.key, _accessible_label(row))


def _without_outliers(values: Sequence[float]) -> list[float]:
    """Without values further than 3 interquartile ranges from the quartiles: twice Tukey's distance."""
    if not values:
        return []
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered) - 1) // 4]
    reach = 3 * (high - low)
    return [value for value in values if low - reach <= value <= high + reach]


def _accessible_label(row: ModelRow) -> str:
    low_high = f", 95 % interval {percent(row.interval[0])} to {percent(row.interval[1])}" if row.interval else ""
    rank = f", rank {row.rank}" if row.rank else ""
    attack = "" if row.attack == "AutoAttack" else f" ({row.attack})"
    return (
        f"{row.name}: {percent(row.clean)} % clean, {percent(row.best_known)} % robust{attack}{low_high}; "
        f"{row.architecture}, {row.whose}{rank}"
    )


def _accuracy_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis in percent that includes `values` (shares) and little more."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = max(0.06 * (high - low), (_MIN_SPAN - (high - low)) / 2, 0.01)
    low, high = max(low - margin, -0.02), min(high + margin, 1.02)
    return Axis(low, high, start, end, [(tick, f"{100 * tick:.4g}") for tick in _ticks(low, high, 6)])


def _ticks(low: float, high: float, most: int, steps: Sequence[float] = (1, 2, 2.5, 5, 10)) -> list[float]:
    """Multiples of a round step in [low, high], at most `most` + 1 of them."""
    unit = 10 ** math.floor(math.log10((high - low) / most))
    step = next(factor * unit for factor in steps if factor * unit >= (high - low) / most * (1 - 1e-9))
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
