"""The page's charts, as SVG that is part of the page: clean against robust accuracy, and an entry's training."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from rb_smooth.core.formatting import percent
from rb_smooth.leaderboard.page.boards import Board
from rb_smooth.leaderboard.page.rows import ModelRow
from rb_smooth.leaderboard.page.svg import GRID, INK, MUTED, OURS, PAPER, PUBLISHED, SvgLabel, inline_svg
from rb_smooth.training.run_folder.log import LogRow, best_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_SPAN = 0.06
"""What an axis shows at least, as a share: noise alone should not look like a difference."""

_MAX_EPOCHS = 240
"""Points of a curve: more would not be seen, and would be carried by every reader."""

CURVES = (
    ("val_clean", "clean, validation", MUTED, "-", 1.2),
    ("train_robust", "robust, training", PUBLISHED, ":", 1.6),
    ("test_robust", "robust, test", INK, "--", 1.2),
    ("val_robust", "robust, validation", OURS, "-", 1.8),
)
"""Column of the log, what it is called, and how it is drawn; the last on top."""


def draw_scatter(board: Board) -> str:
    """Every model of the board by its clean and its best known robust accuracy, ours on top, with their intervals.

    Each point is a link to its model's panel. Published models far from all others do not stretch the picture: they
    are arrows at its edge, and say their figures as the others do.
    """
    ranked = {row.key for row in board.groups[0].rows}
    rows = sorted(board.rows, key=lambda row: (row.ours, row.best_known))
    with _axes(560, 390) as (figure, axes):
        _set_ranges(axes, *_frames(rows))
        for row in rows:
            if row.ours:
                axes.plot([row.clean] * 2, _extent(row), color=OURS, linewidth=1.2, gid=f"interval:{row.key}")
        for row in rows:
            _draw_point(axes, row, hollow=row.key not in ranked)
        _name_axes(axes, "best known robust accuracy, %", "standard accuracy, %")
        labels = {f"point:{row.key}": SvgLabel(row.key, _accessible_label(row)) for row in rows}
        labels |= {f"interval:{row.key}": SvgLabel(row.key) for row in rows if row.ours}
        return _svg(figure, board.key, f"{board.title}: standard against robust accuracy", labels)


def has_clipped_points(board: Board) -> bool:
    """Whether `draw_scatter` puts any of the board's models at its edge."""
    x, y = _frames(board.rows)
    inside = [min(x) <= row.clean <= max(x) and min(y) <= row.best_known <= max(y) for row in board.rows]
    return not all(inside)


def draw_curves(rows: Sequence[LogRow], key: str, name: str) -> str:
    """An entry's accuracies over its epochs, a diamond at the best one. rows: of `log.read_log`, at least one."""
    from matplotlib.ticker import MaxNLocator

    best = best_row(rows)
    step = math.ceil(len(rows) / _MAX_EPOCHS)
    shown = [row for row in rows if row["epoch"] % step == 0 or row is rows[-1] or row is best]
    with _axes(560, 280) as (figure, axes):
        few: dict[str, Any] = {"marker": "o", "markersize": 3} if len(rows) <= 12 else {}
        drawn = available_curves(rows)
        for column, _, colour, dashes, width in drawn:
            values = [math.nan if row.get(column) is None else row[column] for row in shown]
            axes.plot([row["epoch"] + 1 for row in shown], values, dashes, color=colour, linewidth=width, **few)
        axes.plot(best["epoch"] + 1, best["val_robust"], "D", color=OURS, markersize=6, markeredgecolor=PAPER, zorder=5)
        values = [row[column] for row in shown for column, *_ in drawn if row.get(column) is not None]
        _set_ranges(axes, [], [value for value in values if math.isfinite(value)])
        _name_axes(axes, "accuracy, %", "epoch")
        margin = max(0.03 * (len(rows) - 1), 0.5)
        axes.set_xlim(1 - margin, len(rows) + margin)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
        spoken = (
            f"Training of {name}: {len(rows)} epochs; robust validation accuracy {percent(best['val_robust'])} % at "
            f"the best, epoch {best['epoch'] + 1}, and {percent(rows[-1]['val_robust'])} % at the last"
        )
        return _svg(figure, f"curves-{key}", spoken, {})


