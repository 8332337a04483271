"""The theory's statements hold on their problems, break beyond their assumptions, and the program says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from rb_smooth import theory as program
from rb_smooth.analysis.theory import linear, linear_statements
from rb_smooth.analysis.theory.numeric import largest_ratio, random_pairs
from rb_smooth.analysis.theory.results import BoundCheck, Counterexample
from rb_smooth.analysis.theory.tables import results_table
from rb_smooth.core.cli import run_cli
from rb_smooth.theory import STATEMENTS, check_statements


@pytest.fixture(scope="module")
def found():
    return list(check_statements([], seed=0, gamma=1.0))


def test_every_statement_of_the_paper_is_examined_in_its_order(found):
    names = list(dict.fromkeys(name for name, _ in found))
    assert names == list(STATEMENTS)
    assert sorted(names) == sorted(
        ["Prop. 1", *(f"Lemma {i}" for i in range(1, 6)), *(f"Theorem {i}" for i in (1, 2, 3)), "Eq. (77)"]
    )


def test_every_statement_holds_and_breaks_beyond_its_assumptions(found):
    assert [(name, row.part) for name, row in found if not row.holds] == []
    broken = {name: row.falsifier.breaks for name, row in found if row.falsifier}
    assert broken == dict.fromkeys(STATEMENTS, True)


def test_they_do_so_for_other_random_parameters_and_another_gamma():
    rows = [row for _, row in check_statements([], seed=1, gamma=8.0)]
    assert all(row.holds and (row.falsifier is None or row.falsifier.breaks) for row in rows)


def test_bounds_that_can_be_attained_nearly_are(found):
    rows = {(name, row.part): row for name, row in found}
    for key in (("Prop. 1", "Eq. (8)"), ("Lemma 2", "Eq. (15)"), ("Theorem 2", "Eq. (18)")):
        assert rows[key].measured > 0.995 * rows[key].bound
    assert rows["Prop. 1", "Eq. (9), L2"].measured == pytest.approx(
        linear_statements.EPS, abs=1e-3
    )  # between theta and -theta, at 0
    assert rows["Theorem 2", "at a sign change"].constants["2ε σ(z)"] == pytest.approx(0.48157481)
    assert rows["Theorem 3", "of |θ|"].constants["L_γ″(0)"] == pytest.approx(0.525135, abs=1e-6)


def test_random_numbers_of_a_statement_are_its_own():
    (alone,) = (row for name, row in check_statements(["Lemma 1"], 3, 1.0))
    among = dict(check_statements(["Prop. 1", "Lemma 1"], 3, 1.0))["Lemma 1"]
    assert alone.measured == among.measured
    assert alone.measured != dict(check_statements(["Lemma 1"], 4, 1.0))["Lemma 1"].measured


def test_pairs_lie_where_they_should_and_some_are_close():
    pairs = random_pairs(np.random.default_rng(0), 1000, 3, 0.1, 2.0)
    lengths = np.linalg.norm(pairs, axis=-1)
    assert 0.1 * (1 - 1e-12) <= lengths.min() <= 0.1 * (1 + 1e-12)
    assert 2.0 * (1 - 1e-12) <= lengths.max() <= 2.0 * (1 + 1e-12)
    close = np.linalg.norm(pairs[0] - pairs[1], axis=-1) < 0.11 * lengths[0]
    assert close[::2].all()
    assert close[1::2].mean() < 0.1


def test_pairs_that_rounding_would_decide_do_not_count():
    theta = np.array([[1.0, 0.0]])
    assert largest_ratio(lambda t: 3 * t, theta, theta + 1e-3) == pytest.approx(3)
    assert largest_ratio(lambda t: 3 * t, theta, theta + 1e-8) == 0


def test_a_row_holds_up_to_rounding_and_never_without_a_number():
    def row(measured, bound=2.0):
        return BoundCheck("", "", "", bound, measured)

    assert row(2 + 1e-12).holds
    assert row(2 + 1e-12).margin == 0
    assert not row(2 + 1e-6).holds
    assert row(1.5).margin == 0.5
    assert not row(float("nan")).holds
    assert row(0.0, bound=0.0).holds
    assert not row(1e-15, bound=0.0).holds


def test_a_falsifier_breaks_if_it_grows_beyond_the_bound():
    assert Counterexample("", 1.0, (0.5, 2.0, 3.0)).breaks
    assert not Counterexample("", 4.0, (0.5, 2.0, 3.0)).breaks
    assert not Counterexample("", 1.0, (3.0, 2.0, 1.5)).breaks
    assert not Counterexample("", 1.0, (2.0, 3.0, float("nan"))).breaks


# The program


@pytest.fixture
def run_typed(monkeypatch, capsys):
    """The program run as typed: its exit code, what it printed, and what it said of errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["theory", *arguments])
        code = run_cli(program.main)()
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run


