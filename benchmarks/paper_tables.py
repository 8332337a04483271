"""The papers' tables in their layout, with what was measured of each cell: Markdown for docs/reproducing.md."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from measurements import FIGURES, MAIN, figure, head, line

from rb_smooth.config.listing import Cell
from rb_smooth.core.formatting import percent
from rb_smooth.evaluation.score import attack_title

TOLD_WITH_THE_FIGURE = ("train.select=", "train.keep=", "train.log_test=", "evaluate.")
"""Settings that a cell does not name and that leave its figure a figure of the cell."""

COLUMNS = dict(zip(MAIN, ("AT", "AT+EnSGD", "AWP", "AWP+EnSGD"), strict=True))
"""Of Table 1 of Kanai et al., by method."""

Record = dict[str, Any]
"""What `reproducing` says of benchmarks/*.json."""


def overview_lines(cells: Sequence[Cell], results: Mapping[str, Record]) -> Iterator[str]:
    """Table 1 of Kanai et al. in its layout, ours / theirs; below it the same methods where we measured others."""
    of_table = [cell for cell in cells if "Kanai" in cell.paper and "1" in cell.table.split(", ")]
    yield from head("data (attack, network)", *COLUMNS.values())
    for row, group in groupby(of_table, lambda cell: cell.row):
        key = "autoattack" if "(AA" in row else "pgd20"
        yield line(row, *(f"{_alone(key, cell, results)} / not available" for cell in group))
    for name, record in results.items():
        for group in record["groups"]:
            rows = {row["method"]: row for row in group["methods"]}
            if rows.keys() & COLUMNS.keys():
                n = group["protocol"]["n"]
                ours = (figure("autoattack", rows[method], n) if method in rows else "" for method in COLUMNS)
                yield line(f"ours: {record['images']} ({attack_title(group['protocol'])}; {link(name)})", *ours)
    yield ""


def paper_lines(cells: Sequence[Cell], results: Mapping[str, Record]) -> Iterator[str]:
    """A table for each row of the paper's tables; where they are several, a cell says in which it stands."""
    for row, group in groupby(cells, lambda cell: cell.row):
        columns = list(group)
        tables = {cell.table for cell in columns}
        yield f"**{row}**{_in(tables.pop()) if len(tables) == 1 else ''}"
        yield ""
        yield from head("cell", "command", "hyperparameters", "ours", "theirs")
        for cell in columns:
            name = cell.column + (_in(cell.table) if tables else "")
            needs = f"; needs {cell.needs}" if cell.needs else ""
            ours = "<br>".join(of_cell(cell, results)) or "not measured yet"
            yield line(name, f"`{command(cell)}`", cell.provenance + needs, ours, _reported(cell))
        yield ""


def command(cell: Cell) -> str:
    settings = [word for setting in cell.settings for word in ("--set", setting)]
    return shlex.join(["python", "-m", "rb_smooth.recipe", *cell.recipe.split("/"), *settings])


def of_cell(cell: Cell, results: Mapping[str, Record]) -> Iterator[str]:
    """What was measured of it, a line for each protocol and length of training."""
    for name, row, protocol in _measured(cell, results):
        yield f"{_ours(row, protocol)} ({_about(row, protocol)}; {link(name)})"


def _measured(cell: Cell, results: Mapping[str, Record]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(file, row, protocol) of all that is this cell's: the same data, method and settings."""
    for name, record in results.items():
        settings = [each for each in record["settings"] if not each.startswith(TOLD_WITH_THE_FIGURE)]
        if record["dataset"] != cell.recipe.split("/")[0] or sorted(settings) != sorted(cell.settings):
            continue
        for group in record["groups"]:
            yield from ((name, row, group["protocol"]) for row in group["methods"] if row["method"] == _method(cell))


def _alone(key: str, cell: Cell, results: Mapping[str, Record]) -> str:
    """One figure of it, without the rest."""
    return "; ".join(figure(key, row, to["n"]) for _, row, to in _measured(cell, results)) or "not measured yet"


def _method(cell: Cell) -> str:
    """Its recipe's, whatever the network."""
    return cell.recipe.split("/")[1]


def _ours(row: dict[str, Any], protocol: dict[str, Any]) -> str:
    names = FIGURES | {"autoattack": attack_title(protocol)}
    return ", ".join(f"{names[key]} {figure(key, row, protocol['n'])}" for key in FIGURES)


def _about(row: dict[str, Any], protocol: dict[str, Any]) -> str:
    """How many seeds and points, and what was done otherwise than the recipe says: its title tells that."""
    seeds = f"{len(row['seeds'])} seed{'s' if len(row['seeds']) > 1 else ''}"
    note = row["title"].removeprefix(row["method"]).strip(" ()")
    return ", ".join(filter(None, [seeds, f"{protocol['n']:,} points", note]))


def _reported(cell: Cell) -> str:
    if cell.reported is None:
        return "not available"
    told = [f"{name} {percent(cell.reported[key])}" for key, name in FIGURES.items() if key in cell.reported]
    return f"{', '.join(told)} ({cell.reported['by']})"


def _in(table: str) -> str:
    return f" (Table{'s' if ',' in table else ''} {table})" if table[0].isdigit() else f" ({table})"


def link(name: str) -> str:
    return f"[{name}.json](../benchmarks/{name}.json)"
