"""Line plots over one axis, with gaps where a function jumps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rb_smooth.analysis.plot_style import FONT_SIZE, apply_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_DERIVATIVES = ("loss", "slope", "second derivative")


def draw_lines(
    x: np.ndarray,
    columns: Mapping[str, Mapping[str, Sequence[np.ndarray]]],
    colours: Sequence[str],
    rows: int,
    *,
    title: str,
    caption: str,
) -> Figure:
    """One column for each line in the plane of theta: losses, and below them their derivatives along it.

    columns: by name of the line, then of the loss: values, first and second derivative at each x, of which the first
    `rows` are drawn. colours: of the losses. title, caption: of the figure, with line breaks.
    """
    with apply_style():
        figure = new_figure(3.3 * len(columns) + 0.2, 2.3 * rows + 1.5)
        inch, side = 1 / figure.get_figheight(), 0.5 / figure.get_figwidth()
        margins = {"left": side, "right": 1 - side / 2, "top": 1 - 0.65 * inch, "bottom": 1.15 * inch}
        grid = {**margins, "hspace": 0.3, "wspace": 0.2}
        panels = figure.subplots(rows, len(columns), sharex=True, sharey="row", squeeze=False, gridspec_kw=grid)
        for column, (line, losses) in zip(panels.T, columns.items(), strict=True):
            for order, panel in enumerate(column):
                for (name, derivatives), colour in zip(losses.items(), colours, strict=True):
                    jump = 0.3 if order else np.inf
                    draw_with_gaps(panel, x, derivatives[order], jump, color=colour, label=name)
                panel.set_title(f"{_DERIVATIVES[order]} at {line}")
                panel.margins(x=0)
                panel.grid()
            column[-1].set_xlabel("t")
        handles, names = panels[0, 0].get_legend_handles_labels()
        place: Any = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.4 * inch), "ncols": len(names)}
        figure.legend(handles, names, frameon=False, **place)
        figure.suptitle(title, y=1 - 0.1 * inch)
        figure.text(0.5, 0.1 * inch, caption, ha="center", va="bottom", fontsize=FONT_SIZE)
    return figure


def draw_with_gaps(panel: Axes, x: np.ndarray, y: np.ndarray, jump: float, **style: Any) -> None:
    """Plot a line; where it changes by more than `jump` from one x to the next, dots replace it."""
    jumps = np.flatnonzero(np.abs(np.diff(y)) > jump) + 1
    panel.plot(np.insert(x, jumps, x[jumps]), np.insert(y, jumps, np.nan), **style)
    for here in jumps:
        ends = slice(here - 1, here + 1)
        panel.plot(x[ends], y[ends], color=style["color"], linestyle=":", linewidth=1)
