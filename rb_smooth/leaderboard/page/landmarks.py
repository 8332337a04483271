"""How good a model is, compared with what: in a sentence, and beside the models that a reader would ask about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rb_smooth.core.formatting import percent
from rb_smooth.leaderboard.metadata import architecture_family
from rb_smooth.leaderboard.page.boards import Board, Group
from rb_smooth.leaderboard.page.rows import ModelRow


@dataclass(frozen=True)
class ReferenceModel:
    """A model to measure others by. what: why this one, in words. mine: whether it is the one that is measured."""

    what: str
    row: ModelRow
    mine: bool = False


def headline(board: Board) -> str:
    """What a reader who leaves after one sentence should know of this board."""
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
    """The best in the first group that any of ours is in: a rank among the published outweighs a higher figure.

    One whose figures may be unreliable is passed over while there is another.
    """
    group = group_of(board, board.ours[0])
    return min((row for row in group.rows if row.ours), key=lambda row: bool(row.unreliable))


def group_of(board: Board, row: ModelRow) -> Group:
    return next(group for group in board.groups if row in group.rows)


def board_reference_models(board: Board) -> list[ReferenceModel]:
    """Our best, the best published, and the best published of its architecture that used the same kind of data."""
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


def reference_models(row: ModelRow, group: Group) -> list[ReferenceModel]:
    """The first of the group, this one between its neighbours, and the best of its kind; best first."""
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
        return f"Nothing on this board is measured as this is.{_unranked(group)}"
    kin = [each for each in group.rows if _is_same_family(each, row)]
    better = sum(each.best_known > row.best_known for each in kin)
    among = f"; {better + 1} of {len(kin)} among {_family_description(row)}" if 1 < len(kin) < len(group.rows) else ""
    return f"Rank {row.rank} of {len(group.rows)}{_rank_range(row, group)}{among}.{_unranked(group)}"


def _rank_range(row: ModelRow, group: Group) -> str:
    """The ranks at the ends of the interval, the others' figures taken as they stand."""
    if row.interval is None:
        return ""
    low, high = row.interval
    others = [each.best_known for each in group.rows if each is not row]
    best, worst = (1 + sum(other > end for other in others) for end in (high, low))
    return f" ({best} to {worst} by its 95 % interval)" if best != worst else f" ({best} also by its 95 % interval)"


def _unranked(group: Group) -> str:
    return f" {group.why}." if group.why else ""


def _is_same_family(one: ModelRow, other: ModelRow) -> bool:
    """Of one architecture, pre-activation or not, and both with extra data or both without."""
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
    """Without repeating a model; what is measured stays, then the first reason to name a model does."""
    ordered = sorted(marks, key=lambda mark: not mark.mine)
    found: dict[str, ReferenceModel] = {}
    for mark in ordered:
        found.setdefault(mark.row.key, mark)
    return [mark for mark in marks if found[mark.row.key] is mark]


def _format_count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
