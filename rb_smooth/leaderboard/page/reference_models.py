"""Headline, rank sentence and reference models of a board or a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rb_smooth.core.formatting import percent
from rb_smooth.leaderboard.metadata import architecture_family
from rb_smooth.leaderboard.page.boards import Board, Group
from rb_smooth.leaderboard.page.rows import ModelRow
from rb_smooth.leaderboard.reports.ranking import rank, rank_range


@dataclass(frozen=True)
class ReferenceModel:
    """A model to compare with. what: its role, such as `best published`. mine: the compared model itself."""

    what: str
    row: ModelRow
    mine: bool = False


def headline(board: Board) -> str:
    """The board in one sentence: our best model, its accuracy and its rank."""
    if not board.ours:
        return f"{_format_count(len(board.rows), 'published model')}; none of ours is on this board yet."
    best = best_of_ours(board)
    group = group_of(board, best)
    figure = f"Our best, {best.name}, keeps {percent(best.robust)} % of test points right"
    if best.attack != "AutoAttack":
        return f"{figure} under the quick attacks: an upper bound, not AutoAttack.{_unranked(group)}"
    if len(group.rows) == 1:
        return f"{figure} under AutoAttack.{_unranked(group)}"
    return (
        f"{figure} under AutoAttack: rank {best.rank} of {len(group.rows)}{_rank_range(best, group)}.{_unranked(group)}"
    )


def best_of_ours(board: Board) -> ModelRow:
    """Our best model in the first group with one of ours: a ranked model goes before a more accurate unranked one.

    Models marked unreliable are taken only if there are no others.
    """
    group = group_of(board, board.ours[0])
    return min((row for row in group.rows if row.ours), key=lambda row: bool(row.unreliable))


def group_of(board: Board, row: ModelRow) -> Group:
    return next(group for group in board.groups if row in group.rows)


def board_references(board: Board) -> list[ReferenceModel]:
    """Our best; the best published, with and without extra data, and of our best's family. No model twice."""
    first = board.groups[0].rows
    mine = [ReferenceModel("best of ours", best_of_ours(board), mine=True)] if board.ours else []
    marks = mine + _best_model("best published", first, lambda row: not row.ours)
    marks += _best_model("best published without extra data", first, lambda row: not row.ours and not row.extra_data)
    if mine:
        best = mine[0].row
        marks += _best_model(
            f"best published {_family_description(best)}",
            first,
            lambda row: not row.ours and _is_same_family(row, best),
        )
    return _deduplicate(marks)


def model_references(row: ModelRow, group: Group) -> list[ReferenceModel]:
    """The first of the group, `row` between its neighbours, and the best other model of its family; best first."""
    place = group.rows.index(row)
    marks = [ReferenceModel("first", group.rows[0])]
    marks += _best_model(
        f"best other {_family_description(row)}",
        group.rows,
        lambda each: each is not row and _is_same_family(each, row),
    )
    marks += [ReferenceModel("next above", each) for each in group.rows[max(place - 1, 0) : place]]
    marks += [ReferenceModel("this model", row, mine=True)]
    marks += [ReferenceModel("next below", each) for each in group.rows[place + 1 : place + 2]]
    marks = [mark for mark in marks if mark.mine or mark.row is not row]
    return sorted(_deduplicate(marks), key=lambda mark: group.rows.index(mark.row))


def rank_sentence(row: ModelRow, group: Group) -> str:
    """`Rank 61 of 95 (59 to 63 by its 95 % interval); 4 of 12 among PreActResNet-18 without extra data.`"""
    if row.rank is None:
        return f"No other model of this board has the same protocol.{_unranked(group)}"
    family = [each for each in group.rows if _is_same_family(each, row)]
    place = f"; {_rank_in(row, family)} of {len(family)} among {_family_description(row)}"
    among = place if 1 < len(family) < len(group.rows) else ""
    return f"Rank {row.rank} of {len(group.rows)}{_rank_range(row, group)}{among}.{_unranked(group)}"


def _rank_range(row: ModelRow, group: Group) -> str:
    """The ranks at the ends of the interval, the others' figures taken as exact."""
    if row.interval is None:
        return ""
    best, worst = rank_range(row.interval, [each.best_known for each in group.rows if each is not row])
    return f" ({best} to {worst} by its 95 % interval)" if best != worst else f" ({best} also by its 95 % interval)"


def _rank_in(row: ModelRow, rows: Sequence[ModelRow]) -> int:
    return rank(row.best_known, (each.best_known for each in rows))


def _unranked(group: Group) -> str:
    return f" {group.why}." if group.why else ""


def _is_same_family(one: ModelRow, other: ModelRow) -> bool:
    """Of one architecture family, and both with or both without extra data."""
    names = [architecture_family(row.architecture) or row.architecture for row in (one, other)]
    return names[0] == names[1] and one.extra_data == other.extra_data


def _family_description(row: ModelRow) -> str:
    return (
        f"{architecture_family(row.architecture) or row.architecture} {'with' if row.extra_data else 'without'} "
        "extra data"
    )


def _best_model(what: str, rows: Sequence[ModelRow], predicate: Callable[[ModelRow], bool]) -> list[ReferenceModel]:
    return [ReferenceModel(what, row) for row in rows if predicate(row)][:1]


def _deduplicate(marks: Sequence[ReferenceModel]) -> list[ReferenceModel]:
    """Each model once, in its first role; the compared model stays in its own."""
    ordered = sorted(marks, key=lambda mark: not mark.mine)
    found: dict[str, ReferenceModel] = {}
    for mark in ordered:
        found.setdefault(mark.row.key, mark)
    return [mark for mark in marks if found[mark.row.key] is mark]


def _format_count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
