"""Surfaces of losses of two parameters, in three dimensions and as contour lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rb_smooth.analysis.plot_style import COLOUR_MAP, FONT_SIZE, apply_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure


VIEW = (38.0, 40.0)
"""Elevation and azimuth of every surface, in degrees."""

_LEVELS = 24
"""Number of equal steps between contour lines over the whole scale."""

_MESH = 30
"""Mesh lines on a surface in each direction; they bend at kinks."""

_KINK = "#D55E00"


class SurfacePanel(NamedTuple):
    """Contents of one column."""

    title: str
    values: np.ndarray
    """(len(y), len(x)), finite."""
    kinks: Sequence[np.ndarray] = ()
    """Points without a gradient: polylines (k, 2) of x and y; k = 1 is a dot."""


def draw_surfaces(
    x: np.ndarray,
    y: np.ndarray,
    surfaces: Sequence[SurfacePanel],
    *,
    labels: tuple[str, str, str],
    title: str,
    caption: str,
) -> Figure:
    """One column per surface: the surface in three dimensions above its contour lines over the same square.

    x, y: ascending coordinates of the columns and rows of values. labels: of the three axes. title, caption: of the
    figure, with line breaks. All surfaces share view, limits, contour levels and colours.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    low = min(surface.values.min() for surface in surfaces)
    high = max(surface.values.max() for surface in surfaces)
    if low == high:
        high = low + 1  # a constant surface needs a scale too
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
    """The surface in three dimensions, rasterised: thousands of facets make a vector image slow to open."""
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
    panel.zaxis.labelpad = -4  # keeps the label off the tick labels
    panel.computed_zorder = False  # draw kinks on top of the surface
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
