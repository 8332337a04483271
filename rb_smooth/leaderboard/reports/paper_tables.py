"""Contents of paper tables: our entries of one board by method, mean ± standard deviation over seeds; as CSV too.

Entries that differ only in the seed are one row. Entries of another protocol (threat, attack, points or selection) are
in a table of their own. The best method is marked only where the test paired over seeds, with Holm's correction, finds
it better: `comparison.best_method`. latex.py makes LaTeX of the same contents.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import eps_text
from rb_smooth.evaluation.score import attack_title, selection_title
from rb_smooth.leaderboard.entries import Entry, published_entries
from rb_smooth.leaderboard.metadata import architecture_title
from rb_smooth.leaderboard.reports.board import make_board
from rb_smooth.leaderboard.reports.ranking import unranked_reason
from rb_smooth.leaderboard.reports.rows import ModelRow, published_rows
from rb_smooth.training.sweep.comparison import RunResult, best_method, compare_methods

COLUMN_TITLES = {
    "clean": "Clean",
    "pgd20": "PGD-20",
    "autoattack": "AutoAttack",
    "last_pgd20": "Last PGD-20",
    "gap": "Gap",
}

_TRAINING_COLUMNS = ("last_pgd20", "gap")
"""Columns of runs; an external checkpoint has no values for them."""

NOT_KNOWN = "not known"
"""`selected_on` of an external checkpoint."""

_SEED_SUFFIX = re.compile(r"_s\d+(?=_[0-9a-f]{6}$|$)")

TableRow = dict[str, Any]


def build_tables(
    entries: Sequence[Entry], add_published: int = 0, board: tuple[str, str] | None = None
) -> list[dict[str, Any]]:
    """The tables' content as plain values: one table per protocol, best rows first.

    Each has `dataset`, the group's `protocol` and `differences` (`comparison.compare_methods`), `rows` and `remark`.
    A row: `title`, `architecture`, `seeds`, `ours`, `best`, `extra_data`, and for every column of accuracies `mean` and
    `std` (shares), or None. add_published: the number of RobustBench's best to add to comparable tables; elsewhere
    `remark` says why there are none. board: (data set, norm): without entries, the tables are of its published models.
    Raises UserError for no models, for entries of several boards, and if published rows fit no table.
    """
    if not entries and board and published_rows(*board):
        return [_published_table(group.rows, add_published) for group in make_board(*board, []).groups]
    boards = {(entry.dataset, entry.threat) for entry in entries}
    if len(boards) != 1:
        names = ", ".join(sorted(" ".join(board) for board in boards)) or "no entries"
        raise UserError(f"expected entries of one board, got {names}; name a data set and a norm that has entries")
    by_run = {_run(entry): entry for entry in entries}
    groups = compare_methods(map(_result, entries), all_pairs=False)
    made = [_table(group, by_run, add_published) for group in groups]
    if add_published and all(each["remark"] for each in made):
        raise UserError(f"expected entries comparable with published ones, got none ({made[0]['remark']}); omit those")
    return made


def as_csv(entries: Sequence[Entry], add_published: int = 0, board: tuple[str, str] | None = None) -> str:
    """One line per row of each table; accuracies are shares in [0, 1], empty where there is no value."""
    rows = [_csv_row(table, row) for table in build_tables(entries, add_published, board) for row in table["rows"]]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A number as it is; a text on one line, with ' before one that a spreadsheet would take for a formula."""
    if not isinstance(value, str):
        return value
    text = " ".join(value.split())
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _csv_row(table: dict[str, Any], row: TableRow) -> dict[str, Any]:
    protocol = table["protocol"]
    return {
        "dataset": table["dataset"],
        "norm": protocol["norm"],
        "eps": eps_text(protocol["eps"]),
        "attack": attack_title(protocol),
        "n": protocol["n"],
        "fingerprint": protocol["fingerprint"] if row["ours"] else "",
        "selected_on": selection_title(protocol) if row["ours"] else "",
        "method": row["title"],
        "architecture": row["architecture"],
        "extra_data": row["extra_data"],
        "source": "ours" if row["ours"] else "published",
        "seeds": " ".join(map(str, row["seeds"])),
        "best": row["best"],
        **{
            f"{'robust' if figure == 'autoattack' else figure}_{part}": (row[figure] or {}).get(part)
            for figure in COLUMN_TITLES
            for part in ("mean", "std")
        },
    }


