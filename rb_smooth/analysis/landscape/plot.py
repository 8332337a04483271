"""Loss landscapes as pictures, with the robust generalisation gap beside: the argument of the AWP paper, 2004.05884."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rb_smooth.analysis.landscape.aggregate import CHECKPOINTS, Band, check_alike, gathered, stem
from rb_smooth.analysis.landscape.surface import About, Surface
from rb_smooth.analysis.plot_style import COLOUR_MAP, new_figure, save_picture, styled
from rb_smooth.core.errors import Refused
from rb_smooth.core.formatting import number_text
from rb_smooth.training.run_folder.curves import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_SETS: tuple[tuple[str, str, Literal["-", "--"]], ...] = (("train", "training", "-"), ("test", "test", "--"))
"""Images, what they are called, and how their lines are dashed."""

_MARKS = ("o", "s", "^", "D", "v", "P", "X")
"""Of each colour, where no line tells methods apart."""

_LEGEND_WIDTH = 2.2
"""Inches that a column of the legend may take."""

_MANTISSAS = (1, 1.5, 2, 3, 5, 7)
"""Of a map's levels: round numbers, each about 1.5 times the one before."""

_DECADES = 3
"""Below the largest loss, in which losses are told apart."""


def check_drawable(abouts: Sequence[About], path: Path) -> None:
    """Raises Refused for landscapes, at least one, that one picture cannot show, and for another kind of picture."""
    if path.suffix not in (".png", ".svg"):
        raise Refused(f"expected a picture to write, got --out {path}; give it a name that ends in .png or .svg")
    check_alike(abouts)
    methods = len({stem(about) for about in abouts})
    if abouts[0].dimensions == 1 and methods > len(COLOURS):
        raise Refused(
            f"expected at most {len(COLOURS)} methods, whose colours can be told apart, got {methods}; name fewer"
        )


def draw_landscapes(surfaces: Sequence[Surface], path: Path) -> None:
    """Draw landscapes that are drawable, and whole, into one PNG or SVG.

    Along one direction: a panel for each checkpoint, a colour for each method, training images solid and test images
    dashed, best and last on one scale, and beside them the robust generalisation gap. Over two: a map for each
    checkpoint and set of images, all on one scale.
    """
    bands, about = gathered(surfaces), surfaces[0].about
    with styled():
        save_picture(_maps(bands, about) if about.dimensions == 2 else _lines(bands, about), path)


def _lines(bands: Sequence[Band], about: About) -> Figure:
    colours = dict(zip(dict.fromkeys(band.label for band in bands), COLOURS, strict=False))
    weights = [each for each in CHECKPOINTS if any(band.weights == each for band in bands)]
    figure = new_figure(2.4 * len(weights) + 3.0, 3.7)
    figure.set_layout_engine("constrained")
    *panels, beside = figure.subplots(1, len(weights) + 1, width_ratios=[*[2.4] * len(weights), 2.1])
    named = dict(zip(weights, panels, strict=True))
    if {"best", "last"} <= named.keys():
        named["last"].sharey(named["best"])
        named["last"].tick_params(labelleft=False)
    for each, panel in named.items():
        # What has hardly been trained may be ten times as high, and would flatten the others.
        own_scale = each == "first" and len(named) > 1
        panel.set_title(f"{each} checkpoint{' (own scale)' if own_scale else ''}")
        panel.set_xlabel(r"$\alpha$, in filters' norms")
        for band in bands:
            if band.weights == each:
                _draw_band(panel, about.axis, band, colours[band.label])
    for panel in panels:
        panel.set_ylim(bottom=0)
    panels[0].set_ylabel("adversarial loss")
    _draw_gaps(beside, bands, weights, colours)
    for panel in (*panels, beside):
        _dress(panel)
    figure.suptitle(_title(about))
    _add_legend(figure, bands, colours)
    return figure


def _draw_band(panel: Axes, x: np.ndarray, band: Band, colour: str) -> None:
    for name, _, dashes in _SETS:
        mean, std = band.mean[f"{name}_loss"], band.std[f"{name}_loss"]
        panel.plot(x, mean, dashes, color=colour, linewidth=1.4)
        if band.over:
            panel.fill_between(x, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)


