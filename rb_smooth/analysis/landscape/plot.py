"""Plots of loss landscapes and the robust generalisation gap, as in the AWP paper (Wu et al., arXiv 2004.05884)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rb_smooth.analysis.landscape.grid import (
    CHECKPOINTS,
    LandscapeMeta,
    LandscapeSummary,
    LossLandscape,
    check_comparable,
    run_group,
    summarise_landscapes,
)
from rb_smooth.analysis.plot_style import COLOUR_MAP, apply_style, new_figure, save_picture
from rb_smooth.core.colours import COLOURS, method_colours
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_IMAGE_SETS: tuple[tuple[str, str, Literal["-", "--"]], ...] = (("train", "training", "-"), ("test", "test", "--"))
"""Prefix of the quantities, name and line style of each set of images."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""One for each colour."""

_LEGEND_WIDTH = 2.2
"""Inches per column of the legend."""

_MANTISSAS = (1, 1.5, 2, 3, 5, 7)
"""Contour levels of a map: round numbers, each about 1.5 times the previous one."""

_DECADES = 3
"""Range of a map's levels below the largest loss."""


def check_drawable(metas: Sequence[LandscapeMeta], path: Path) -> None:
    """Raise UserError if one picture cannot show these landscapes (at least one), or `path` is not .png or .svg."""
    if path.suffix not in (".png", ".svg"):
        raise UserError(f"expected --out to end in .png or .svg, got {path}; correct it")
    check_comparable(metas)
    methods = len({run_group(meta) for meta in metas})
    if metas[0].dimensions == 1 and methods > len(COLOURS):
        raise UserError(f"expected at most {len(COLOURS)} methods, one for each colour, got {methods}; name fewer runs")


def draw_landscapes(landscapes: Sequence[LossLandscape], path: Path) -> None:
    """Write one PNG or SVG of complete landscapes that pass `check_drawable`.

    One direction: one panel per checkpoint, one colour per method, training images solid and test images dashed, best
    and last on one scale, and a panel with the robust generalisation gap. Two directions: one map per checkpoint and
    set of images, all on one scale.
    """
    summaries, meta = summarise_landscapes(landscapes), landscapes[0].meta
    with apply_style():
        save_picture(_plot_maps(summaries, meta) if meta.dimensions == 2 else _plot_lines(summaries, meta), path)


def _plot_lines(summaries: Sequence[LandscapeSummary], meta: LandscapeMeta) -> Figure:
    colours = method_colours(summary.label for summary in summaries)
    weights = [each for each in CHECKPOINTS if any(summary.weights == each for summary in summaries)]
    figure = new_figure(2.4 * len(weights) + 3.0, 3.7)
    figure.set_layout_engine("constrained")
    *panels, beside = figure.subplots(1, len(weights) + 1, width_ratios=[*[2.4] * len(weights), 2.1])
    named = dict(zip(weights, panels, strict=True))
    if {"best", "last"} <= named.keys():
        named["last"].sharey(named["best"])
        named["last"].tick_params(labelleft=False)
    for each, panel in named.items():
        # The first epoch's loss may be ten times as high and would flatten the other curves.
        own_scale = each == "first" and len(named) > 1
        panel.set_title(f"{each} checkpoint{' (own scale)' if own_scale else ''}")
        panel.set_xlabel(r"$\alpha$, in filters' norms")
        for summary in summaries:
            if summary.weights == each:
                _draw_summary(panel, meta.axis, summary, colours[summary.label])
    for panel in panels:
        panel.set_ylim(bottom=0)
    panels[0].set_ylabel("adversarial loss")
    _draw_gaps(beside, summaries, weights, colours)
    for panel in (*panels, beside):
        panel.grid()
    figure.suptitle(_title(meta))
    _add_legend(figure, summaries, colours)
    return figure


def _draw_summary(panel: Axes, x: np.ndarray, summary: LandscapeSummary, colour: str) -> None:
    for name, _, dashes in _IMAGE_SETS:
        mean, std = summary.mean[f"{name}_loss"], summary.std[f"{name}_loss"]
        panel.plot(x, mean, dashes, color=colour, linewidth=1.4)
        if summary.over:
            panel.fill_between(x, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)


