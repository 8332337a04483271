"""Headline, rank sentence and reference models of a board or a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rb_smooth.core.formatting import percent_with_std
from rb_smooth.leaderboard.reports.board import Board, Group, Seeds
from rb_smooth.leaderboard.reports.ranking import places_text, position
from rb_smooth.leaderboard.reports.rows import ModelRow

_LANDMARKS = ("WideResNet-34-10 without extra data", "ResNet-18 without extra data")
"""Whose best stand beside the best of a board on which none is ours."""


def headline(board: Board) -> str:
    """The board in one sentence: our best method, its accuracy and its rank."""
    if not board.ours:
        published, external = (_count(board, whose) for whose in ("published", "external"))
        kinds = " and ".join(filter(None, (published, external)))
        return f"{kinds}; none of ours is on this board yet."
    best, group = best_of_ours(board)
    seeds = len(best.rows)
    name = best.rows[0].title if seeds > 1 else best.title
    figure = f"Our best, {name}, keeps {accuracy_text(best)} % of test points right"
    if best.rows[0].attack != "AutoAttack":
        return f"{figure} under the quick attacks: an upper bound, not AutoAttack.{_unranked(group)}"
    if seeds > 1:
        ranks = "" if not best.ranks else f": ranks {best.ranks} of {len(group.rows)} models"
        return f"{figure} under AutoAttack (mean ± standard deviation of {seeds} seeds){ranks}.{_unranked(group)}"
    row = best.rows[0]
    place = f": rank {places_text(position(row, board))}" if row.rank else ""
    return f"{figure} under AutoAttack{place}.{_unranked(group)}"


def _count(board: Board, whose: str) -> str:
    count = sum(row.whose == whose for row in board.rows)
    return f"{count} {whose} model{'' if count == 1 else 's'}" if count else ""


def accuracy_text(seeds: Seeds) -> str:
    """`85.00 ± 0.63`, the mean over seeds of the accuracy that ranks; `85.00` for a single model."""
    return percent_with_std(seeds.mean, seeds.std_of("best_known"))


def best_of_ours(board: Board) -> tuple[Seeds, Group]:
    """Our best method, by the mean over seeds, in the first group with one of ours: ranked goes before more accurate.

    Methods with a model marked unreliable are taken only if there are no others.
    """
    group = next(group for group in board.groups if any(row.ours for row in group.rows))
    ours = [seeds for seeds in group.methods if seeds.rows[0].ours]
    return min(ours, key=lambda seeds: any(row.unreliable for row in seeds.rows)), group


def board_references(board: Board) -> list[tuple[str, Seeds]]:
    """Our best; the best published, with and without extra data, and of our best's family. No model twice."""
    marks: dict[str, tuple[str, Seeds]] = {}
    published = [row for row in board.groups[0].rows if row.entry is None]
    if board.ours:
        best, _ = best_of_ours(board)
        marks[best.rows[0].key] = "best of ours", best
    _add_best(marks, "best published", published)
    _add_best(marks, "best published without extra data", published, lambda row: not row.extra_data)
    if board.ours:
        kin = _family(best.rows[0])
        _add_best(marks, f"best published {kin}", published, lambda row: _family(row) == kin)
    else:
        for family in _LANDMARKS:
            _add_best(marks, f"best published {family}", [row for row in published if _family(row) == family])
    return list(marks.values())


def model_references(row: ModelRow, group: Group) -> list[tuple[str, ModelRow]]:
    """The first of the group, `row` between its neighbours, and the best other model of its family; best first."""
    place = group.places[row.key]
    kin = group.subsets[row.family, row.extra_data].rows[:2]
    marks: dict[str, tuple[str, Seeds]] = {row.key: ("this model", Seeds([row]))}
    _add_best(marks, "first", group.rows[:1])
    _add_best(marks, f"best other {_family(row)}", kin, lambda each: each.key != row.key)
    _add_best(marks, "next above", group.rows[max(place - 1, 0) : place])
    _add_best(marks, "next below", group.rows[place + 1 : place + 2])
    found = [(what, seeds.rows[0]) for what, seeds in marks.values()]
    return sorted(found, key=lambda mark: group.places[mark[1].key])


def rank_sentence(row: ModelRow, board: Board) -> str:
    """`Rank 61 of 96 models (59 to 63 by its 95 % interval); 4 of 12 ResNet-18 without extra data (3 to 5).`"""
    group = board.group_of(row)
    if row.rank is None:
        return f"No other model of this board has the same protocol.{_unranked(group)}"
    return f"Rank {places_text(position(row, board))}.{_unranked(group)}"


def _unranked(group: Group) -> str:
    return f" {group.why}." if group.why else ""


def _family(row: ModelRow) -> str:
    """Architecture family and use of extra data: `ResNet-18 without extra data`."""
    return f"{row.family} {'with' if row.extra_data else 'without'} extra data"


def _add_best(
    marks: dict[str, tuple[str, Seeds]],
    what: str,
    rows: Sequence[ModelRow],
    accept: Callable[[ModelRow], bool] = lambda _: True,
) -> None:
    """Mark the first accepted row as `what`, unless it has a mark."""
    accepted: Iterable[ModelRow] = filter(accept, rows)
    for row in accepted:
        marks.setdefault(row.key, (what, Seeds([row])))
        break
