"""Scatter chart of a board: each model by its clean and its robust accuracy, ours in the colour of their method."""

from __future__ import annotations

from collections.abc import Sequence

from rb_smooth.core.colours import colour_indices
from rb_smooth.core.formatting import percent
from rb_smooth.leaderboard.page.charts import ARROWS, BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axis, Chart, Point, accuracy_axis
from rb_smooth.leaderboard.page.reference_models import best_of_ours
from rb_smooth.leaderboard.reports.board import Board, Seeds
from rb_smooth.leaderboard.reports.rows import ModelRow

Label = tuple[float, float, str, str, str]
"""(x, y, text-anchor, text, path data of a line to its point or "")."""

_SHAPES = {"ours": "diamond", "external": "square", "published": "dot"}

_LABEL_HEIGHT = 15
"""Least distance of two labels."""

_CHARACTER_WIDTH = 7.2
"""Of a label, about."""


def scatter_chart(board: Board) -> Chart:
    """Each model by its clean and its best known robust accuracy; entries on top, with their 95 % intervals.

    Ours have the colour of their method. The first and the best of ours are named. Each point links to its model's
    panel. Published outliers do not widen the axes: they are arrows at the edge.
    """
    ranked = {row.key for row in board.groups[0].rows}
    rows = sorted(board.rows, key=lambda row: (row.entry is not None, row.best_known))
    ours, published = [row for row in rows if row.entry], [row for row in rows if not row.entry]
    colours = method_classes(board)
    clean = [row.clean for row in ours] + _without_outliers([row.clean for row in published])
    robust = [end for row in ours for end in row.interval or ()]
    robust += _without_outliers([row.best_known for row in published])
    x, y = accuracy_axis(clean, LEFT, WIDTH - RIGHT), accuracy_axis(robust, 390 - BOTTOM, TOP)
    return Chart(
        f"{board.title}: standard against robust accuracy",
        x,
        y,
        "standard accuracy, %",
        "best known robust accuracy, %",
        points=[_model_point(row, x, y, colours[row.key], hollow=row.key not in ranked) for row in rows],
        intervals=[
            (row.key, colours[row.key], x.at(row.clean), y.at(row.interval[0]), y.at(row.interval[1]))
            for row in ours
            if row.interval
        ],
        labels=_labels(board, x, y),
    )


def method_classes(board: Board) -> dict[str, str]:
    """The CSS classes of each model's marks, by key: whose it is, and for ours `method-N`, its method's colour."""
    indices = colour_indices(sorted({row.method for row in board.ours}))
    return {row.key: f"ours method-{indices[row.method]}" if row.ours else row.whose for row in board.rows}


def method_legend(board: Board) -> list[tuple[str, str]]:
    """(CSS classes, title) of our methods, best first, without repetitions."""
    classes, ours = method_classes(board), [seeds for group in board.groups for seeds in group.methods]
    named = {classes[seeds.rows[0].key]: _method_title(seeds) for seeds in reversed(ours) if seeds.rows[0].ours}
    return list(reversed(named.items()))


def _method_title(seeds: Seeds) -> str:
    return seeds.title if len(seeds.rows) > 1 else seeds.rows[0].title


def _labels(board: Board, x: Axis, y: Axis) -> list[Label]:
    """Names beside the first model and the best of ours."""
    first = board.groups[0].rows[0]
    named = {first.key: (first, "first: " + first.name)}
    if board.ours:
        best, _ = best_of_ours(board)
        what = "first, ours" if best.rows[0].key == first.key else "best of ours"
        named[best.rows[0].key] = best.rows[0], f"{what}: {best.rows[0].title}"
    marks = [(x.at(row.clean), y.at(row.best_known)) for row in board.rows]
    labels: list[Label] = []
    for row, text in named.values():
        places, height = _label_places(x.at(row.clean), y.at(row.best_known), text, x), y.at(row.best_known)
        costs = {
            place: (_overlaps(place, labels), _covered(place, marks) + abs(place[1] - height) / _LABEL_HEIGHT)
            for place in places
        }
        labels.append(min(costs, key=lambda place: costs[place]))
    return labels


def _label_places(x: float, y: float, text: str, axis: Axis) -> list[Label]:
    """Labels right and left of a point, above and below it, that stay within the axis; its end if none does."""
    places = [
        (x + side * 7, y + height, "start" if side > 0 else "end", text, line if abs(height) > _LABEL_HEIGHT else "")
        for height in (-7.0, 15.0, -18.0, 26.0, -30.0)
        for side in (1, -1)
        for line in (f"M{x:g} {y:g}L{x + side * 7:g} {y + height + (3 if height < 0 else -10):g}",)
    ]
    inside = [place for place in places if axis.start <= _span(place)[0] and _span(place)[1] <= axis.end]
    return inside or [(axis.end, y - 7, "end", text, "")]


def _span(label: Label) -> tuple[float, float]:
    width = _CHARACTER_WIDTH * len(label[3])
    return (label[0], label[0] + width) if label[2] == "start" else (label[0] - width, label[0])


def _covered(label: Label, marks: Sequence[tuple[float, float]]) -> int:
    """The number of marks below a label."""
    left, right = _span(label)
    return sum(left - 4 < x < right + 4 and label[1] - _LABEL_HEIGHT < y < label[1] + 5 for x, y in marks)


def _overlaps(label: Label, others: Sequence[Label]) -> bool:
    (left, right), height = _span(label), label[1]
    spans = [(*_span(other), other[1]) for other in others]
    return any(left < end and start < right and abs(height - at) < _LABEL_HEIGHT for start, end, at in spans)


def _model_point(row: ModelRow, x: Axis, y: Axis, css: str, hollow: bool) -> Point:
    """A diamond for ours, a square for external models, a dot for published ones; an arrow outside the axes."""
    outside = (row.clean < x.low, row.clean > x.high, row.best_known < y.low, row.best_known > y.high)
    arrows = [arrow for arrow, is_outside in zip(ARROWS, outside, strict=True) if is_outside]
    shape = [*arrows, _SHAPES[row.whose]][0]
    css += " hollow" if hollow else ""
    return Point(x.at(row.clean), y.at(row.best_known), shape, css, row.key, _accessible_label(row))


def _without_outliers(values: Sequence[float]) -> list[float]:
    """Without values further than 3 interquartile ranges from the quartiles: twice Tukey's distance."""
    if not values:
        return []
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered) - 1) // 4]
    reach = 3 * (high - low)
    return [value for value in values if low - reach <= value <= high + reach]


def _accessible_label(row: ModelRow) -> str:
    low_high = f", 95 % interval {percent(row.interval[0])} to {percent(row.interval[1])}" if row.interval else ""
    rank = f", rank {row.rank}" if row.rank else ""
    attack = "" if row.attack == "AutoAttack" else f" ({row.attack})"
    return (
        f"{row.name}: {percent(row.clean)} % clean, {percent(row.best_known)} % robust{attack}{low_high}; "
        f"{row.architecture}, {row.whose}{rank}"
    )
