"""Matplotlib style of all figures of analysis, and how they are saved: atomically and byte for byte reproducibly."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb_smooth.core import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure


COLOUR_MAP = "viridis"
"""Perceptually uniform: lightness increases monotonically."""

FONT_SIZE = 9
"""Points; no text is smaller than 8."""

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
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
}

_SVG_OPTIONS: Any = {
    "svg.hashsalt": "rb_smooth",  # otherwise ids of clip paths are random
    "svg.fonttype": "path",  # independent of installed fonts
}


def apply_style() -> AbstractContextManager[None]:
    """Context in which new figures have this style."""
    import matplotlib

    return matplotlib.rc_context(_STYLE)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches, without pyplot's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI)


def save_png_and_svg(figure: Figure, path: Path) -> list[Path]:
    """Write `figure` to `path` + .png and `path` + .svg, and return both paths. A dot in the name is no suffix."""
    return [save_picture(figure, path.with_name(path.name + suffix)) for suffix in (".png", ".svg")]


def save_picture(figure: Figure, path: Path) -> Path:
    """Write `figure` to `path`, which ends in .png or .svg, and return `path`.

    The same figure gives the same bytes: no date, no random ids. Raises OSError if the file cannot be written.
    """
    import matplotlib

    picture = io.BytesIO()
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    with matplotlib.rc_context(_SVG_OPTIONS):
        figure.savefig(picture, format=path.suffix[1:], dpi=_DPI, metadata=metadata)
    files.write_bytes(path, picture.getvalue())
    return path
