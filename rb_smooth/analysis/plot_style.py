"""The look of every figure, and how one is saved: a PNG and an SVG, whole, and the same bytes each time."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb_smooth.core import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure


COLOUR_MAP = "viridis"
"""Rises in lightness all the way, so that it is read right without colours too."""

FONT_SIZE = 9
"""Points; nothing is smaller than 8."""

_DPI = 150

_STYLE: Any = {
    "font.size": FONT_SIZE,
    "axes.titlesize": 10,
    "axes.labelsize": FONT_SIZE,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "figure.titlesize": 11,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
}

_SVG_OPTIONS: Any = {
    "svg.hashsalt": "rb_smooth",  # names of clip paths are drawn at random otherwise
    "svg.fonttype": "path",  # θ₁ looks the same where our fonts are missing
}


def apply_style() -> AbstractContextManager[None]:
    """Figures that are made inside have the house's look: fonts of 8 points and more on white."""
    import matplotlib

    return matplotlib.rc_context(_STYLE)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches. Unlike one of pyplot, it is gone when nobody holds it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write `figure` to `path` + .png and .svg (path: without a suffix), and return both names."""
    # a dot in a name is no suffix
    return [save_picture(figure, path.with_name(path.name + suffix)) for suffix in (".png", ".svg")]


def save_picture(figure: Figure, path: Path) -> Path:
    """Write `figure` to `path`, which ends in .png or .svg, and return it.

    The same figure gives the same bytes: no date, no random name. Raises OSError where nothing can be written.
    """
    import matplotlib

    picture = io.BytesIO()
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    with matplotlib.rc_context(_SVG_OPTIONS):
        figure.savefig(picture, format=path.suffix[1:], dpi=_DPI, metadata=metadata)
    files.write_bytes(path, picture.getvalue())
    return path
