"""Adversarial examples in their balls while the parameters rotate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rb_smooth.analysis.plot_style import COLOUR_MAP, FONT_SIZE, apply_style, new_figure
from rb_smooth.analysis.theory.plot_lines import draw_with_gaps
from rb_smooth.core.colours import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MARGIN = 1.5
"""Half the side of a panel, in units of eps."""


class BallPanel(NamedTuple):
    """The ball of `norm` (L2 or Linf) around x (2,)."""

    title: str
    norm: str
    x: np.ndarray
    eps: float
    path: np.ndarray
    """(m, 2): x' while theta turns."""
    uphill: np.ndarray
    """(m, 2): the loss's gradient at x."""


def draw_rotation(balls: Sequence[BallPanel], angles: np.ndarray, *, title: str, caption: str) -> Figure:
    """One panel with each ball, and a last one with the first coordinate of x' - x, over eps.

    angles: (m,) of theta, in degrees, ascending. Six of them, evenly spaced, are numbered and coloured.
    """
    import matplotlib

    marked = np.linspace(0, len(angles) - 1, 8).round().astype(int)[1:-1]
    colours = matplotlib.colormaps[COLOUR_MAP](np.linspace(0, 0.8, len(marked)))  # the upper end is too pale on white
    with apply_style():
        figure = new_figure(3.1 * len(balls) + 3.4, 4.2)
        inch = 1 / figure.get_figwidth()
        margins = {"left": 0.5 * inch, "right": 1 - 0.1 * inch, "top": 0.84, "bottom": 0.24}
        *panels, last = figure.subplots(1, len(balls) + 1, gridspec_kw={**margins, "wspace": 0.25})
        for panel, ball, edge in zip(panels, balls, COLOURS, strict=False):
            _draw_ball(panel, ball, edge)
            _draw_gradients(panel, ball.x, ball.eps, ball.uphill[marked], colours)
            _draw_examples(panel, ball.x, ball.eps, ball.path[marked], colours)
            moved = (ball.path[:, 0] - ball.x[0]) / ball.eps
            draw_with_gaps(last, angles, moved, jump=1.0, color=edge, label=ball.title, linewidth=1.8)
            last.scatter(angles[marked], moved[marked], s=26, c=colours, zorder=3, edgecolors="white")
        last.set(title="first coordinate of $(x' - x)/ε$", xlabel="angle of $θ$ in degrees")
        last.set(yticks=[-1, 0, 1], ylim=(-1.1, 1.1))
        last.legend(frameon=False, loc="lower left")
        last.grid()
        figure.suptitle(title, y=0.985)
        figure.text(0.5, 0.02, caption, ha="center", va="bottom", fontsize=FONT_SIZE)
    return figure


def _draw_ball(panel: Axes, ball: BallPanel, edge: str) -> None:
    from matplotlib.patches import Circle, Rectangle

    (x, y), eps = ball.x, ball.eps
    style: dict[str, Any] = {"facecolor": "#f4f4f4", "edgecolor": edge, "linewidth": 1.8}
    square = Rectangle((x - eps, y - eps), 2 * eps, 2 * eps, **style)
    panel.add_patch(Circle((x, y), eps, **style) if ball.norm == "L2" else square)
    panel.plot(x, y, "o", color="black", markersize=4)
    _annotate(panel, "$x$", ball.x, (0, -9), "black")
    side = _MARGIN * eps
    panel.set(xlim=(x - side, x + side), ylim=(y - side, y + side), aspect="equal", title=ball.title)
    panel.locator_params(nbins=7, steps=[1, 2, 5, 10])
    panel.set_xlabel("first coordinate")
    panel.set_ylabel("second coordinate", labelpad=0)


def _draw_gradients(panel: Axes, x: np.ndarray, eps: float, uphill: np.ndarray, colours: np.ndarray) -> None:
    """Each gradient as an arrow of fixed length from x; the first and the last are numbered."""
    for k, (gradient, colour) in enumerate(zip(uphill, colours, strict=True), start=1):
        direction = gradient / np.linalg.norm(gradient)
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.1, "shrinkA": 2, "shrinkB": 0}
        tip = x + 0.3 * eps * direction
        panel.annotate("", tuple(tip), tuple(x), arrowprops=arrow)
        if k in (1, len(uphill)):
            _annotate(panel, str(k), tip, 8 * direction, colour, weight="bold")


def _draw_examples(panel: Axes, x: np.ndarray, eps: float, examples: np.ndarray, colours: np.ndarray) -> None:
    """Examples as dots; coinciding ones as rings with their numbers side by side; jumps farther than eps as arrows."""
    places, place_of = np.unique(examples.round(9), axis=0, return_inverse=True)
    for k, place in enumerate(places):
        here = np.flatnonzero(place_of.ravel() == k)
        outward = (place - x) / np.linalg.norm(place - x)
        for i, behind, column in zip(here, here[::-1] - here[0], here - here.mean(), strict=True):
            panel.plot(*place, "o", color=colours[i], markersize=7 + 4 * behind, markeredgecolor="white", zorder=3)
            aside = np.array([12 * column, 6.0 * (len(here) > 1)])
            _annotate(panel, str(i + 1), place, 15 * outward + aside, colours[i], weight="bold")
    for before, after in pairwise(examples):
        if np.linalg.norm(after - before) > eps:
            arrow = {"arrowstyle": "-|>", "color": "black", "linestyle": "--", "shrinkA": 14, "shrinkB": 14}
            panel.annotate("", tuple(after), tuple(before), arrowprops={**arrow, "connectionstyle": "arc3,rad=0.12"})
            _annotate(panel, "one jump, 2ε long", (before + after) / 2, (0, 24), "black")


def _annotate(panel: Axes, text: str, at: np.ndarray, shift: Any, colour: Any, weight: str = "normal") -> None:
    """Write `text` at `shift`, in typographic points, from the position `at`."""
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": colour, "weight": weight}
    panel.annotate(text, tuple(at), tuple(shift), textcoords="offset points", **style)
