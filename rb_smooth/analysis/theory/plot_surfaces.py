"""Surfaces of losses of two parameters, in three dimensions and as contour lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rb_smooth.analysis.plot_style import COLOUR_MAP, FONT_SIZE, apply_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_VIEW = (38.0, 40.0)
"""Elevation and azimuth of every surface, in degrees."""

_LEVELS = 22
"""Number of equal steps between contour lines over the whole scale."""

_MESH = 30
"""Mesh lines on a surface in each direction; they bend at kinks."""

_KINK = "#D55E00"


class SurfacePanel(NamedTuple):
    """Contents of one column."""

    title: str
    values: np.ndarray
    """(m, m), finite, theta_1 along the rows."""
    kinks: Sequence[np.ndarray] = ()
    """Points without a gradient: polylines (k, 2) with gaps where NaN; k = 1 is a dot."""
    region: np.ndarray | None = None
    """(m, m), positive in a region whose edge is drawn on the contour lines."""


def draw_surfaces(axis: np.ndarray, surfaces: Sequence[SurfacePanel], *, title: str, caption: str) -> Figure:
    """One column per surface: the surface in three dimensions above its contour lines over the same square.

    axis: (m,) ascending values of theta_1 and of theta_2. title, caption: of the figure, with line breaks. All surfaces
    share view, limits, contour levels and colours.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    low = min(surface.values.min() for surface in surfaces)
    high = max(surface.values.max() for surface in surfaces)
    if low == high:
        high = low + 1  # a constant surface needs a scale too
    norm = Normalize(low, high)
    n, levels = len(surfaces), np.linspace(low, high, _LEVELS + 1)
    with apply_style():
        figure = new_figure(2.6 * n + 0.9, 5.9)
        inch = 1 / figure.get_figwidth()
        margins = {"left": 0.55 * inch, "right": 1 - 0.85 * inch, "top": 0.88, "bottom": 0.17}
        grid = figure.add_gridspec(2, n, height_ratios=(1.2, 1), **margins, hspace=0.1, wspace=0.12)
        for column, surface in enumerate(surfaces):
            above: Any = figure.add_subplot(grid[0, column], projection="3d")
            _draw_surface_3d(above, axis, surface, norm, "loss" if column == 0 else "")
            beneath = figure.add_subplot(grid[1, column], aspect="equal", xlabel="$θ_1$")
            beneath.contourf(axis, axis, surface.values, levels, cmap=COLOUR_MAP, norm=norm).set_rasterized(True)
            beneath.contour(axis, axis, surface.values, levels[1:-1], colors="white", linewidths=0.6)
            if surface.region is not None:
                beneath.contour(axis, axis, surface.region, [0.0], colors="black", linewidths=1.3, linestyles=":")
            for kink in surface.kinks:
                beneath.plot(*kink.T, **_mark_kink(kink))
            beneath.locator_params(nbins=4, steps=[1, 2, 5, 10])
            beneath.set_ylabel("$θ_2$" if column == 0 else "", labelpad=2)
        figure.colorbar(ScalarMappable(norm, COLOUR_MAP), cax=beneath.inset_axes((1.07, 0, 0.05, 1)), label="loss")
        figure.suptitle(title, y=0.985)
        figure.text(0.5, 0.015, caption, ha="center", va="bottom", fontsize=FONT_SIZE)
    return figure


def _draw_surface_3d(panel: Any, axis: np.ndarray, surface: SurfacePanel, norm: Any, label: str) -> None:
    """The surface in three dimensions, rasterised: thousands of facets make a vector image slow to open."""
    from scipy.interpolate import RegularGridInterpolator

    stride = max(1, (len(axis) - 1) // _MESH)
    facets = {"rstride": stride, "cstride": stride, "edgecolor": (1, 1, 1, 0.4), "linewidth": 0.25, "zorder": 1}
    panel.plot_surface(*np.meshgrid(axis, axis), surface.values, cmap=COLOUR_MAP, norm=norm, rasterized=True, **facets)
    height = RegularGridInterpolator((axis, axis), surface.values, bounds_error=False)  # NaN for NaN
    for kink in surface.kinks:
        panel.plot(*kink.T, height(kink[:, ::-1]), **_mark_kink(kink))
    limits = (axis[0], axis[-1])
    panel.set(xlim=limits, ylim=limits, zlim=(norm.vmin, norm.vmax))
    panel.set_title(surface.title, pad=2)
    for each, text in zip((panel.xaxis, panel.yaxis, panel.zaxis), ("$θ_1$", "$θ_2$", label), strict=True):
        each.set_label_text(text)
        each.set_rotate_label(False)
        each.labelpad = 0 if each is panel.zaxis else -7  # keeps the label off the tick labels
        each.set_tick_params(pad=0 if each is panel.zaxis else -3)
        each.set_pane_color((1, 1, 1, 0))
    panel.locator_params(nbins=4, steps=[1, 2, 5, 10])
    panel.computed_zorder = False  # draw kinks on top of the surface
    panel.view_init(*_VIEW)
    panel.set_box_aspect((1, 1, 0.85), zoom=1.0)


def _mark_kink(kink: np.ndarray) -> dict[str, Any]:
    dot, dashes = {"marker": "o", "markersize": 4.5}, {"linestyle": "--", "linewidth": 1.3}
    return {"color": _KINK, "zorder": 3, **(dot if len(kink) == 1 else dashes)}
