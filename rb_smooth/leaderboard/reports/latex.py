"""Paper tables of our entries of one board: LaTeX, CSV and BibTeX.

Entries that differ only in the seed are one row: mean ± sample standard deviation over seeds. Entries of another
protocol (threat, attack, points or selection) are in a table of their own. Bold marks the best method only where the
test paired over seeds, with Holm's correction, finds it better: `comparison.best_method`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Any

from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import eps_text, percent
from rb_smooth.evaluation.score import attack_title, selection_title
from rb_smooth.leaderboard.entries import Entry
from rb_smooth.leaderboard.metadata import AUTOATTACK, ROBUSTBENCH, architecture_title, papers_of, to_bibtex
from rb_smooth.leaderboard.reports.board import make_board
from rb_smooth.leaderboard.reports.ranking import unranked_reason
from rb_smooth.leaderboard.reports.rows import ModelRow
from rb_smooth.training.sweep.comparison import RunResult, best_method, compare_methods

_COLUMN_TITLES = {
    "clean": "Clean",
    "pgd20": "PGD-20",
    "autoattack": "AutoAttack",
    "last_pgd20": "Last PGD-20",
    "gap": "Gap",
}

_TRAINING_COLUMNS = ("last_pgd20", "gap")
"""Columns of runs; an external checkpoint has no values for them."""

_NOT_KNOWN = "not known"
"""`selected_on` of an external checkpoint."""

_SEED_SUFFIX = re.compile(r"_s\d+(?=_[0-9a-f]{6}$|$)")

_LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
} | {mark: f"\\{mark}" for mark in "&%$#_{}"}

TableRow = dict[str, Any]


def build_tables(entries: Sequence[Entry], add_published: int = 0) -> list[dict[str, Any]]:
    """The tables' content as plain values: one table per protocol, best rows first.

    Each has `dataset`, the group's `protocol` and `differences` (`comparison.compare_methods`), `rows` and `remark`.
    A row: `title`, `architecture`, `seeds`, `ours`, `best`, `extra_data`, and for every column of accuracies `mean` and
    `std` (shares), or None. add_published: the number of RobustBench's best to add to comparable tables; elsewhere
    `remark` says why there are none. Raises UserError for no entries, for entries of several boards, and if published
    rows fit no table.
    """
    boards = {(entry.dataset, entry.threat) for entry in entries}
    if len(boards) != 1:
        names = ", ".join(sorted(" ".join(board) for board in boards)) or "no entries"
        raise UserError(f"expected entries of one board, got {names}; name a data set and a norm that has entries")
    by_run = {_run(entry): entry for entry in entries}
    made = [_table(group, by_run, add_published) for group in compare_methods(map(_result, entries))]
    if add_published and all(each["remark"] for each in made):
        raise UserError(f"expected entries comparable with published ones, got none ({made[0]['remark']}); omit those")
    return made


def as_latex(entries: Sequence[Entry], add_published: int = 0, made: date | None = None) -> str:
    r"""Tables in percent, for `\usepackage{booktabs}`. made: the date in the caption, today if None."""
    day = made or date.today()
    head = "% needs \\usepackage{booktabs}; references: the same command with --bibtex\n"
    return head + "\n".join(_latex_table(each, day) for each in build_tables(entries, add_published))


def as_csv(entries: Sequence[Entry], add_published: int = 0) -> str:
    """One line per row of each table; accuracies are shares in [0, 1], empty where there is no value."""
    import pandas

    rows = [_csv_row(table, row) for table in build_tables(entries, add_published) for row in table["rows"]]
    text: str = pandas.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n")
    return text


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
            for figure in _COLUMN_TITLES
            for part in ("mean", "std")
        },
    }


def render_table(entries: Sequence[Entry], form: str, add_published: int = 0) -> str:
    """The tables in a `form`: latex or csv; or bibtex, the papers of the methods, of AutoAttack and of RobustBench."""
    if form == "bibtex":
        return to_bibtex(paper for entry in entries for paper in papers_of(entry))
    return {"latex": as_latex, "csv": as_csv}[form](entries, add_published)


def escape_latex(text: str) -> str:
    """`text` with LaTeX's special characters escaped, on one line."""
    return "".join(_LATEX_ESCAPES.get(mark, mark) for mark in " ".join(text.split()))


def _run(entry: Entry) -> tuple[str, int]:
    """(the entry's name without its seed, the seed); an external checkpoint has seed 0 and its full name."""
    if "origin" in entry.own:
        return entry.name, 0
    return _SEED_SUFFIX.sub("", entry.name), entry.own["recipe"]["train"]["seed"]


def _result(entry: Entry) -> RunResult:
    """Fields that an external checkpoint lacks get placeholders here; `_row` removes them."""
    score = {"selected_on": _NOT_KNOWN, "last": {"pgd20": entry.own["score"]["pgd20"]}} | entry.own["score"]
    return RunResult(*_run(entry), score | {"title": entry.own["method"]})


def _table(group: dict[str, Any], by_run: dict[tuple[str, int], Entry], add_published: int) -> dict[str, Any]:
    members = [by_run[method["method"], method["seeds"][0]] for method in group["methods"]]
    best = best_method(group)
    rows = [_row(method, entry, best) for method, entry in zip(group["methods"], members, strict=True)]
    titles = [(row["title"], row["architecture"]) for row in rows]
    for row, method in zip(rows, group["methods"], strict=True):
        if titles.count((row["title"], row["architecture"])) > 1:  # other settings under the same title
            row["title"] = method["method"]
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


def _row(method: TableRow, entry: Entry, best: str | None) -> TableRow:
    return {
        "title": method["title"],
        "architecture": architecture_title(entry),
        "extra_data": bool(entry.info["additional_data"]),
        "seeds": method["seeds"],
        "ours": True,
        "best": method["method"] == best,
        **{figure: {part: method[figure][part] for part in ("mean", "std")} for figure in _COLUMN_TITLES},
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
        **dict.fromkeys(_COLUMN_TITLES),
        "clean": {"mean": row.clean, "std": None},
        "autoattack": {"mean": row.robust, "std": None},
    }


def _latex_table(table: dict[str, Any], day: date) -> str:
    import pandas

    figures = [figure for figure in _COLUMN_TITLES if any(row[figure] for row in table["rows"])]
    attack = "AutoAttack" if table["protocol"]["version"] == "standard" else "Upper bound"
    titles = _COLUMN_TITLES | {"autoattack": attack}
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
    name = escape_latex(row["title"]) + ("" if row["ours"] else f"~\\cite{{{ROBUSTBENCH}}}")
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
        f"{escape_latex(table['dataset'])}, ${norm}$, $\\varepsilon = {eps_text(protocol['eps'])}$: accuracy in "
        "percent on "
        f"{protocol['n']} test points",
        f"attack: {attack or escape_latex(attack_title(protocol))}",
        "how the weights were selected is not known"
        if protocol["selected_on"] == _NOT_KNOWN
        else f"epoch selected on {escape_latex(selection_title(protocol))}",
        r"mean $\pm$ standard deviation over seeds",
    ]
    if any(row["best"] for row in table["rows"]):
        sentences.append(r"bold: better than the second of ours, paired over seeds, $p < 0.05$ (Holm)")
    if any(row["extra_data"] for row in table["rows"]):
        sentences.append("$^{+}$ extra training data")
    if table["source"]:
        sentences.append(f"published: {escape_latex(table['source'])}")
    return "; ".join(sentences) + f" ({day.isoformat()})."
