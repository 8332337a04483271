"""Statements as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from rb_smooth.analysis.theory.results import BoundCheck, Counterexample
from rb_smooth.core.files import write_between

_FOOTNOTE = (
    "Bound and measured are over ‖θ₁ − θ₂‖ where the formula has it; of an equality, measured is the largest error and "
    "bound the tolerance. Below a statement stands what breaks it, where an assumption is left out."
)


def results_table(results: Sequence[tuple[str, BoundCheck]]) -> Table:
    """(statement, row) of each: formula, claim and constants beside the figures, and below them what breaks it."""
    table = Table(
        box=None, padding=(0, 1, 0, 0), pad_edge=False, caption=_FOOTNOTE, caption_justify="left", caption_style=""
    )
    table.add_column("statement", ratio=1)
    for head in ("bound", "measured", "margin"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("holds", no_wrap=True)
    for name, row in results:
        table.add_row(
            _result_cells(name, row),
            *map(_format_number, (row.bound, row.measured, row.margin)),
            _verdict(row.holds, "yes", "NO"),
        )
        if (falsifier := row.falsifier) is not None:
            verdict = _verdict(falsifier.breaks, "breaks", "STANDS")
            figures = map(_format_number, (falsifier.bound, falsifier.measured[-1]))
            table.add_row(Text(falsifier.sentence, style="italic"), *figures, "", verdict)
        table.add_row()
    return table


def _result_cells(name: str, row: BoundCheck) -> Text:
    constants = ", ".join(
        f"{key} {'' if key.endswith('≤') else '= '}{value:.4g}" for key, value in row.constants.items()
    )
    lines = [(f"{name}, {row.part}", "bold"), (row.claim, ""), (row.formula, ""), (constants, "dim")]
    return Text("\n").join(Text(text, style) for text, style in lines if text)


def _format_number(value: float) -> str:
    return f"{value:.3g}"


def _verdict(as_expected: bool, good: str, bad: str) -> Text:
    return Text(good) if as_expected else Text(bad, style="bold red")


_TOLERANCE = 1e-5
"""Up to here a bound is the tolerance of an equality, whose error is rounding's and differs between machines."""


def write_results(results: Sequence[tuple[str, BoundCheck]], path: Path) -> None:
    """Put each statement's rows into the document at `path`, between <!-- Lemma 2 --> and <!-- /Lemma 2 -->.

    Raises UserError where the file is missing, or has no such place for a statement; then nothing is written.
    """
    names = dict.fromkeys(name for name, _ in results)
    write_between(path, {name: markdown_lines([row for owner, row in results if owner == name]) for name in names})


def markdown_lines(rows: Sequence[BoundCheck]) -> list[str]:
    """One statement's rows as the lines of a table, and below it what breaks them."""
    lines = ["| | claim | bound | measured | |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.part} | {row.claim}{_formula(row)} | {_bound_and_measured(row)} | "
        f"{'holds' if row.holds else '**fails**'} |"
        for row in rows
    ]
    return [
        *lines,
        *(f"\n{_counterexample_line(row.part, row.falsifier)}" for row in rows if row.falsifier is not None),
    ]


def _formula(row: BoundCheck) -> str:
    constants = [f"{key} {'' if key.endswith('≤') else '= '}{value:.3g}" for key, value in row.constants.items()]
    lines = ["", row.formula, ", ".join(constants)]
    return "<br>".join(lines if constants else lines[:2]).replace("|", "\\|")


def _bound_and_measured(row: BoundCheck) -> str:
    if row.bound <= _TOLERANCE:
        return f"{row.bound:.0e} | below it" if row.bound else "0 | 0"
    return f"{row.bound:.3g} | {row.measured:.3g}"


def _counterexample_line(part: str, falsifier: Counterexample) -> str:
    verdict = f"beyond the bound, {falsifier.bound:.3g}" if falsifier.breaks else "**which does not break it**"
    return f"*What breaks {part}.* {falsifier.sentence.removesuffix('.')}: {verdict}."
