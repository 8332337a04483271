"""Line plots over one axis, with gaps where a function jumps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rb_smooth.analysis.plot_style import FONT_SIZE, apply_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class LinePanel(NamedTuple):
    """Contents of one panel. lines: by name, one value for each x."""

    title: str
    lines: Mapping[str, np.ndarray]
    jump: float = np.inf
    """A line that changes by more from one x to the next has a gap there."""


def draw_panels(
    x: np.ndarray,
    rows: Sequence[Sequence[LinePanel]],
    styles: Mapping[str, Mapping[str, Any]],
    *,
    label: str,
    title: str,
    caption: str,
) -> Figure:
    """Rows of panels over one x-axis with name `label`; panels of one row share their scale.

    styles: keyword arguments of matplotlib's plot, by line name, in the legend's order. title, caption: of the figure,
    with line breaks.
    """
    with apply_style():
        figure = new_figure(3.3 * len(rows[0]) + 0.2, 2.3 * len(rows) + 1.5)
        inch = 1 / figure.get_figheight()
        side = 0.5 / figure.get_figwidth()
        margins = {"left": side, "right": 1 - side / 2, "top": 1 - 0.65 * inch, "bottom": 1.15 * inch}
        grid = {**margins, "hspace": 0.3, "wspace": 0.2}
        panels = figure.subplots(len(rows), len(rows[0]), sharex=True, sharey="row", squeeze=False, gridspec_kw=grid)
        for row, contents in zip(panels, rows, strict=True):
            for panel, content in zip(row, contents, strict=True):
                for name, values in content.lines.items():
                    draw_with_gaps(panel, x, values, content.jump, **{"label": name, **styles[name]})
                panel.set_title(content.title)
                panel.margins(x=0)
                panel.grid()
        for panel in panels[-1]:
            panel.set_xlabel(label)
        handles = {line.get_label(): line for panel in panels.flat for line in panel.get_lines()}
        shown = [handles[name] for name in styles]
        figure.legend(
            handles=shown, loc="lower center", bbox_to_anchor=(0.5, 0.4 * inch), ncols=len(shown), frameon=False
        )
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
