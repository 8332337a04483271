"""Paper tables of one board for a terminal; their contents: paper_tables.py."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.core.formatting import eps_text, percent_with_std
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry
from rb_smooth.leaderboard.reports.paper_tables import COLUMN_TITLES, TableRow, build_tables


def text_tables(
    entries: Sequence[Entry], add_published: int = 0, board: tuple[str, str] | None = None
) -> list[Table | str]:
    """Tables and lines to print: accuracies in percent, the best method in bold. Arguments: `build_tables`."""
    lines: list[Table | str] = []
    for content in build_tables(entries, add_published, board):
        protocol, rows = content["protocol"], content["rows"]
        figures = [figure for figure in COLUMN_TITLES if any(row[figure] for row in rows)]
        title = f"{content['dataset']} {protocol['norm']} eps {eps_text(protocol['eps'])}, {protocol['n']} test points"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
        table.add_column("method", overflow="fold")
        table.add_column("architecture", overflow="fold")
        for column in ("seeds", *((COLUMN_TITLES | {"autoattack": attack_title(protocol)})[each] for each in figures)):
            table.add_column(column, justify="right")
        for row in rows:
            cells = [row["title"], row["architecture"], str(len(row["seeds"]) or ""), *(_cell(row[e]) for e in figures)]
            table.add_row(*cells, style="bold" if row["best"] else None)
        lines.append(table)
        if content["remark"]:
            lines.append(f"published entries not ranked: {content['remark']}")
    return lines


def _cell(figure: TableRow | None) -> str:
    return "" if figure is None or figure["mean"] is None else percent_with_std(figure["mean"], figure["std"])
