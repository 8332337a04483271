"""The papers' tables in their layout, with our results: Markdown for docs/reproducing.md."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from result_tables import FIGURES, MAIN, figure, table_head, table_line

from rb_smooth.config.listing import PaperResult
from rb_smooth.core.formatting import percent
from rb_smooth.evaluation.score import attack_title

PROTOCOL_SETTINGS = ("train.select=", "train.select_rule=", "train.keep=", "train.log_test=", "evaluate.")
"""Settings that may differ from those of the paper's result."""

COLUMNS = dict(zip(MAIN, ("AT", "AT+EnSGD", "AWP", "AWP+EnSGD"), strict=True))
"""Columns of Table 1 of Kanai et al., by method."""

Record = dict[str, Any]
"""A file of benchmarks/*.json as described in `reproducing`."""


def overview_lines(paper_results: Sequence[PaperResult], results: Mapping[str, Record]) -> Iterator[str]:
    """Table 1 of Kanai et al. in its layout, ours / theirs; then our results of the same methods on other data."""
    of_table = [
        paper_result
        for paper_result in paper_results
        if "Kanai" in paper_result.paper and "1" in paper_result.table.split(", ")
    ]
    yield from table_head("data (attack, network)", *COLUMNS.values())
    for row, group in groupby(of_table, lambda paper_result: paper_result.row):
        key = "autoattack" if "(AA" in row else "pgd20"
        yield table_line(
            row, *(f"{_single_figure(key, paper_result, results)} / not available" for paper_result in group)
        )
    for name, record in results.items():
        for group in record["groups"]:
            rows = {row["method"]: row for row in group["methods"]}
            if rows.keys() & COLUMNS.keys():
                n = group["protocol"]["n"]
                ours = (figure("autoattack", rows[method], n) if method in rows else "" for method in COLUMNS)
                yield table_line(
                    f"ours: {record['images']} ({attack_title(group['protocol'])}; {anchor_link(name)})", *ours
                )
    yield ""


def paper_lines(paper_results: Sequence[PaperResult], results: Mapping[str, Record]) -> Iterator[str]:
    """A table per row of the paper's tables; each result names its tables if they differ."""
    for row, group in groupby(paper_results, lambda paper_result: paper_result.row):
        columns = list(group)
        tables = {paper_result.table for paper_result in columns}
        yield f"**{row}**{_table_row(tables.pop()) if len(tables) == 1 else ''}"
        yield ""
        yield from table_head("result", "command", "hyperparameters", "ours", "theirs")
        for paper_result in columns:
            name = paper_result.column + (_table_row(paper_result.table) if tables else "")
            needs = f"; needs {paper_result.needs}" if paper_result.needs else ""
            ours = "<br>".join(result_lines(paper_result, results)) or "not measured yet"
            yield table_line(
                name, f"`{command(paper_result)}`", paper_result.provenance + needs, ours, _reported(paper_result)
            )
        yield ""


def command(paper_result: PaperResult) -> str:
    settings = [word for setting in paper_result.settings for word in ("--set", setting)]
    return shlex.join(["python", "-m", "rb_smooth.recipe", *paper_result.recipe.split("/"), *settings])


def result_lines(paper_result: PaperResult, results: Mapping[str, Record]) -> Iterator[str]:
    """Our results of it, a line per protocol and training length."""
    for name, row, protocol in _measured(paper_result, results):
        yield f"{_ours(row, protocol)} ({_caveats(row, protocol)}; {anchor_link(name)})"


def _measured(
    paper_result: PaperResult, results: Mapping[str, Record]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(file, row, protocol) of our results with the same data, method and settings."""
    for name, record in results.items():
        settings = [each for each in record["settings"] if not each.startswith(PROTOCOL_SETTINGS)]
        if record["dataset"] != paper_result.recipe.split("/")[0] or sorted(settings) != sorted(paper_result.settings):
            continue
        for group in record["groups"]:
            yield from (
                (name, row, group["protocol"]) for row in group["methods"] if row["method"] == _method(paper_result)
            )


def _single_figure(key: str, paper_result: PaperResult, results: Mapping[str, Record]) -> str:
    """One figure of our results."""
    return "; ".join(figure(key, row, to["n"]) for _, row, to in _measured(paper_result, results)) or "not measured yet"


def _method(paper_result: PaperResult) -> str:
    """The method of its recipe, for any network."""
    return paper_result.recipe.split("/")[1]


def _ours(row: dict[str, Any], protocol: dict[str, Any]) -> str:
    names = FIGURES | {"autoattack": attack_title(protocol)}
    return ", ".join(f"{names[key]} {figure(key, row, protocol['n'])}" for key in FIGURES)


def _caveats(row: dict[str, Any], protocol: dict[str, Any]) -> str:
    """Numbers of seeds and points, and changes to the recipe, which the title names."""
    seeds = f"{len(row['seeds'])} seed{'s' if len(row['seeds']) > 1 else ''}"
    note = row["title"].removeprefix(row["method"]).strip(" ()")
    return ", ".join(filter(None, [seeds, f"{protocol['n']:,} points", note]))


def _reported(paper_result: PaperResult) -> str:
    if paper_result.reported is None:
        return "not available"
    told = [
        f"{name} {percent(paper_result.reported[key])}" for key, name in FIGURES.items() if key in paper_result.reported
    ]
    return f"{', '.join(told)} ({paper_result.reported['by']})"


def _table_row(table: str) -> str:
    return f" (Table{'s' if ',' in table else ''} {table})" if table[0].isdigit() else f" ({table})"


def anchor_link(name: str) -> str:
    return f"[{name}.json](../benchmarks/{name}.json)"
