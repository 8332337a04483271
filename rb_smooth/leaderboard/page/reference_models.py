"""Headline, rank sentence and reference models of a board or a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rb_smooth.core.formatting import percent
from rb_smooth.leaderboard.metadata import architecture_family
from rb_smooth.leaderboard.reports.board import Board, Group, ModelRow
from rb_smooth.leaderboard.reports.ranking import rank, rank_range


def headline(board: Board) -> str:
    """The board in one sentence: our best model, its accuracy and its rank."""
    if not board.ours:
        count = len(board.rows)
        return f"{count} published model{'' if count == 1 else 's'}; none of ours is on this board yet."
    best, group = best_of_ours(board)
    figure = f"Our best, {best.name}, keeps {percent(best.robust)} % of test points right"
    if best.attack != "AutoAttack":
        return f"{figure} under the quick attacks: an upper bound, not AutoAttack.{_unranked(group)}"
    place = f": rank {best.rank} of {len(group.rows)}{_rank_range(best, group)}" if best.rank else ""
    return f"{figure} under AutoAttack{place}.{_unranked(group)}"


def best_of_ours(board: Board) -> tuple[ModelRow, Group]:
    """Our best model in the first group with one of ours: a ranked model goes before a more accurate unranked one.

    Models marked unreliable are taken only if there are no others.
    """
    group = next(group for group in board.groups if any(row.ours for row in group.rows))
    return min((row for row in group.rows if row.ours), key=lambda row: bool(row.unreliable)), group


def board_references(board: Board) -> list[tuple[str, ModelRow]]:
    """Our best; the best published, with and without extra data, and of our best's family. No model twice."""
    marks: dict[ModelRow, str] = {}
    published = [row for row in board.groups[0].rows if not row.ours]
    if board.ours:
        marks[best_of_ours(board)[0]] = "best of ours"
    _add_best(marks, "best published", published)
    _add_best(marks, "best published without extra data", published, lambda row: not row.extra_data)
    if board.ours:
        family = _family(best_of_ours(board)[0])
        _add_best(marks, f"best published {family}", published, lambda row: _family(row) == family)
    return [(what, row) for row, what in marks.items()]


def model_references(row: ModelRow, group: Group) -> list[tuple[str, ModelRow]]:
    """The first of the group, `row` between its neighbours, and the best other model of its family; best first."""
    place, family = group.rows.index(row), _family(row)
    marks = {row: "this model"}
    _add_best(marks, "first", group.rows)
    _add_best(marks, f"best other {family}", group.rows, lambda each: each is not row and _family(each) == family)
    _add_best(marks, "next above", group.rows[max(place - 1, 0) : place])
    _add_best(marks, "next below", group.rows[place + 1 :])
    return [(what, each) for each, what in sorted(marks.items(), key=lambda mark: group.rows.index(mark[0]))]


def rank_sentence(row: ModelRow, group: Group) -> str:
    """`Rank 61 of 95 (59 to 63 by its 95 % interval); 4 of 12 among PreActResNet-18 without extra data.`"""
    if row.rank is None:
        return f"No other model of this board has the same protocol.{_unranked(group)}"
    family = [each.best_known for each in group.rows if _family(each) == _family(row)]
    place = f"; {rank(row.best_known, family)} of {len(family)} among {_family(row)}"
    among = place if 1 < len(family) < len(group.rows) else ""
    return f"Rank {row.rank} of {len(group.rows)}{_rank_range(row, group)}{among}.{_unranked(group)}"


def _rank_range(row: ModelRow, group: Group) -> str:
    """The ranks at the ends of the interval, the others' figures taken as exact."""
    if row.interval is None:
        return ""
    best, worst = rank_range(row.interval, [each.best_known for each in group.rows if each is not row])
    return f" ({best} to {worst} by its 95 % interval)" if best != worst else f" ({best} also by its 95 % interval)"


def _unranked(group: Group) -> str:
    return f" {group.why}." if group.why else ""


def _family(row: ModelRow) -> str:
    """Architecture family and use of extra data: `ResNet-18 without extra data`."""
    family = architecture_family(row.architecture) or row.architecture
    return f"{family} {'with' if row.extra_data else 'without'} extra data"


def _add_best(
    marks: dict[ModelRow, str], what: str, rows: Sequence[ModelRow], accept: Callable[[ModelRow], bool] = lambda _: True
) -> None:
    """Mark the first accepted row as `what`, unless it has a mark."""
    for row in [row for row in rows if accept(row)][:1]:
        marks.setdefault(row, what)
