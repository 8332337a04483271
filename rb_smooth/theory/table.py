"""Statements as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from rb_smooth.theory.rows import Row

_FOOT = (
    "Bound and measured are over ‖θ₁ − θ₂‖ where the formula has it; of an equality, measured is the largest error and "
    "bound the tolerance. Below a statement stands what breaks it, where an assumption is left out."
)


def table_of(found: Sequence[tuple[str, Row]]) -> Table:
    """(statement, row) of each: formula, claim and constants beside the figures, and below them what breaks it."""
    table = Table(
        box=None, padding=(0, 1, 0, 0), pad_edge=False, caption=_FOOT, caption_justify="left", caption_style=""
    )
    table.add_column("statement", ratio=1)
    for head in ("bound", "measured", "margin"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("holds", no_wrap=True)
    for name, row in found:
        table.add_row(
            _said(name, row), *map(_short, (row.bound, row.measured, row.margin)), _verdict(row.holds, "yes", "NO")
        )
        if (falsifier := row.falsifier) is not None:
            verdict = _verdict(falsifier.breaks, "breaks", "STANDS")
            figures = map(_short, (falsifier.bound, falsifier.measured[-1]))
            table.add_row(Text(falsifier.sentence, style="italic"), *figures, "", verdict)
        table.add_row()
    return table


def _said(name: str, row: Row) -> Text:
    constants = ", ".join(
        f"{key} {'' if key.endswith('≤') else '= '}{value:.4g}" for key, value in row.constants.items()
    )
    lines = [(f"{name}, {row.part}", "bold"), (row.claim, ""), (row.formula, ""), (constants, "dim")]
    return Text("\n").join(Text(text, style) for text, style in lines if text)


def _short(value: float) -> str:
    return f"{value:.3g}"


def _verdict(as_expected: bool, good: str, bad: str) -> Text:
    return Text(good) if as_expected else Text(bad, style="bold red")
