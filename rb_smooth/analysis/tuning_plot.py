"""Draw a search for hyperparameters: the trials in order, and how much each key matters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb_smooth.analysis.plot_style import apply_style, new_figure, save_png_and_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _GREY, _ORANGE = "#0072b2", "#8c8c8c", "#d55e00"


def draw_tuning(record: dict[str, Any], path: Path) -> list[Path]:
    """Write `path` + .png and .svg of a search's record and return both paths.

    Left: accuracy of each finished trial, and the best so far; pruned trials are marked at their last epoch. Right:
    the importance of each key, if the record has one.
    """
    with apply_style():
        importance = record["importance"]
        figure = new_figure(8.6 if importance else 4.8, 3.2)
        figure.set_layout_engine("constrained")
        figure.suptitle(f"{record['dataset']}/{record['method']}, {len(record['trials'])} trials")
        panels = figure.subplots(1, 2 if importance else 1, squeeze=False)[0]
        _draw_history(panels[0], record["trials"])
        if importance:
            _draw_importance(panels[1], importance)
        return save_png_and_svg(figure, path)


def _draw_history(panel: Axes, trials: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import MaxNLocator

    complete = [(each["number"], 100 * each["value"]) for each in trials if each["state"] == "complete"]
    pruned = [(each["number"], 100 * each["last"]) for each in trials if each["state"] == "pruned"]
    if complete:
        numbers, values = zip(*complete, strict=True)
        best = [max(values[: index + 1]) for index in range(len(values))]
        panel.step(numbers, best, where="post", color=_ORANGE, label="best so far")
        panel.plot(numbers, values, "o", color=_BLUE, markersize=4, label="trial")
    if pruned:
        panel.plot(*zip(*pruned, strict=True), "x", color=_GREY, markersize=5, label="pruned, last epoch")
    panel.set(xlabel="trial (0: the recipe's own values)", ylabel="robust validation accuracy, %")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.grid()
    if complete or pruned:
        panel.legend(frameon=False)


def _draw_importance(panel: Axes, importance: dict[str, float]) -> None:
    keys = list(importance)[::-1]
    panel.barh(keys, [importance[key] for key in keys], color=_BLUE, height=0.6)
    panel.set(xlabel="importance (fANOVA)", xlim=(0, 1))
    panel.grid(axis="x")
