"""Plot training curves over epochs and time, as in Figure 3 of Kanai et al., arXiv 2103.01400."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rb_smooth.core import files
from rb_smooth.core.colours import COLOURS, method_colours
from rb_smooth.core.errors import UserError
from rb_smooth.training.run_folder.log import LogRow, best_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


class _CurveStyle(NamedTuple):
    """Line style of the accuracies on one set of images. colour: in a figure of one run."""

    clean: str
    robust: str
    label: str
    colour: str
    dashes: str
    width: float


_CURVE_STYLES = (
    _CurveStyle("", "train_robust", "training minibatches (at w' + v)", "#aaaaaa", "-.", 0.9),
    _CurveStyle("train_clean", "train_pgd20", "training (deployed weights)", "#777777", ":", 1.3),
    _CurveStyle("val_w_clean", "val_w_robust", "validation, w not averaged", "#56B4E9", "-", 0.8),
    _CurveStyle("val_clean", "val_robust", "validation", "#0072B2", "-", 1.4),
    _CurveStyle("test_w_clean", "test_w_robust", "test, w not averaged", "#E69F00", "--", 0.8),
    _CurveStyle("test_clean", "test_robust", "test", "#D55E00", "--", 1.4),
)
"""Columns of the log (see log.py). All but the first are of the deployed weights, averaged if the run averages them."""

_MAX_MARKED_EPOCHS = 12
"""Number of epochs up to which each has a marker: a line needs two points."""

_SPAN = 0.1
"""Least range of an accuracy axis, so that noise does not look like a difference."""


def draw_curves(logs: Mapping[str, Sequence[LogRow]], path: Path) -> None:
    """Plot accuracies, loss and learning rate of runs, by name, as PNG: over epochs (left) and time (right).

    Time includes validation. A star marks each run's best epoch. logs: rows of `log.read_log`, at least one each;
    columns may be missing. Raises UserError for more runs than COLOURS.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if len(logs) > len(COLOURS):
        raise UserError(f"expected at most {len(COLOURS)} runs, one per colour, got {len(logs)}; name fewer")
    figure = Figure(figsize=(7.2, 7.4), layout="constrained")
    canvas = FigureCanvasAgg(figure)  # pyplot would keep the figure in memory
    panels = figure.subplots(4, 2, sharex="col", sharey="row", height_ratios=(4, 4, 3, 1.6))
    unit, length = _time_unit(logs.values())
    alone, colours = len(logs) == 1, method_colours(logs)
    for name, rows in logs.items():
        scales = (
            [row["epoch"] + 1 for row in rows],
            [seconds / length for seconds in accumulate(row["seconds"] for row in rows)],
        )
        for column, x in zip(panels.T, scales, strict=True):
            _draw_run(column, x, rows, None if alone else colours[name])
    _format_axes(panels, logs.values())
    for panel, label in zip(panels[-1], ("epoch", f"training time ({unit})"), strict=True):
        panel.set_xlabel(label, fontsize=9)
    caption = _caption(*next(iter(logs.items()))) if alone else None
    _add_legend(figure, "upper", _styles_legend(logs.values(), alone), 3, caption)
    if not alone:
        handles = [_line(name, colour, "-", 2.5) for name, colour in colours.items()]
        _add_legend(figure, "lower", handles, 2)
    png = io.BytesIO()
    figure.set_dpi(150)
    canvas.print_png(png)
    files.write_bytes(path, png.getvalue())


def _draw_run(column: Sequence[Axes], x: Sequence[float], rows: Sequence[LogRow], colour: str | None) -> None:
    """Plot one run in one column of panels: clean, robust, loss, learning rate."""
    clean, robust, loss, lr = column
    dot: dict[str, Any] = {"marker": "o", "markersize": 2.5} if len(rows) <= _MAX_MARKED_EPOCHS else {}
    best = rows.index(best_row(rows))
    for panel, what in ((clean, "clean"), (robust, "robust")):
        for kind in _styles_in_use(rows, colour is None):
            if _has(rows, name := getattr(kind, what)):
                at = [place for place, row in zip(x, rows, strict=True) if row.get(name) is not None]
                y = [row[name] for row in rows if row.get(name) is not None]
                panel.plot(at, y, kind.dashes, color=colour or kind.colour, linewidth=kind.width, **dot)
        panel.plot(x[best], rows[best][f"val_{what}"], color=colour or "black", zorder=5, **_BEST_EPOCH_MARKER)
    loss.plot(x, [row["loss"] for row in rows], color=colour or "black", linewidth=1.3, **dot)
    lr.plot(x, [row["lr"] for row in rows], color=colour or "black", linewidth=1.3, drawstyle="steps-pre", **dot)


