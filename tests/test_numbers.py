"""Numbers of command lines: finite and in range, or one line and exit code 2."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from rb_smooth import landscape, recipe, smoothness, theory, tune
from rb_smooth.core.numbers import parse_number
from rb_smooth.leaderboard import __main__ as leaderboard
from tests.run_program import run_program

_CHECKPOINT = ("submit", "m.pt", "--arch=resnet18", "--dataset=digits", "--threat=Linf", "--eps=8/255")
PROGRAMS = {
    recipe: (["digits", "at"], ["--seed", "--epochs", "--n-examples", "--workers"]),
    leaderboard: (_CHECKPOINT, ["--step-size", "--seed", "--n-examples", "--batch-size", "--keep-adversarial"]),
    theory: ([], ["--seed", "--gamma"]),
    landscape: (["at-s0"], ["--points", "--range", "--n", "--steps", "--directions", "--seed", "--workers"]),
    smoothness: (["at-s0"], ["--n", "--steps", "--step", "--directions", "--products", "--signs", "--seed"]),
    tune: (["digits", "at"], ["--trials", "--epochs", "--seed", "--workers"]),
}


@pytest.mark.parametrize("text", ["nan", "inf", "-1e999", "abc", "[1]", "null", "", "1" * 5000, "1/0", "-1", "²"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_what_is_no_number_in_range_is_refused_in_one_line(program, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments, options = PROGRAMS[program]
    for option in options:
        assert run_program(program.main, *arguments, f"{option}={text}") == 2
        err = capsys.readouterr().err
        assert re.fullmatch(rf"rb_smooth: argument {option}: expected a (whole )?number.*; see .* --help\n", err)
    assert not list(tmp_path.iterdir())


def test_no_program_reads_a_number_another_way():
    folder = Path(sys.modules["rb_smooth"].__file__).parent
    assert not [path for path in folder.rglob("*.py") if re.search(r"type=(int|float)\b", path.read_text())]


@pytest.mark.parametrize(("text", "value"), [("8/255", 8 / 255), ("5e-4", 5e-4), (" 0.25", 0.25), ("1", 1.0)])
def test_a_fraction_and_an_exponent_are_numbers(text, value):
    assert parse_number(text, 0, 1) == value
