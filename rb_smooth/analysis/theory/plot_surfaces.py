"""Lines over one axis, panel by panel, with gaps where a function jumps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rb_smooth.analysis.plot_style import COLOUR_MAP, FONT_SIZE, apply_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure


class LinePanel(NamedTuple):
    """What is drawn in one panel; lines: by name, one value for each x."""

    title: str
    lines: Mapping[str, np.ndarray]
    jump: float = np.inf
    """From one x to the next, a line that moves by more has a gap there."""


def draw_panels(
    x: np.ndarray,
    rows: Sequence[Sequence[LinePanel]],
    styles: Mapping[str, Mapping[str, Any]],
    *,
    label: str,
    title: str,
    caption: str,
) -> Figure:
    """Rows of panels over one x, which `label` names; those of one row share their scale.

    styles: of each line, by its name, as matplotlib's plot takes them; their order is the legend's. title and caption:
    of the figure, broken into lines by the caller.
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
                panel.set_axisbelow(True)
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
    """A line that is not drawn, but dotted, where it moves by more than `jump` from one x to the next."""
    jumps = np.flatnonzero(np.abs(np.diff(y)) > jump) + 1
    panel.plot(np.insert(x, jumps, x[jumps]), np.insert(y, jumps, np.nan), **style)
    for here in jumps:
        ends = slice(here - 1, here + 1)
        panel.plot(x[ends], y[ends], color=style["color"], linestyle=":", linewidth=1)


VIEW = (38.0, 40.0)
"""Elevation and azimuth in degrees from which every surface is seen."""

_LEVELS = 24
"""Bands between contour lines, equally high, over the whole scale."""

_MESH = 30
"""Lines drawn on a surface in each direction: they bend where it has a crease."""

_KINK = "#D55E00"


class SurfacePanel(NamedTuple):
    """What is drawn in one column."""

    title: str
    values: np.ndarray
    """(len(y), len(x)), finite."""
    kinks: Sequence[np.ndarray] = ()
    """Where the surface has no gradient: polylines, each (k, 2) of x and y; one of k = 1 is a dot."""


def draw_surfaces(
    x: np.ndarray,
    y: np.ndarray,
    surfaces: Sequence[SurfacePanel],
    *,
    labels: tuple[str, str, str],
    title: str,
    caption: str,
) -> Figure:
    """One column for each surface: above in three dimensions, beneath as contour lines over the same square.

    x, y: ascending, the coordinates of the columns and rows of values; labels: of the three axes; title and caption: of
    the figure, broken into lines by the caller. All surfaces share view, limits, contour lines and colours, so that
    they may be compared.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    low = min(surface.values.min() for surface in surfaces)
    high = max(surface.values.max() for surface in surfaces)
    if low == high:
        high = low + 1  # a flat surface has a scale, too
    norm = Normalize(low, high)
    levels = np.linspace(low, high, _LEVELS + 1)
    n = len(surfaces)
    with apply_style():
        figure = new_figure(2.6 * n + 0.9, 5.9)
        inch = 1 / figure.get_figwidth()
        margins = {"left": 0.55 * inch, "right": 1 - 0.85 * inch, "top": 0.9, "bottom": 0.15}
        grid = figure.add_gridspec(2, n, height_ratios=(1.2, 1), **margins, hspace=0.1, wspace=0.12)
        for column, surface in enumerate(surfaces):
            above: Any = figure.add_subplot(grid[0, column], projection="3d")
            above.set_title(surface.title, pad=2)
            _draw_surface_3d(above, x, y, surface, norm)
            _format_surface_3d(above, (*labels[:2], labels[2] if column == 0 else ""))
            beneath = figure.add_subplot(grid[1, column])
            beneath.contourf(x, y, surface.values, levels, cmap=COLOUR_MAP, norm=norm).set_rasterized(True)
            beneath.contour(x, y, surface.values, levels[1:-1], colors="white", linewidths=0.6)
            _format_contours(beneath, surface)
            beneath.set_xlabel(labels[0])
            beneath.set_ylabel(labels[1] if column == 0 else "", labelpad=2)
        figure.colorbar(ScalarMappable(norm, COLOUR_MAP), cax=beneath.inset_axes((1.07, 0, 0.05, 1)), label=labels[2])
        figure.suptitle(title, y=0.985)
        figure.text(0.5, 0.015, caption, ha="center", va="bottom", fontsize=FONT_SIZE)
    return figure


def _draw_surface_3d(panel: Any, x: np.ndarray, y: np.ndarray, surface: SurfacePanel, norm: Normalize) -> None:
    """In three dimensions. Rasterised: thousands of facets would make a vector image slow to open."""
    from scipy.interpolate import RegularGridInterpolator

    stride = max(1, (len(x) - 1) // _MESH)
    panel.plot_surface(
        *np.meshgrid(x, y),
        surface.values,
        rstride=stride,
        cstride=stride,
        cmap=COLOUR_MAP,
        norm=norm,
        edgecolor=(1, 1, 1, 0.4),
        linewidth=0.25,
        rasterized=True,
        zorder=1,
    )
    height = RegularGridInterpolator((y, x), surface.values)
    for kink in surface.kinks:
        panel.plot(*kink.T, height(kink[:, ::-1]), **_mark_kink(kink))
    panel.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), zlim=(norm.vmin, norm.vmax))


def _format_surface_3d(panel: Any, labels: Sequence[str]) -> None:
    for axis, label in zip((panel.xaxis, panel.yaxis, panel.zaxis), labels, strict=True):
        axis.set_label_text(label)
        axis.set_rotate_label(False)
        axis.labelpad = -7
        axis.set_major_locator(_few_ticks())
        axis.set_tick_params(pad=-3)
        axis.set_pane_color((1, 1, 1, 0))
    panel.zaxis.labelpad = -4  # not beside a number
    panel.computed_zorder = False  # marks are drawn on the surface, which hides none of them
    panel.view_init(*VIEW)
    panel.set_box_aspect((1, 1, 0.85), zoom=1.0)


def _format_contours(panel: Axes, surface: SurfacePanel) -> None:
    for kink in surface.kinks:
        panel.plot(*kink.T, **_mark_kink(kink))
    panel.xaxis.set_major_locator(_few_ticks())
    panel.yaxis.set_major_locator(_few_ticks())
    panel.set_aspect("equal")


def _mark_kink(kink: np.ndarray) -> dict[str, Any]:
    style: dict[str, Any] = (
        {"marker": "o", "markersize": 4.5} if len(kink) == 1 else {"linestyle": "--", "linewidth": 1.3}
    )
    return {"color": _KINK, "zorder": 3, **style}


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4, steps=[1, 2, 5, 10])