def test_the_program_prints_each_statement_with_its_figures_and_what_breaks_it(run_typed):
    ran = run_typed("--only", "Lemma 2")
    assert ran.code == 0
    heads, first, *rest = ran.out.splitlines()
    assert heads.split() == ["statement", "bound", "measured", "margin", "holds"]
    assert first.split() == ["Lemma", "2,", "Eq.", "(15)", "6", "6", "0", "yes"]
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
        bool(row.falsifier) for _, row in found
    )


def test_as_json_a_row_has_all_that_the_table_has(run_typed):
    ran = run_typed("--json", "--only", "Lemma 3", "--only", "Lemma 1")
    assert ran.code == 0
    rows = json.loads(ran.out)
    assert [row["statement"] for row in rows] == ["Lemma 1", "Lemma 3", "Lemma 3"]
    for row in rows:
        assert set(row) == {
            "statement",
            "part",
            "claim",
            "formula",
            "bound",
            "measured",
            "margin",
            "holds",
            "constants",
            "falsifier",
        }
        assert row["holds"] is True
    assert set(rows[0]["falsifier"]) == {"sentence", "bound", "measured", "breaks"}
    assert rows[0]["falsifier"]["breaks"] is True
    assert rows[2]["falsifier"] is None


def test_a_wrong_constant_fails_with_1_naming_the_statement(run_typed, monkeypatch):
    right = linear.constants
    monkeypatch.setattr(
        linear, "constants", lambda *of: linear.LogisticLossConstants(*(0.9 * each for each in right(*of)))
    )
    ran = run_typed("--only", "Theorem 2")
    assert ran.code == 1
    assert ran.err.strip().splitlines() == [
        "rb_smooth: expected statements to hold, and to break beyond their assumptions, "
        "got Theorem 2, Eq. (18) (does not hold)"
    ]
    assert "NO" in ran.out


def test_a_bound_that_does_not_break_fails_with_1_too(run_typed, monkeypatch):
    monkeypatch.setattr(linear_statements, "NEAR", np.array([0.5, 0.4, 0.3]))
    ran = run_typed("--only", "Lemma 2")
    assert ran.code == 1
    assert ran.err.strip().endswith("got Lemma 2, Eq. (15) (does not break)")
    assert "STANDS" in ran.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "Lema 2"], "expected a statement, got 'Lema 2'; did you mean 'Lemma 2'?"),
        (["--gamma", "0"], "expected gamma > 0, got 0; enlarge it"),
        (["--gamma", "-3"], "expected gamma > 0, got -3; enlarge it"),
        (["--gamma", "nan"], "expected gamma > 0, got nan; enlarge it"),
        (["--gamma", "1000"], "expected gamma between 0.1 and 10, got 1000; choose one in between"),
        (["--seed", "-1"], "expected seed >= 0, got -1; choose another"),
    ],
)
def test_what_is_mistyped_is_refused_in_one_line(run_typed, arguments, told):
    ran = run_typed(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith(f"rb_smooth: {told}")
    assert len(ran.err.splitlines()) == 1


def test_the_page_on_the_theory_has_the_rows_that_the_program_finds(run_typed, tmp_path):
    page = Path(__file__).parents[1] / "docs/theory.md"
    (tmp_path / "theory.md").write_bytes(page.read_bytes())
    assert run_typed("--write", str(tmp_path / "theory.md")).code == 0
    assert (tmp_path / "theory.md").read_text() == page.read_text()
    assert "**" not in page.read_text()  # none fails, all break


def test_a_document_without_a_place_for_a_statement_is_left_as_it_is(run_typed, tmp_path):
    (tmp_path / "short.md").write_text("<!-- Lemma 2 -->\n<!-- /Lemma 2 -->\n")
    ran = run_typed("--only", "Lemma 2", "--only", "Lemma 3", "--write", str(tmp_path / "short.md"))
    assert ran.code == 2
    assert "expected '<!-- Lemma 3 -->' and '<!-- /Lemma 3 -->' once in short.md" in ran.err
    assert "holds" not in (tmp_path / "short.md").read_text()


def test_figures_are_drawn_into_the_folder_and_named(run_typed, monkeypatch, tmp_path):
    drawn = SimpleNamespace(draw_all=lambda folder: [folder / "balls.png"])
    monkeypatch.setitem(sys.modules, "rb_smooth.analysis.theory.figures", drawn)
    ran = run_typed("--only", "Lemma 2", "--figures", str(tmp_path))
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == f"drawn: {tmp_path / 'balls.png'}"
    assert json.loads(run_typed("--only", "Lemma 2", "--figures", str(tmp_path), "--json").out)


def test_the_theory_costs_no_torch_and_no_pictures():
    code = "import sys, rb_smooth.theory; assert not {'torch', 'matplotlib'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
