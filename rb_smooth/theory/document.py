"""The rows of the statements within a Markdown document, each below its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rb_smooth.documents import write_between
from rb_smooth.theory.rows import Falsifier, Row

_TOLERANCE = 1e-5
"""Up to here a bound is the tolerance of an equality, whose error is rounding's and differs between machines."""


def write_rows(found: Sequence[tuple[str, Row]], path: Path) -> None:
    """Put each statement's rows into the document at `path`, between <!-- Lemma 2 --> and <!-- /Lemma 2 -->.

    Raises Refused where the file is missing, or has no such place for a statement; then nothing is written.
    """
    names = dict.fromkeys(name for name, _ in found)
    write_between(path, {name: markdown([row for owner, row in found if owner == name]) for name in names})


def markdown(rows: Sequence[Row]) -> list[str]:
    """One statement's rows as the lines of a table, and below it what breaks them."""
    lines = ["| | claim | bound | measured | |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.part} | {row.claim}{_formula(row)} | {_figures(row)} | {'holds' if row.holds else '**fails**'} |"
        for row in rows
    ]
    return [*lines, *(f"\n{_broken(row.part, row.falsifier)}" for row in rows if row.falsifier is not None)]


def _formula(row: Row) -> str:
    constants = [f"{key} {'' if key.endswith('≤') else '= '}{value:.3g}" for key, value in row.constants.items()]
    lines = ["", row.formula, ", ".join(constants)]
    return "<br>".join(lines if constants else lines[:2]).replace("|", "\\|")


def _figures(row: Row) -> str:
    if row.bound <= _TOLERANCE:
        return f"{row.bound:.0e} | below it" if row.bound else "0 | 0"
    return f"{row.bound:.3g} | {row.measured:.3g}"


def _broken(part: str, falsifier: Falsifier) -> str:
    verdict = f"beyond the bound, {falsifier.bound:.3g}" if falsifier.breaks else "**which does not break it**"
    return f"*What breaks {part}.* {falsifier.sentence.removesuffix('.')}: {verdict}."