def _run(entry: Entry) -> tuple[str, int]:
    """(the entry's name without its seed, the seed); one that was not trained here has seed 0 and its full name."""
    if entry.is_external or "train" not in entry.own["recipe"]:
        return entry.name, 0
    return _SEED_SUFFIX.sub("", entry.name), entry.own["recipe"]["train"]["seed"]


def _result(entry: Entry) -> RunResult:
    """Fields that an external checkpoint lacks get placeholders here; `_row` removes them."""
    score = {"selected_on": NOT_KNOWN, "last": {"pgd20": entry.own["score"]["pgd20"]}} | entry.own["score"]
    return RunResult(*_run(entry), score | {"title": entry.own["method"]})


def _table(group: dict[str, Any], by_run: dict[tuple[str, int], Entry], add_published: int) -> dict[str, Any]:
    members = [by_run[method["method"], method["seeds"][0]] for method in group["methods"]]
    best = best_method(group)
    rows = [_row(method, entry, best) for method, entry in zip(group["methods"], members, strict=True)]
    names = [method["method"] for method in group["methods"]]
    alike: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        alike.setdefault((row["title"], row["architecture"]), []).append(place)
    for places in alike.values():
        if len(places) > 1:  # other settings under the same title
            for place, note in zip(places, _distinctions([members[place] for place in places]), strict=True):
                rows[place]["title"] = f"{rows[place]['title']} ({note})" if note else names[place]
    first = members[0]
    remark, source = "", ""
    if add_published:
        board = make_board(first.dataset, first.threat, [first])
        own = board.local[0]
        comparable = [row for row in board.group_of(own).rows if row.entry is None]
        rows += map(_published_row, comparable[:add_published])
        remark = unranked_reason(own, board)
        source = "" if remark or not board.source else f"{board.source['source']}, {board.source['date']}"
    rows.sort(key=lambda row: -row["autoattack"]["mean"])
    if not rows[0]["ours"]:  # best of ours, but below a published model
        rows = [row | {"best": False} for row in rows]
    return {"dataset": first.dataset, "rows": rows, "remark": remark, "source": source, **group}


def _distinctions(entries: Sequence[Entry]) -> list[str]:
    """`lr 0.05, gamma 0.01`: the settings in which each of several recipes differs from the others.

    Empty texts if there are more than three, or too few to tell every recipe from the others.
    """
    settings: list[dict[str, Any]] = []
    for entry in entries:
        sections = {name: section for name, section in entry.own["recipe"].items() if name != "evaluate"}
        settings.append(
            {
                f"{name}.{key}": value
                for name, section in sections.items()
                for key, value in (section.items() if isinstance(section, dict) else [("stages", section)])
                if (name, key) != ("train", "seed")
            }
        )
    keys = sorted({key for each in settings for key in each})
    different = [key for key in keys if any(each.get(key) != settings[0].get(key) for each in settings)]
    notes = [", ".join(f"{key.partition('.')[2]} {each.get(key, 'default')}" for key in different) for each in settings]
    return notes if len(different) <= 3 and len(set(notes)) == len(notes) else [""] * len(notes)


def _published_table(members: Sequence[ModelRow], most: int) -> dict[str, Any]:
    """The table of one group of published models; most: their number, 0 for all."""
    first = members[0]
    table, eps = published_entries(first.dataset, first.threat), float(Fraction(first.eps))
    protocol = {"norm": first.threat, "eps": eps, "n": first.n, "version": "standard", "fingerprint": ""}
    return {
        "dataset": first.dataset,
        "rows": [_published_row(row) for row in (members[:most] if most else members)],
        "remark": "",
        "source": f"{table['source']}, {table['date']}",
        "protocol": protocol | {"selected_on": ""},
        "differences": [],
    }


def _row(method: TableRow, entry: Entry, best: str | None) -> TableRow:
    return {
        "title": method["title"],
        "architecture": architecture_title(entry),
        "extra_data": bool(entry.info["additional_data"]),
        "seeds": method["seeds"],
        "ours": True,
        "best": method["method"] == best,
        **{figure: {part: method[figure][part] for part in ("mean", "std")} for figure in COLUMN_TITLES},
        **({} if "last" in entry.own["score"] else dict.fromkeys(_TRAINING_COLUMNS)),
    }


def _published_row(row: ModelRow) -> TableRow:
    return {
        "title": row.name,
        "architecture": row.architecture,
        "extra_data": row.extra_data,
        "seeds": [],
        "ours": False,
        "best": False,
        **dict.fromkeys(COLUMN_TITLES),
        "clean": {"mean": row.clean, "std": None},
        "autoattack": {"mean": row.robust, "std": None},
    }
