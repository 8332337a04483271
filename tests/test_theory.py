"""The theory's statements hold, their counterexamples break them, and `rb_smooth.theory` reports both."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from write_docs import theory_blocks

from rb_smooth import theory as program
from rb_smooth.analysis.theory import linear, linear_statements
from rb_smooth.analysis.theory.numeric import largest_ratio, random_pairs
from rb_smooth.analysis.theory.results import BoundCheck, Counterexample, results_table
from rb_smooth.core.cli import run_cli
from rb_smooth.core.errors import UserError
from rb_smooth.core.files import write_between
from rb_smooth.theory import STATEMENTS, check_statements


@pytest.fixture(scope="module")
def found():
    return list(check_statements([], seed=0, gamma=1.0))


def test_every_statement_of_the_paper_is_checked_in_its_order(found):
    names = list(dict.fromkeys(name for name, _ in found))
    assert names == list(STATEMENTS)
    assert sorted(names) == sorted(
        ["Prop. 1", "Eq. (13)", *(f"Lemma {i}" for i in range(1, 6)), *(f"Theorem {i}" for i in (1, 2, 3)), "Eq. (77)"]
    )


def test_every_statement_holds_and_every_counterexample_breaks_it(found):
    assert [(name, row.part) for name, row in found if not row.holds] == []
    broken = {name: row.counterexample.breaks for name, row in found if row.counterexample}
    assert broken == dict.fromkeys(STATEMENTS, True)


def test_they_do_for_another_seed_and_gamma():
    rows = [row for _, row in check_statements([], seed=1, gamma=8.0)]
    assert all(row.holds and (row.counterexample is None or row.counterexample.breaks) for row in rows)


def test_tight_bounds_are_nearly_attained(found):
    rows = {(name, row.part): row for name, row in found}
    for key in (("Prop. 1", "Eq. (8)"), ("Lemma 2", "Eq. (15)"), ("Theorem 2", "Eq. (18)")):
        assert rows[key].measured > 0.995 * rows[key].bound
    at_0 = rows["Prop. 1", "Eq. (9), L2"].measured  # between theta and -theta
    assert at_0 == pytest.approx(linear_statements.EPS, abs=1e-3)
    assert rows["Theorem 2", "at a sign change"].constants["2ε σ(z)"] == pytest.approx(0.48157481)
    assert rows["Theorem 3", "of |θ|"].constants["L_γ″(0)"] == pytest.approx(0.525135, abs=1e-6)


def test_random_numbers_depend_only_on_the_seed_and_the_statement():
    (alone,) = (row for name, row in check_statements(["Lemma 1"], 3, 1.0))
    among = dict(check_statements(["Prop. 1", "Lemma 1"], 3, 1.0))["Lemma 1"]
    assert alone.measured == among.measured
    assert alone.measured != dict(check_statements(["Lemma 1"], 4, 1.0))["Lemma 1"].measured


def test_random_pairs_have_norms_in_range_and_half_are_close():
    pairs = random_pairs(np.random.default_rng(0), 1000, 3, 0.1, 2.0)
    lengths = np.linalg.norm(pairs, axis=-1)
    assert 0.1 * (1 - 1e-12) <= lengths.min() <= 0.1 * (1 + 1e-12)
    assert 2.0 * (1 - 1e-12) <= lengths.max() <= 2.0 * (1 + 1e-12)
    close = np.linalg.norm(pairs[0] - pairs[1], axis=-1) < 0.11 * lengths[0]
    assert close[::2].all()
    assert close[1::2].mean() < 0.1


def test_pairs_within_rounding_distance_are_ignored():
    theta = np.array([[1.0, 0.0]])
    assert largest_ratio(lambda t: 3 * t, theta, theta + 1e-3) == pytest.approx(3)
    assert largest_ratio(lambda t: 3 * t, theta, theta + 1e-8) == 0


def test_a_check_holds_up_to_rounding_and_not_for_nan():
    def row(measured, bound=2.0):
        return BoundCheck("", "", "", bound, measured)

    assert row(2 + 1e-12).holds
    assert row(2 + 1e-12).margin == 0
    assert not row(2 + 1e-6).holds
    assert row(1.5).margin == 0.5
    assert not row(float("nan")).holds
    assert row(0.0, bound=0.0).holds
    assert not row(1e-15, bound=0.0).holds


def test_a_counterexample_must_increase_beyond_the_bound():
    assert Counterexample("", 1.0, (0.5, 2.0, 3.0)).breaks
    assert not Counterexample("", 4.0, (0.5, 2.0, 3.0)).breaks
    assert not Counterexample("", 1.0, (3.0, 2.0, 1.5)).breaks
    assert not Counterexample("", 1.0, (2.0, 3.0, float("nan"))).breaks


# The program


@pytest.fixture
def run_typed(monkeypatch, capsys):
    """Run the program; returns exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["theory", *arguments])
        code = run_cli(program.main)()
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run


