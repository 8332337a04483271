"""Paper tables: means over seeds, bold only by the test, LaTeX escaping, correct names of attacks."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from datetime import date
from statistics import fmean, stdev

import pytest
from fake_entries import SCORE, make_entry

from rb_smooth.core.console import console
from rb_smooth.core.errors import UserError
from rb_smooth.leaderboard.entries import published_entries
from rb_smooth.leaderboard.metadata import PAPERS
from rb_smooth.leaderboard.reports.latex import as_latex, escape_latex, render_table
from rb_smooth.leaderboard.reports.paper_tables import as_csv, build_tables
from rb_smooth.leaderboard.reports.printed_tables import text_tables

DAY = date(2026, 1, 31)


def seeds(folder, method, values, title=None, first=0, **more):
    """One entry for each value, of seeds `first`, `first` + 1, …"""
    return [
        make_entry(
            folder,
            f"{method}_resnet18_s{seed}",
            autoattack=value,
            own={"method": title or method},
            recipe={"train": {"seed": seed}},
            **more,
        )
        for seed, value in enumerate(values, start=first)
    ]


def board(folder):
    """at+awp is better than at by about as much for every seed."""
    return seeds(folder, "at", [0.500, 0.510, 0.505]) + seeds(folder, "at+awp", [0.530, 0.541, 0.534])


def balanced(latex: str) -> bool:
    """Whether braces, environments and dollars of the LaTeX, without comments, are balanced."""
    text = re.sub(r"^%.*$", "", latex, flags=re.M)
    bare = re.sub(r"\\[\\&%$#_{}]", "", text)
    depth = 0
    for mark in bare:
        depth += {"{": 1, "}": -1}.get(mark, 0)
        if depth < 0:
            return False
    opened: list[str] = []
    for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", bare):
        if what == "begin":
            opened.append(name)
        elif not opened or opened.pop() != name:
            return False
    return depth == 0 and not opened and bare.count("$") % 2 == 0


def test_a_row_is_the_mean_and_the_deviation_over_seeds(tmp_path):
    latex = as_latex(board(tmp_path), made=DAY)
    spread = f"{100 * fmean([0.530, 0.541, 0.534]):.2f}}} $\\pm$ {100 * stdev([0.530, 0.541, 0.534]):.2f}"
    (line,) = [line for line in latex.splitlines() if "AT+AWP & " in line]
    assert spread in line
    assert " & 3 & " in line


def test_bold_only_where_the_paired_test_is_significant(tmp_path):
    latex = as_latex(board(tmp_path), made=DAY)
    assert re.findall(r"\\textbf\{([\d.]+)\}", latex) == ["53.50"]
    assert "Holm" in latex
    by_chance = seeds(tmp_path / "b", "at", [0.50, 0.52, 0.51]) + seeds(tmp_path / "b", "at+awp", [0.53, 0.51, 0.52])
    latex = as_latex(by_chance, made=DAY)
    assert "textbf" not in latex
    assert "Holm" not in latex
    untested = seeds(tmp_path / "c", "at", [0.5]) + seeds(tmp_path / "c", "at+awp", [0.9])
    assert "textbf" not in as_latex(untested, made=DAY)


def test_best_of_ours_is_not_bold_below_a_published_row(tmp_path):
    (table,) = build_tables(board(tmp_path), 2)
    assert [row["ours"] for row in table["rows"]] == [False, False, True, True]
    assert "textbf" not in as_latex(board(tmp_path), 2, DAY)


def test_the_caption_has_points_protocol_eps_selection_and_date(tmp_path):
    latex = as_latex(board(tmp_path), made=DAY)
    (caption,) = re.findall(r"\\caption\{(.*)\}", latex)
    for expected in (
        "10000 test points",
        "AutoAttack",
        "standard",
        r"\ell_\infty",
        "8/255",
        "validation",
        "2026-01-31",
    ):
        assert expected in caption, expected


def test_one_table_per_protocol_and_quick_is_never_called_autoattack(tmp_path):
    quick = seeds(tmp_path, "at", [0.5, 0.6], first=10, version="quick")
    other = seeds(tmp_path, "at", [0.5], first=20, threat=SCORE["threat"] | {"eps": 0.031})
    chosen = seeds(tmp_path, "at", [0.5], first=30, selected_on="test")
    latex = as_latex(board(tmp_path) + quick + other + chosen, made=DAY)
    assert latex.count(r"\begin{table}") == 4
    assert balanced(latex)
    for text in (as_latex(quick, made=DAY), as_csv(quick)):
        assert "upper bound (quick, not AutoAttack)" in text
        assert "autoattack" not in text.lower().replace("not autoattack", "")
    assert "selected on test" in as_latex(chosen, made=DAY)
    assert "= 0.031" in as_latex(other, made=DAY)


HOSTILE = r"50% & $x_1$ #{a}\input{b} ~^ <script> \\ | \"q\""


def test_titles_are_escaped(tmp_path):
    latex = as_latex(seeds(tmp_path, "at", [0.5, 0.6], title=HOSTILE), made=DAY)
    assert balanced(latex)
    assert not re.search(r"\\input|(?<!\\)[#]", latex.partition(r"\caption")[2])
    (row,) = [line for line in latex.splitlines() if "script" in line]
    assert len(re.findall(r"(?<!\\)&", row)) == 7
    assert escape_latex("a\n\n b_c") == r"a b\_c"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex: test_titles_are_escaped checks the balance")
def test_the_table_compiles(tmp_path):
    body = as_latex(seeds(tmp_path, "at", [0.5, 0.6], title=HOSTILE) + board(tmp_path / "b"), 3, DAY)
    text = f"\\documentclass{{article}}\\usepackage[T1]{{fontenc}}\\usepackage{{booktabs}}\\begin{{document}}{body}"
    (tmp_path / "a.tex").write_text(text + "\\end{document}")
    subprocess.run(["pdflatex", "-halt-on-error", "a.tex"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


def test_published_rows_are_added_to_comparable_tables(tmp_path):
    best = [row for row in published_entries("cifar10", "Linf")["entries"] if row["eps"] == "8/255"][:3]
    latex = as_latex(board(tmp_path), 3, DAY)
    for row in best:
        (line,) = [line for line in latex.splitlines() if f"{escape_latex(row['name'])}~" in line]
        assert f"{100 * row['autoattack']:.2f}" in line
        assert ("$^{+}$" in line) == row["extra_data"]
    assert published_entries("cifar10", "Linf")["date"] in latex
    assert balanced(latex)


def test_incomparable_published_rows_are_left_out_with_the_reason(tmp_path):
    small = seeds(tmp_path, "at", [0.5], first=10, whole=False, n=500)
    latex = as_latex(board(tmp_path) + small, 1, DAY)
    assert latex.count("Bartoldson") == 1
    assert re.search(r"^% published entries not ranked: test points: 500 \(SHA", latex, re.M)
    with pytest.raises(UserError, match="test points: 500"):
        as_latex(small, 1)


def test_csv_columns(tmp_path):
    rows = list(csv.DictReader(io.StringIO(as_csv(board(tmp_path), 1))))
    assert [row["source"] for row in rows] == ["published", "ours", "ours"]
    ours = rows[1]
    assert float(ours["robust_mean"]) == pytest.approx(fmean([0.530, 0.541, 0.534]))
    assert float(ours["robust_std"]) == pytest.approx(stdev([0.530, 0.541, 0.534]))
    assert (ours["method"], ours["seeds"], ours["n"], ours["eps"]) == ("at+awp", "0 1 2", "10000", "8/255")
    assert (rows[0]["pgd20_mean"], rows[0]["seeds"], rows[0]["fingerprint"]) == ("", "", "")


def test_a_checkpoint_has_no_training_columns(tmp_path):
    origin = {"origin": {"checkpoint": "net.pt", "sha256": "ab"}, "recipe": {"data": {}, "evaluate": {}}}
    one, two = (make_entry(tmp_path, f"net_s{seed}", own=origin | {"method": f"net {seed}"}) for seed in (1, 2))
    for entry in (one, two):
        del entry.own["score"]["last"], entry.own["score"]["selected_on"], entry.own["score"]["training"]
    (table,) = build_tables([one, two])  # two rows: their names' ends are no seeds
    assert [row["title"] for row in table["rows"]] == ["net 1", "net 2"]
    assert all(row["gap"] is None and row["last_pgd20"] is None for row in table["rows"])
    assert "how the weights were selected is not known" in as_latex([one, two])
    assert "Gap" not in as_latex([one, two])


def test_methods_of_one_title_are_distinguished_by_name(tmp_path):
    one = make_entry(tmp_path, "at_resnet18_s0")
    two = make_entry(tmp_path, "at_resnet18_s0_abc123")
    (table,) = build_tables([one, two])
    assert [row["title"] for row in table["rows"]] == ["at_resnet18", "at_resnet18_abc123"]


@pytest.mark.parametrize("what", ["none", "two boards"])
def test_only_one_board_makes_tables(tmp_path, what):
    both = [make_entry(tmp_path, "a"), make_entry(tmp_path, "b", dataset="digits")]
    with pytest.raises(UserError, match="one board"):
        build_tables([] if what == "none" else both)


# ---- BibTeX


@pytest.mark.parametrize(
    ("sections", "keys"),
    [
        ({}, {"madry2017towards"}),
        (
            {"objective": {"name": "trades"}, "perturbation": {"name": "awp"}},
            {"zhang2019theoretically", "wu2020adversarial"},
        ),
        ({"objective": {"name": "mart"}}, {"wang2020improving"}),
        (
            {"optimizer": [{"name": "sgd", "from_epoch": 0}, {"name": "entropy_sgd2", "from_epoch": 5}]},
            {"madry2017towards", "kanai2021smoothness", "chaudhari2016entropy"},
        ),
    ],
)
def test_every_method_used_in_any_stage_is_cited_and_no_other(tmp_path, sections, keys):
    text = render_table([make_entry(tmp_path, name, recipe=sections) for name in ("a", "b")], "bibtex")
    assert set(re.findall(r"^@\w+\{(\w+),", text, re.M)) == keys | {"croce2020reliable", "croce2020robustbench"}
    assert text.count("@") == len(keys) + 2  # each once
    assert text.count("{") == text.count("}")


def test_papers_have_the_year_of_their_number_and_names_with_commas():
    for paper in PAPERS:
        assert paper.eprint is not None or paper.url is not None
        assert paper.eprint is None or paper.eprint.startswith(f"{paper.year % 100}")
        assert all(author.count(",") == 1 for author in paper.authors.split(" and "))


def test_a_key_cited_in_a_table_is_in_the_bibliography(tmp_path):
    latex, bibtex = as_latex(board(tmp_path), 1, DAY), render_table(board(tmp_path), "bibtex")
    cited = set(re.findall(r"\\cite\{(\w+)\}", latex))
    assert cited == {"croce2020reliable", "croce2020robustbench"}
    assert all(f"{{{key}," in bibtex for key in cited)


def test_render_table_by_form(tmp_path):
    mine = board(tmp_path)
    assert render_table(mine, "csv", 1) == as_csv(mine, 1)
    assert render_table(mine, "latex", 2).count("\\toprule") == 1


def test_the_table_of_a_terminal_has_the_figures_in_percent_and_names_what_is_not_ranked(tmp_path):
    with console.capture() as caught:
        for line in text_tables(board(tmp_path), 1):
            console.print(line)
    out = caught.get()
    rows = list(csv.DictReader(io.StringIO(as_csv(board(tmp_path), 1))))
    for row in rows:
        assert f"{100 * float(row['robust_mean']):.2f}" in out
        assert row["fingerprint"][:12] not in out or not row["fingerprint"]
    assert "test points" in out
    assert "AutoAttack" in out


def test_tables_of_a_board_without_entries_are_of_its_published_models(tmp_path):
    board_ = ("cifar10", "Linf")
    rows = list(csv.DictReader(io.StringIO(as_csv([], board=board_))))
    assert len(rows) == len(published_entries(*board_)["entries"])
    assert {row["source"] for row in rows} == {"published"}
    assert {row["eps"] for row in rows} == {"8/255", "0.031"}
    latex = as_latex([], 3, DAY, board_)
    assert latex.count("\\begin{table}") == 3 - 1  # one for each eps
    assert balanced(latex)
    assert "CIFAR-10" in latex
    assert "seeds" not in latex.partition("caption")[2].partition("}")[0]
    with pytest.raises(UserError, match="no entries"):
        as_csv([], board=("digits", "Linf"))


def test_names_in_a_table_are_those_of_papers_and_settings_that_differ(tmp_path):
    slow = make_entry(tmp_path, "at_resnet18_s0", own={"method": "at+ensgd"})
    fast = make_entry(tmp_path, "at_resnet18_s0_abc123", own={"method": "at+ensgd"}, recipe={"optimizer": {"lr": 0.05}})
    latex = as_latex([slow, fast], made=DAY)
    assert "AT+EnSGD (lr 0.05" in latex
    assert "CIFAR-10, $" in latex
    (table,) = build_tables([slow, fast])
    assert {row["title"] for row in table["rows"]} == {
        "at+ensgd (lr 0.1, name sgd)",
        "at+ensgd (lr 0.05, name default)",
    }
    assert table["rows"][0]["title"].startswith("at+ensgd")  # a CSV has the names of recipes