_BEST_EPOCH_MARKER: dict[str, Any] = {
    "marker": "*",
    "markersize": 11,
    "markeredgecolor": "white",
    "markeredgewidth": 0.7,
}


def _styles_in_use(rows: Sequence[LogRow], alone: bool) -> list[_CurveStyle]:
    """Of several runs, accuracy at w' + v only where the log has none of the deployed weights to compare."""
    styles = [kind for kind in _CURVE_STYLES if _has(rows, kind.clean) or _has(rows, kind.robust)]
    return styles if alone or not _has(rows, "train_pgd20") else [kind for kind in styles if kind.clean]


def _has(rows: Sequence[LogRow], name: str) -> bool:
    return any(row.get(name) is not None for row in rows)


def _format_axes(panels: Any, logs: Iterable[Sequence[LogRow]]) -> None:
    """Set labels, units and ranges. panels: (4, 2) array of axes."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    for row, label in zip(panels, ("clean accuracy", "robust accuracy", "loss", "lr"), strict=True):
        row[0].set_ylabel(label, fontsize=9)
        for panel in row:
            panel.set_xlim(left=0)
            panel.tick_params(labelsize=8)
            panel.spines[["top", "right"]].set_visible(False)
            panel.grid(color="#e6e6e6", linewidth=0.6)
            panel.set_axisbelow(True)
        if "accuracy" in label:
            low, high = row[0].get_ylim()
            short = max(0.0, _SPAN - (high - low)) / 2
            row[0].set_ylim(max(low - short, -0.02), min(high + short, 1.02))
            row[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    rates = [row["lr"] for rows in logs for row in rows if row["lr"] > 0]
    if rates and max(rates) > 5 * min(rates):
        panels[-1][0].set_yscale("log")
    panels[-1][0].xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def _caption(name: str, rows: Sequence[LogRow]) -> str:
    best, last = best_row(rows), rows[-1]
    return (
        f"{name}\nbest epoch {best['epoch'] + 1} of {len(rows)}: validation clean {best['val_clean']:.1%}, "
        f"robust {best['val_robust']:.1%} (last {last['val_robust']:.1%})"
    )


def _styles_legend(logs: Iterable[Sequence[LogRow]], alone: bool) -> list[Line2D]:
    """Legend entries of the line styles in use; black for several runs."""
    lines = [
        _line(kind.label, kind.colour if alone else "black", kind.dashes, kind.width)
        for kind in _CURVE_STYLES
        if any(kind in _styles_in_use(rows, alone) for rows in logs)
    ]
    return [*lines, _line("best epoch", "black", "none", 0, **_BEST_EPOCH_MARKER)]


def _line(label: str, colour: str, dashes: Any, width: float, **more: Any) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, color=colour, linestyle=dashes, linewidth=width, **more)


def _add_legend(figure: Figure, where: str, handles: list[Line2D], columns: int, title: str | None = None) -> None:
    """Add a legend outside the panels."""
    style: dict[str, Any] = {"fontsize": 8.5, "title_fontsize": 9, "frameon": False, "handlelength": 2.6}
    place: Any = f"outside {where} center"
    figure.legend(handles=handles, loc=place, ncols=columns, title=title, **style)


def _time_unit(logs: Iterable[Sequence[LogRow]]) -> tuple[str, float]:
    """Unit of time for the longest run, and its seconds."""
    longest = max(sum(row["seconds"] for row in rows) for rows in logs)
    return ("s", 1) if longest < 300 else ("min", 60) if longest < 3 * 3600 else ("hours", 3600)
