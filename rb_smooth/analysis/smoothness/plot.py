"""Plot of Lipschitz constants of the gradient and displacements of attacks against the distance in weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb_smooth.analysis.plot_style import apply_style, new_figure, save_png_and_svg
from rb_smooth.analysis.smoothness.records import (
    LOSSES,
    Record,
    attack_displacement,
    common_radii,
    group_by_method,
    lipschitz,
)
from rb_smooth.core.colours import COLOURS
from rb_smooth.core.statistics import Estimate, mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_STYLES = {
    "standard": ((COLOURS[6], "o"),),
    "L2": ((COLOURS[0], "s"), (COLOURS[5], "D"), (COLOURS[2], "P")),
    "Linf": ((COLOURS[1], "^"), (COLOURS[4], "v"), (COLOURS[3], "X")),
}
"""Colours and markers of each loss's balls, in ascending order of eps."""
_LINE_STYLES = {"random": "-", "descent": (0, (4, 2))}
_PANEL_ROWS: tuple[tuple[str, Callable[[Record, str, float], float]], ...] = (
    ("relative Lipschitz constant\nof the gradient", partial(lipschitz, relative=True)),
    ("attacks moved\n(share of the ball's diameter)", attack_displacement),
)


def draw_gradients(records: Sequence[Record], path: Path) -> list[Path]:
    """Write `path` + .png and .svg and return both paths.

    One column per method: relative Lipschitz constants above, displacements of attacks below. Markers are means over
    seeds, along random directions (solid) and down the gradient (dashed); bars are 95 % intervals.
    """
    with apply_style():
        return save_png_and_svg(_plot(records), path)


def _plot(records: Sequence[Record]) -> Figure:
    groups, radii = group_by_method(records), common_radii(records)
    methods, styles = list(dict.fromkeys(method for method, _ in groups)), _styles(records)
    figure = new_figure(max(4.6, 2.3 * len(methods) + 1.2), 5.8)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(2, len(methods), sharex=True, sharey="row", squeeze=False)
    for column, method in zip(panels.T, methods, strict=True):
        for panel, (label, value) in zip(column, _PANEL_ROWS, strict=True):
            for ball, direction in product(styles, _LINE_STYLES):
                members = groups.get((method, ball), [])
                no_attack = value is attack_displacement and ball == "standard"
                if members and not no_attack:
                    found = [mean_interval([value(each, direction, radius) for each in members]) for radius in radii]
                    _draw_line(panel, radii, found, ball, direction, styles[ball])
            panel.set(xscale="log", yscale="log")
            panel.grid()
            if method == methods[0]:
                panel.set_ylabel(label)
        column[0].set_title(method)
        column[1].set_xlabel("‖w1 − w2‖ / ‖w‖")
    pairs = [pair for panel in panels[0] for pair in zip(*panel.get_legend_handles_labels(), strict=True)]
    legend = {label: handle for handle, label in pairs}
    place: Any = "outside lower center"
    figure.legend(legend.values(), legend.keys(), loc=place, ncols=max(2, len(styles)), frameon=False)
    return figure


def _styles(records: Sequence[Record]) -> dict[str, tuple[str, str]]:
    """Colour and marker by loss name."""
    balls = {ball: members[0]["under"] for (_, ball), members in group_by_method(records).items()}
    return {
        ball: _STYLES[loss][rank % len(_STYLES[loss])]
        for loss in LOSSES
        for rank, ball in enumerate(ball for ball, its in balls.items() if its == loss)
    }


def _draw_line(
    panel: Axes,
    radii: Sequence[float],
    estimates: Sequence[Estimate],
    ball: str,
    direction: str,
    style: tuple[str, str],
) -> None:
    """Plot means with intervals; lower bounds below zero are clipped for the logarithmic axis."""
    colour, marker = style
    name = f"{ball.replace('Linf', 'L∞')}{' loss' if ball == 'standard' else ''}"
    means = [each.mean for each in estimates]
    below = [min(each.mean - each.low, 0.95 * each.mean) if each.low is not None else 0.0 for each in estimates]
    above = [each.high - each.mean if each.high is not None else 0.0 for each in estimates]
    panel.errorbar(
        radii,
        means,
        yerr=[below, above],
        linestyle=_LINE_STYLES[direction],
        label=f"{name}, {'random direction' if direction == 'random' else 'down the gradient'}",
        color=colour,
        marker=marker,
        markersize=4,
        elinewidth=0.9,
        capsize=2,
    )
