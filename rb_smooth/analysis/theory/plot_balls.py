"""Adversarial examples in their balls as the parameters rotate."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from rb_smooth.analysis.plot_style import COLOUR_MAP, FONT_SIZE, apply_style, new_figure
from rb_smooth.analysis.theory.plot_lines import draw_with_gaps
from rb_smooth.training.run_folder.curves import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


BALLS = {"L2": "$L_2$ ball", "Linf": "$L_∞$ ball"}
_BALL_COLOURS = dict(zip(BALLS, COLOURS, strict=False))
_MARGIN = 1.5
"""Half the side of a panel, in units of eps."""


def draw_rotation(
    x: np.ndarray,
    eps: float,
    angles: np.ndarray,
    paths: Mapping[str, np.ndarray],
    marked: np.ndarray,
    *,
    title: str,
    caption: str,
) -> Figure:
    """One panel with the ball around x (2,) for each norm of `paths` ("L2", "Linf"), and a last one with x'_1 - x_1.

    angles: (m,) of theta, in degrees, ascending. paths: x' at each of them, (m, 2). marked: (k,) indices of the few
    angles whose theta and x' are numbered and coloured.
    """
    import matplotlib

    colours = matplotlib.colormaps[COLOUR_MAP](np.linspace(0, 0.8, len(marked)))  # the upper end is too pale on white
    with apply_style():
        figure = new_figure(3.1 * len(paths) + 3.4, 4.2)
        inch = 1 / figure.get_figwidth()
        margins = {"left": 0.5 * inch, "right": 1 - 0.1 * inch, "top": 0.84, "bottom": 0.24}
        *balls, last = figure.subplots(1, len(paths) + 1, gridspec_kw={**margins, "wspace": 0.25})
        for panel, (norm, path) in zip(balls, paths.items(), strict=True):
            _draw_ball(panel, x, eps, norm)
            _draw_directions(panel, x, eps, angles[marked], colours)
            _draw_examples(panel, x, eps, path[marked], colours)
        for norm, path in paths.items():
            moved = path[:, 0] - x[0]
            draw_with_gaps(last, angles, moved, jump=eps, color=_BALL_COLOURS[norm], label=BALLS[norm], linewidth=1.8)
            last.scatter(angles[marked], moved[marked], s=26, c=colours, zorder=3, edgecolors="white")
        _format_paths(last, eps)
        figure.suptitle(title, y=0.985)
        figure.text(0.5, 0.02, caption, ha="center", va="bottom", fontsize=FONT_SIZE)
    return figure


def _draw_ball(panel: Axes, x: np.ndarray, eps: float, norm: str) -> None:
    from matplotlib.patches import Circle, Rectangle

    style: dict[str, Any] = {"facecolor": "#f4f4f4", "edgecolor": _BALL_COLOURS[norm], "linewidth": 1.8}
    square = Rectangle((x[0] - eps, x[1] - eps), 2 * eps, 2 * eps, **style)
    panel.add_patch(Circle((x[0], x[1]), eps, **style) if norm == "L2" else square)
    panel.plot(*x, "o", color="black", markersize=4)
    _annotate(panel, "$x$", x, (0, -9), "black")
    panel.set(xlim=x[0] + _MARGIN * eps * np.array([-1, 1]), ylim=x[1] + _MARGIN * eps * np.array([-1, 1]))
    panel.set(aspect="equal", title=BALLS[norm], xlabel="first coordinate")
    panel.set_ylabel("second coordinate", labelpad=0)


def _draw_directions(panel: Axes, x: np.ndarray, eps: float, angles: np.ndarray, colours: np.ndarray) -> None:
    """Each theta as an arrow of fixed length from x; the first and the last are numbered."""
    for k, (angle, colour) in enumerate(zip(np.radians(angles), colours, strict=True), start=1):
        direction = np.array([np.cos(angle), np.sin(angle)])
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.1, "shrinkA": 2, "shrinkB": 0}
        tip = x + 0.5 * eps * direction
        panel.annotate("", tuple(tip), tuple(x), arrowprops=arrow)
        if k in (1, len(angles)):
            _annotate(panel, str(k), tip, 8 * direction, colour, weight="bold")
    _annotate(panel, "$θ$", x + 0.25 * eps, (10, -4), "black")


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


def _format_paths(panel: Axes, eps: float) -> None:
    panel.set(title="first coordinate of $x' - x$", xlabel="angle of $θ$ in degrees; $θ_1 = 0$ at 90")
    panel.set_yticks([-eps, 0, eps], ["$-ε$", "0", "$ε$"])
    panel.legend(frameon=False, loc="upper right")
    panel.grid()


def _annotate(panel: Axes, text: str, at: np.ndarray, shift: Any, colour: Any, weight: str = "normal") -> None:
    """Write `text` at `shift`, in typographic points, from the position `at`."""
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": colour, "weight": weight}
    panel.annotate(text, tuple(at), tuple(shift), textcoords="offset points", **style)