def _draw_gaps(
    panel: Axes, summaries: Sequence[LandscapeSummary], weights: Sequence[str], colours: dict[str, str]
) -> None:
    """Each run's gap as a marker, their mean as a horizontal line."""
    width = min(0.3, 0.8 / len(colours))
    for summary in summaries:
        number, colour = list(colours).index(summary.label), colours[summary.label]
        x = weights.index(summary.weights) + (number - (len(colours) - 1) / 2) * width
        gaps = [100 * gap for gap in summary.at_centre("robust_gap")]
        panel.plot([x] * len(gaps), gaps, _MARKERS[number], color=colour, markersize=4, alpha=0.7, linewidth=0)
        panel.hlines(np.mean(gaps), x - 0.4 * width, x + 0.4 * width, color=colour, linewidth=1.6)
    panel.axhline(0, color="black", linewidth=0.8)
    panel.set_xticks(range(len(weights)), weights)
    panel.set_xlim(-0.6, len(weights) - 0.4)
    panel.set_ylabel("training − test, points")
    panel.set_title("robust generalisation gap")


def _title(meta: LandscapeMeta) -> str:
    recomputed = "fixed at the centre" if meta.fixed_attacks else "recomputed at every point"
    norm = {"Linf": "$L_\\infty$", "L2": "$L_2$"}[meta.norm]
    solid, dashed = ("", "") if meta.dimensions == 2 else (" (solid)", " (dashed)")
    return (
        f"{meta.dataset}: PGD-{meta.steps} in the {norm} ball of {number_text(meta.eps)}, {recomputed}\n"
        f"{meta.train_points} training images{solid}, {meta.test_points} test images{dashed}"
    )


def _add_legend(figure: Figure, summaries: Sequence[LandscapeSummary], colours: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    titles = {summary.label: summary.title for summary in summaries}
    handles = [
        Line2D([], [], color=colour, marker=mark, markersize=4, linewidth=1.6, label=titles[label])
        for (label, colour), mark in zip(colours.items(), _MARKERS, strict=False)
    ]
    title = (
        "mean ± standard deviation over the runs or directions in brackets"
        if any(summary.over for summary in summaries)
        else None
    )
    style: dict[str, Any] = {"title_fontsize": 8.5, "title": title, "frameon": False}
    rows = math.ceil(len(handles) / (figure.get_figwidth() // _LEGEND_WIDTH))
    figure.legend(handles=handles, loc="outside lower center", ncols=math.ceil(len(handles) / rows), **style)


def _plot_maps(summaries: Sequence[LandscapeSummary], meta: LandscapeMeta) -> Figure:
    from matplotlib.colors import LogNorm

    values = np.stack([summary.mean[f"{name}_loss"] for summary in summaries for name, *_ in _IMAGE_SETS])
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise UserError("expected finite losses, got none in these landscapes; lower --range")
    levels = _levels(finite.min(), finite.max())
    figure = new_figure(2.3 * len(summaries) + 1.8, 5.3)
    figure.set_layout_engine("compressed")
    panels = figure.subplots(2, len(summaries), sharex=True, sharey=True, squeeze=False)
    ticks = meta.radius * np.array([-1, -0.5, 0, 0.5, 1])
    for column, summary in zip(panels.T, summaries, strict=True):
        (gap,) = summary.at_centre("robust_gap")  # in two dimensions, one run per summary
        column[0].set_title(f"{summary.label}, {summary.weights}\nrobust gap {100 * gap:.1f} points")
        for panel, (name, *_) in zip(column, _IMAGE_SETS, strict=True):
            z = np.maximum(summary.mean[f"{name}_loss"].T, levels[0])  # the first direction to the right
            drawn = panel.contourf(meta.axis, meta.axis, z, levels, norm=LogNorm(), cmap=COLOUR_MAP)
            panel.contour(meta.axis, meta.axis, z, levels, colors="white", linewidths=0.4)
            panel.plot(0, 0, "+", color="white", markersize=7)
            panel.set_aspect("equal")
            panel.set_xticks(ticks)
            panel.set_yticks(ticks)
    for panel, (_, label, _) in zip(panels[:, 0], _IMAGE_SETS, strict=True):
        panel.set_ylabel(f"{label} images\n\n$\\beta$")
    for panel in panels[-1]:
        panel.set_xlabel(r"$\alpha$")
    scale = figure.colorbar(drawn, ax=panels, label="adversarial loss", ticks=levels, format="%.2g")
    scale.ax.tick_params(labelsize=8)
    figure.suptitle(_title(meta))
    return figure


def _levels(lowest: float, highest: float) -> list[float]:
    """Round numbers that span `lowest` > 0, at most _DECADES below `highest`, to `highest`."""
    lowest = max(lowest, highest / 10**_DECADES)
    decades = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
    numbers = [mantissa * 10.0**decade for decade in decades for mantissa in _MANTISSAS]
    first = max(i for i, number in enumerate(numbers) if number <= lowest)
    last = min(i for i, number in enumerate(numbers) if number >= highest)
    return numbers[first : max(last, first + 1) + 1]