def _draw_gaps(panel: Axes, bands: Sequence[Band], weights: Sequence[str], colours: dict[str, str]) -> None:
    """Each run's gap as a small mark, their mean as a bar through them."""
    width = min(0.3, 0.8 / len(colours))
    for number, (label, colour) in enumerate(colours.items()):
        for band in bands:
            if band.label != label:
                continue
            x = weights.index(band.weights) + (number - (len(colours) - 1) / 2) * width
            gaps = [100 * gap for gap in band.robust_gaps()]
            panel.plot([x] * len(gaps), gaps, _MARKS[number], color=colour, markersize=4, alpha=0.7, linewidth=0)
            panel.hlines(np.mean(gaps), x - 0.4 * width, x + 0.4 * width, color=colour, linewidth=1.6)
    panel.axhline(0, color="black", linewidth=0.8)
    panel.set_xticks(range(len(weights)), weights)
    panel.set_xlim(-0.6, len(weights) - 0.4)
    panel.set_ylabel("training − test, points")
    panel.set_title("robust generalisation gap")


def _dress(panel: Axes) -> None:
    panel.grid()
    panel.set_axisbelow(True)


def _title(about: About) -> str:
    made = "fixed: made at the centre and held" if about.fixed_attacks else "made anew at every point"
    norm = {"Linf": "$L_\\infty$", "L2": "$L_2$"}[about.norm]
    solid, dashed = ("", "") if about.dimensions == 2 else (" (solid)", " (dashed)")
    return (
        f"{about.dataset}: PGD-{about.steps} in the {norm} ball of {number_text(about.eps)}, {made}\n"
        f"{about.train_points} training images{solid}, {about.test_points} test images{dashed}"
    )


def _add_legend(figure: Figure, bands: Sequence[Band], colours: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    titles = {band.label: band.title for band in bands}
    handles = [
        Line2D([], [], color=colour, marker=mark, markersize=4, linewidth=1.6, label=titles[label])
        for (label, colour), mark in zip(colours.items(), _MARKS, strict=False)
    ]
    spread = "mean ± standard deviation over what stands in brackets" if any(band.over for band in bands) else None
    style: dict[str, Any] = {"title_fontsize": 8.5, "title": spread, "frameon": False}
    rows = math.ceil(len(handles) / (figure.get_figwidth() // _LEGEND_WIDTH))
    figure.legend(handles=handles, loc="outside lower center", ncols=math.ceil(len(handles) / rows), **style)


def _maps(bands: Sequence[Band], about: About) -> Figure:
    from matplotlib.colors import LogNorm

    values = np.stack([band.mean[f"{name}_loss"] for band in bands for name, *_ in _SETS])
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise Refused("expected losses to draw, got no number in any of these landscapes; lower --range")
    levels = _levels(finite.min(), finite.max())
    figure = new_figure(2.3 * len(bands) + 1.8, 5.3)
    figure.set_layout_engine("compressed")
    panels = figure.subplots(2, len(bands), sharex=True, sharey=True, squeeze=False)
    ticks = about.radius * np.array([-1, -0.5, 0, 0.5, 1])
    for column, band in zip(panels.T, bands, strict=True):
        (gap,) = band.robust_gaps()  # every run is by itself
        column[0].set_title(f"{band.label}, {band.weights}\nrobust gap {100 * gap:.1f} points")
        for panel, (name, *_) in zip(column, _SETS, strict=True):
            z = np.maximum(band.mean[f"{name}_loss"].T, levels[0])  # the first direction to the right
            drawn = panel.contourf(about.axis, about.axis, z, levels, norm=LogNorm(), cmap=COLOUR_MAP)
            panel.contour(about.axis, about.axis, z, levels, colors="white", linewidths=0.4)
            panel.plot(0, 0, "+", color="white", markersize=7)
            panel.set_aspect("equal")
            panel.set_xticks(ticks)
            panel.set_yticks(ticks)
    for panel, (_, told, _) in zip(panels[:, 0], _SETS, strict=True):
        panel.set_ylabel(f"{told} images\n\n$\\beta$")
    for panel in panels[-1]:
        panel.set_xlabel(r"$\alpha$")
    scale = figure.colorbar(drawn, ax=panels, label="adversarial loss", ticks=levels, format="%.2g")
    scale.ax.tick_params(labelsize=8)
    figure.suptitle(_title(about))
    return figure


def _levels(lowest: float, highest: float) -> list[float]:
    """Round numbers from below `lowest`, or _DECADES below `highest`, to above `highest`, both > 0."""
    lowest = max(lowest, highest / 10**_DECADES)
    decades = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
    numbers = [mantissa * 10.0**decade for decade in decades for mantissa in _MANTISSAS]
    first = max(i for i, number in enumerate(numbers) if number <= lowest)
    last = min(i for i, number in enumerate(numbers) if number >= highest)
    return numbers[first : max(last, first + 1) + 1]
