"""Paper tables of our entries of one board: LaTeX and BibTeX; their contents, and CSV: paper_tables.py."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from rb_smooth.core.formatting import eps_text, percent
from rb_smooth.evaluation.score import attack_title, selection_title
from rb_smooth.leaderboard.entries import Entry
from rb_smooth.leaderboard.metadata import (
    AUTOATTACK,
    PAPERS,
    ROBUSTBENCH,
    dataset_title,
    method_title,
    papers_of,
    to_bibtex,
)
from rb_smooth.leaderboard.reports.paper_tables import COLUMN_TITLES, NOT_KNOWN, TableRow, as_csv, build_tables

_LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
} | {mark: f"\\{mark}" for mark in "&%$#_{}"}


def as_latex(
    entries: Sequence[Entry],
    add_published: int = 0,
    made: date | None = None,
    board: tuple[str, str] | None = None,
) -> str:
    r"""Tables in percent, for `\usepackage{booktabs}`. made: the date in the caption, today if None."""
    day = made or date.today()
    head = "% needs \\usepackage{booktabs}; references: the same command with --bibtex\n"
    return head + "\n".join(_latex_table(each, day) for each in build_tables(entries, add_published, board))


def render_table(
    entries: Sequence[Entry], form: str, add_published: int = 0, board: tuple[str, str] | None = None
) -> str:
    """The tables in a `form`: latex or csv; or bibtex, the papers of the methods, of AutoAttack and of RobustBench.

    board: (data set, norm), whose published models are the table if there are no entries.
    """
    if form == "bibtex":
        always = [paper for paper in PAPERS if not paper.methods]
        return to_bibtex([*(paper for entry in entries for paper in papers_of(entry)), *always])
    if form == "latex":
        return as_latex(entries, add_published, board=board)
    return as_csv(entries, add_published, board)


def escape_latex(text: str) -> str:
    """`text` with LaTeX's special characters escaped, on one line."""
    return "".join(_LATEX_ESCAPES.get(mark, mark) for mark in " ".join(text.split()))


def _latex_table(table: dict[str, Any], day: date) -> str:
    import pandas

    figures = [figure for figure in COLUMN_TITLES if any(row[figure] for row in table["rows"])]
    attack = "AutoAttack" if table["protocol"]["version"] == "standard" else "Upper bound"
    titles = COLUMN_TITLES | {"autoattack": attack}
    headings = ["Method", "Architecture", "Seeds", *(titles[figure] for figure in figures)]
    cells = [_latex_cells(row, figures) for row in table["rows"]]
    latex: str = (
        pandas.DataFrame(cells, columns=headings)
        .style.hide(axis="index")
        .to_latex(
            column_format=f"llr{'r' * len(figures)}",
            hrules=True,
            position_float="centering",
            caption=_caption(table, day),
        )
    )
    remark = f"% published entries not ranked: {' '.join(table['remark'].split())}\n" if table["remark"] else ""
    return remark + latex


def _latex_cells(row: TableRow, figures: list[str]) -> list[str]:
    title = method_title(row["title"]) if row["ours"] else row["title"]
    name = escape_latex(title) + ("" if row["ours"] else f"~\\cite{{{ROBUSTBENCH}}}")
    name += "$^{+}$" if row["extra_data"] else ""
    accuracies = [_spread(row[figure], row["best"] and figure == "autoattack") for figure in figures]
    return [name, escape_latex(row["architecture"]), str(len(row["seeds"]) or "--"), *accuracies]


def _spread(figure: dict[str, float | None] | None, bold: bool) -> str:
    if figure is None or figure["mean"] is None:
        return "--"
    text = percent(figure["mean"])
    text = f"\\textbf{{{text}}}" if bold else text
    return text if figure["std"] is None else f"{text} $\\pm$ {percent(figure['std'])}"


def _caption(table: dict[str, Any], day: date) -> str:
    protocol = table["protocol"]
    norm = {"Linf": r"\ell_\infty", "L2": r"\ell_2"}.get(protocol["norm"], escape_latex(protocol["norm"]))
    attack = f"AutoAttack~\\cite{{{AUTOATTACK}}}, standard" if protocol["version"] == "standard" else ""
    sentences = [
        f"{escape_latex(dataset_title(table['dataset']))}, ${norm}$, $\\varepsilon = {eps_text(protocol['eps'])}$: "
        f"accuracy in percent on {protocol['n']} test points",
        f"attack: {attack or escape_latex(attack_title(protocol))}",
    ]
    if protocol["selected_on"] == NOT_KNOWN:
        sentences.append("how the weights were selected is not known")
    elif protocol["selected_on"]:
        sentences.append(f"epoch selected on {escape_latex(selection_title(protocol))}")
    if any(len(row["seeds"]) > 1 for row in table["rows"]):
        sentences.append(r"mean $\pm$ standard deviation over seeds")
    if any(row["best"] for row in table["rows"]):
        sentences.append(r"bold: better than the second of ours, paired over seeds, $p < 0.05$ (Holm)")
    if any(row["extra_data"] for row in table["rows"]):
        sentences.append("$^{+}$ extra training data")
    if table["source"]:
        sentences.append(f"published: {escape_latex(table['source'])}")
    return "; ".join(sentences) + f" ({day.isoformat()})."
