"""Find models by name: entries of the leaderboard's folder, and RobustBench's published ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.leaderboard.entries import list_entries, published_entries
from rb_smooth.leaderboard.reports.board import Board, make_board, published_boards
from rb_smooth.leaderboard.reports.rows import ModelRow


def find_models(
    names: Sequence[str], leaderboard: Path, dataset: str | None = None, threat: str | None = None
) -> list[tuple[ModelRow, Board]]:
    """The models named, each once and with its board; an entry goes before a published model of the same name.

    dataset, threat: of the board. Without them a name that several boards have is taken on the board of the names
    before it, and a published one else on the first of RobustBench's boards, CIFAR-10 Linf, as its `load_model` does.
    Raises UserError for an unknown name, with the most similar one, and for entries of one name on several boards.
    """
    entries, _ = list_entries(leaderboard, dataset, threat, names)
    found: dict[str, dict[tuple[str, str], None]] = {}
    for entry in entries:
        found.setdefault(entry.name, {})[entry.dataset, entry.threat] = None
    own = set(found)
    for place in published_boards():
        if dataset in (None, place[0]) and threat in (None, place[1]):
            for each in published_entries(*place)["entries"]:
                if each["name"] not in own:
                    found.setdefault(each["name"], {})[place] = None
    boards: dict[tuple[str, str], Board] = {}
    models: dict[str, tuple[ModelRow, Board]] = {}
    for name in dict.fromkeys(names):
        if name not in found:
            raise UserError(f"expected an entry of {leaderboard} or a published one, {did_you_mean(name, found)}")
        places = [place for place in found[name] if place in boards] or list(found[name])
        if name in own and len(places) != 1:
            listed = ", ".join(" ".join(place) for place in found[name])
            raise UserError(
                f"expected one model called {name}, got one in each of {listed}; say --dataset and --threat"
            )
        if places[0] not in boards:
            members = [entry for entry in entries if (entry.dataset, entry.threat) == places[0]]
            boards[places[0]] = make_board(*places[0], members)
        board = boards[places[0]]
        models[name] = next(row for row in board.rows if row.name == name and bool(row.entry) == (name in own)), board
    return list(models.values())