def test_the_program_prints_claim_numbers_and_counterexample(run_typed):
    ran = run_typed("--only", "Lemma 2")
    assert ran.code == 0
    heads, first, *rest = ran.out.splitlines()
    assert heads.split() == ["statement", "bound", "measured", "margin", "holds"]
    assert first.split() == ["Lemma", "2,", "the", "attack", "1e-09", *first.split()[-3:-1], "yes"]
    assert any(line.split() == ["Lemma", "2,", "Eq.", "(15)", "6", "6", "0", "yes"] for line in rest)
    assert "‖x′(θ₁) − x′(θ₂)‖ ≤ (ε/θ_min) ‖θ₁ − θ₂‖" in ran.out
    assert "ε = 0.6, θ_min = 0.1" in ran.out
    assert any(line.startswith("Without θ_min") and line.split()[-1] == "breaks" for line in rest)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_is_readable_on_a_narrow_terminal(found, width):
    console = Console(width=width, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(results_table(found))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in captured.get()
    assert len([line for line in lines if line.rstrip().endswith("yes")]) == len(found)
    assert len([line for line in lines if line.rstrip().endswith("breaks")]) == sum(
        bool(row.counterexample) for _, row in found
    )


def test_json_has_every_column_of_the_table(run_typed):
    ran = run_typed("--json", "--only", "Lemma 3", "--only", "Lemma 1")
    assert ran.code == 0
    rows = json.loads(ran.out)
    assert [row["statement"] for row in rows] == ["Lemma 1", *["Lemma 3"] * 3]
    for row in rows:
        assert set(row) == {
            *("statement", "part", "claim", "formula", "bound", "measured"),
            *("margin", "holds", "constants", "falsifier"),
        }
        assert row["holds"] is True
    assert set(rows[0]["falsifier"]) == {"sentence", "bound", "measured", "breaks"}
    assert rows[0]["falsifier"]["breaks"] is True
    assert rows[3]["falsifier"] is None


def test_a_statement_that_does_not_hold_gives_exit_code_1(run_typed, monkeypatch):
    right = linear.constants
    monkeypatch.setattr(
        linear, "constants", lambda *of: linear.LogisticLossConstants(*(0.9 * each for each in right(*of)))
    )
    ran = run_typed("--only", "Theorem 2")
    assert ran.code == 1
    assert ran.err.strip().splitlines() == [
        "rb_smooth: expected every statement to hold and every counterexample to break one, "
        "got Theorem 2, Eq. (18) (does not hold)"
    ]
    assert "NO" in ran.out


def test_a_counterexample_that_does_not_break_gives_exit_code_1(run_typed, monkeypatch):
    monkeypatch.setattr(linear_statements, "NEAR", np.array([0.5, 0.4, 0.3]))
    ran = run_typed("--only", "Lemma 2")
    assert ran.code == 1
    assert ran.err.strip().endswith("got Lemma 2, Eq. (15) (counterexample does not break it)")
    assert "NO BREAK" in ran.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "Lema 2"], "expected a statement, got 'Lema 2'; did you mean 'Lemma 2'?"),
        (["--gamma", "0"], "argument --gamma: expected a number of at least 0.1, got '0'"),
        (["--gamma", "-3"], "argument --gamma: expected a number of at least 0.1, got '-3'"),
        (["--gamma", "nan"], "argument --gamma: expected a number, got 'nan'"),
        (["--gamma", "1000"], "argument --gamma: expected a number of at most 10.0, got '1000'"),
        (["--seed", "-1"], "argument --seed: expected a whole number of at least 0, got '-1'"),
    ],
)
def test_invalid_input_is_reported_in_one_line(run_typed, arguments, message):
    ran = run_typed(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith(f"rb_smooth: {message}")
    assert len(ran.err.splitlines()) == 1


def test_the_page_on_the_theory_has_the_programs_numbers(found, tmp_path):
    page = (Path(__file__).parents[1] / "docs/theory.md").read_text()
    (tmp_path / "theory.md").write_text(page)
    write_between(tmp_path / "theory.md", theory_blocks(found))
    assert (tmp_path / "theory.md").read_text() == page
    assert "**" not in page  # no "**fails**"
    columns = [line.replace(r"\|", "").count("|") for line in page.splitlines() if line.startswith("|")]
    assert set(columns) == {6}


def test_a_document_without_a_place_for_a_statement_is_unchanged(found, tmp_path):
    (tmp_path / "short.md").write_text("<!-- Lemma 2 -->\n<!-- /Lemma 2 -->\n")
    with pytest.raises(UserError, match=r"expected '<!-- Prop\. 1 -->' and '<!-- /Prop\. 1 -->' once in short\.md"):
        write_between(tmp_path / "short.md", theory_blocks(found))
    assert "holds" not in (tmp_path / "short.md").read_text()


def test_figures_are_written_to_the_folder_and_listed(run_typed, monkeypatch, tmp_path):
    drawn = SimpleNamespace(draw_all=lambda folder: [folder / "balls.png"])
    monkeypatch.setitem(sys.modules, "rb_smooth.analysis.theory.figures", drawn)
    ran = run_typed("--only", "Lemma 2", "--figures", str(tmp_path))
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == f"drawn: {tmp_path / 'balls.png'}"
    assert json.loads(run_typed("--only", "Lemma 2", "--figures", str(tmp_path), "--json").out)


def test_the_theory_imports_neither_torch_nor_matplotlib():
    code = "import sys, rb_smooth.theory; assert not {'torch', 'matplotlib'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