def available_curves(rows: Sequence[LogRow]) -> list[tuple[str, str, str, str, float]]:
    """Those of CURVES that this log has."""
    return [curve for curve in CURVES if any(row.get(curve[0]) is not None for row in rows)]


def _draw_point(axes: Axes, row: ModelRow, hollow: bool) -> None:
    """A diamond of ours, a dot of theirs, an arrow at the edge for what lies outside; over all lines."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    x, y = min(max(row.clean, left), right), min(max(row.best_known, low), high)
    arrows = {"<": x > row.clean, ">": x < row.clean, "v": y > row.best_known, "^": y < row.best_known}
    inside = ("D", 7.5) if row.ours else ("o", 6.5)
    marker, size = next(((arrow, 7.5) for arrow, outside in arrows.items() if outside), inside)
    colour = OURS if row.ours else PUBLISHED
    face, edge = (PAPER, colour) if hollow else (colour, PAPER)
    style: dict[str, Any] = {"markersize": size, "markerfacecolor": face, "markeredgecolor": edge, "clip_on": False}
    axes.plot(x, y, marker, gid=f"point:{row.key}", zorder=4, markeredgewidth=1.2 if hollow else 0.8, **style)


def _frames(rows: Sequence[ModelRow]) -> tuple[list[float], list[float]]:
    """Of both axes, what they must hold."""
    ours, published = [row for row in rows if row.ours], [row for row in rows if not row.ours]
    x = _frame([(row.clean, row.clean) for row in ours], [row.clean for row in published])
    return x, _frame([_extent(row) for row in ours], [row.best_known for row in published])


def _frame(ours: Sequence[tuple[float, float]], published: Sequence[float]) -> list[float]:
    """What an axis must hold: all that is ours, and the published that are not far off (Tukey's rule, doubled)."""
    found = [end for extent in ours for end in extent]
    if published:
        ordered = sorted(published)
        low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered) - 1) // 4]
        reach = 3 * (high - low)
        found += [value for value in published if low - reach <= value <= high + reach]
    return found


def _extent(row: ModelRow) -> tuple[float, float]:
    return row.interval or (row.best_known, row.best_known)


def _accessible_label(row: ModelRow) -> str:
    low_high = f", 95 % interval {percent(row.interval[0])} to {percent(row.interval[1])}" if row.interval else ""
    rank = f", rank {row.rank}" if row.rank else ""
    whose = "ours" if row.ours else "published"
    attack = "" if row.attack == "AutoAttack" else f" ({row.attack})"
    return (
        f"{row.name}: {percent(row.clean)} % clean, {percent(row.best_known)} % robust{attack}{low_high}; "
        f"{row.architecture}, {whose}{rank}"
    )


def _set_ranges(axes: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Ranges that hold all, no wider than need be, and percentages along them."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for values, axis, limit in ((x, axes.xaxis, axes.set_xlim), (y, axes.yaxis, axes.set_ylim)):
        if values:
            low, high = min(values), max(values)
            margin = max(0.06 * (high - low), (_SPAN - (high - low)) / 2, 0.01)
            limit(max(low - margin, -0.02), min(high + margin, 1.02))
            axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
            axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}"))


def _name_axes(axes: Axes, y: str, x: str) -> None:
    """At the axes' ends, and level: where the eye looks for them, and with room on a phone."""
    axes.set_title(y, loc="left", fontsize=12, color=MUTED, x=-0.075, pad=18)
    axes.set_xlabel(x, loc="right", labelpad=8)


@contextmanager
def _axes(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """One panel of width x height CSS pixels, to draw lines into; whatever matplotlib's settings here are."""
    import matplotlib

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "rb_smooth", "font.size": 12, "axes.labelcolor": MUTED}
    style |= {"xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED, "axes.edgecolor": GRID, "grid.color": GRID}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        figure, axes = _panel(width, height)
        try:
            yield figure, axes
        finally:
            for line in list(axes.lines):
                line.remove()


@cache
def _panel(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty one, used again and again: making one takes longer than drawing into it. Not of pyplot's, which would
    keep every figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((40 / width, 56 / height, 1 - 50 / width, 1 - 96 / height))
    for patch in (figure.patch, axes.patch):
        patch.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    return figure, axes


def _svg(figure: Figure, key: str, title: str, labels: dict[str, SvgLabel]) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return inline_svg(text.getvalue(), key, title, labels)
