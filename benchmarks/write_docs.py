"""Write the tables of docs/recipes.md, docs/theory.md and docs/smoothness.md from the code and stored measurements.

python benchmarks/write_docs.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rb_smooth.analysis.smoothness.records import read_records
from rb_smooth.analysis.smoothness.tables import report_lines
from rb_smooth.analysis.theory.results import BoundCheck, Counterexample
from rb_smooth.config.reference import write_keys
from rb_smooth.core.console import render_text
from rb_smooth.core.files import write_between
from rb_smooth.theory import check_statements

DOCS = Path(__file__).parents[1] / "docs"

_TOLERANCE = 1e-5
"""Bounds up to this are tolerances of equalities; their error is rounding and differs between machines."""


def main() -> None:
    write_keys(DOCS / "recipes.md")
    write_between(DOCS / "theory.md", theory_blocks(list(check_statements([], seed=0, gamma=1.0))))
    write_between(DOCS / "smoothness.md", smoothness_blocks(DOCS / "results/smoothness-digits.json"))


def theory_blocks(results: Sequence[tuple[str, BoundCheck]]) -> Mapping[str, Sequence[str]]:
    """By statement, the lines between <!-- Lemma 2 --> and <!-- /Lemma 2 -->."""
    rows: dict[str, list[BoundCheck]] = {}
    for name, row in results:
        rows.setdefault(name, []).append(row)
    return {name: markdown_lines(each) for name, each in rows.items()}


def smoothness_blocks(path: Path) -> Mapping[str, Sequence[str]]:
    """The report of the measurements in `path`, between <!-- smoothness --> and <!-- /smoothness -->."""
    return {"smoothness": ["```text", render_text(report_lines(read_records(path)), wrapped=True), "```"]}


def markdown_lines(rows: Sequence[BoundCheck]) -> list[str]:
    """A Markdown table of one statement's rows, and a paragraph for each counterexample."""
    lines = ["| | claim | bound | measured | |", "|---|---|---|---|---|"]
    for row in rows:
        claim = "<br>".join(filter(None, (row.claim, row.formula, row.constants_text(digits=3))))
        part, claim = (text.replace("|", r"\|") for text in (row.part, claim))
        lines.append(f"| {part} | {claim} | {_numbers(row)} | {'holds' if row.holds else '**fails**'} |")
    return [*lines, *(f"\n{_paragraph(row.part, row.counterexample)}" for row in rows if row.counterexample)]


def _numbers(row: BoundCheck) -> str:
    if row.bound <= _TOLERANCE:
        return f"{row.bound:.0e} | below it" if row.bound else "0 | 0"
    return f"{row.bound:.3g} | {row.measured:.3g}"


def _paragraph(part: str, case: Counterexample) -> str:
    verdict = f"above the bound, {case.bound:.3g}" if case.breaks else "**not above the bound**"
    return f"*Counterexample to {part}.* {case.sentence.removesuffix('.')}: {verdict}."


if __name__ == "__main__":
    main()
