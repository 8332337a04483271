"""What a person expects of every program: help with examples, a version, one line for a slip, no more words than asked
for, JSON alone on stdout, and names that any system can keep.
"""

from __future__ import annotations

import ast
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pyproject_toml import read_pyproject

import rb_smooth
from rb_smooth import __main__ as script
from rb_smooth.core import environment
from rb_smooth.core.console import console, log_info
from rb_smooth.core.errors import did_you_mean

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rb_smooth"
PROJECT = read_pyproject(ROOT)["project"]
QUICK = ["--epochs=1", "--n-examples=10", "--set=data.train_examples=128", "--set=model.width=4"]


@pytest.fixture
def run_typed(monkeypatch, capsys):
    """What `rb-smooth ARGUMENTS` leaves: its exit code, and what it said on stdout and on stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rb-smooth", *map(str, arguments)])
        try:
            code = script.run()
        except SystemExit as done:  # argparse, after help and version
            code = done.code
        return code, *capsys.readouterr()

    return run


def test_every_program_has_its_name_in_the_console_script():
    assert PROJECT["scripts"] == {"rb-smooth": "rb_smooth.__main__:run"}
    programs = set()
    for path in PACKAGE.rglob("*.py"):
        if any(
            isinstance(node, ast.If) and "'__main__'" in ast.unparse(node.test)
            for node in ast.parse(path.read_text()).body
        ):
            programs.add(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    assert programs - {"__main__"} == set(script.PROGRAMS.values())


def test_without_a_program_the_script_says_which_there_are(run_typed):
    code, said, _ = run_typed()
    assert code == 0
    for name in script.PROGRAMS:
        assert re.search(rf"^    {name} +\w.*\w", said, re.MULTILINE), name
    assert run_typed("--help")[1] == said


@pytest.mark.parametrize("name", script.PROGRAMS)
def test_help_shows_examples_that_can_be_typed(name, run_typed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    code, said, _ = run_typed(name, "--help")
    assert code == 0
    assert f"rb-smooth {name} " in said
    assert "python -m rb_smooth" not in said
    as_module = subprocess.run(
        [sys.executable, "-m", f"rb_smooth.{name}", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert f"python -m rb_smooth.{name} " in as_module
    assert "rb-smooth" not in as_module
    assert max(map(len, said.splitlines())) <= 120


@pytest.mark.parametrize("name", ["", *script.PROGRAMS])
def test_the_version_names_what_results_depend_on(name, run_typed):
    code, said, _ = run_typed(*filter(None, [name]), "--version")
    assert code == 0
    assert said.startswith(f"rb_smooth {rb_smooth.__version__} (commit ")
    for package in ("Python", "torch", "robustbench", "pyautoattack"):
        assert re.search(rf"\b{package} \d", said), package


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("recipes", r"expected a program, got 'recipes'; did you mean 'recipe'\? valid: doctor, "),
        ("--versoin", r"expected an option of rb-smooth, got '--versoin'; did you mean '--version'\? "),
        (
            "recipe digits at --epoch=3",
            r"expected an option of rb-smooth recipe, got '--epoch'; did you mean '--epochs'\?",
        ),
        ("recipe", r"the following arguments are required: .*; see rb-smooth recipe --help"),
        (
            "recipe digits at --seed x",
            r"argument --seed: expected a whole number, got 'x'; see rb-smooth recipe --help",
        ),
        ("recipe digits at -qv", r"argument -v/--verbose: not allowed with argument -q/--quiet; "),
        ("recipe digits at --json --plan", r"expected --json or --plan, got both; drop one"),
        (
            "leaderboard verify a --devic cpu",
            r"expected an option of .* verify, got '--devic'; did you mean '--device'\?",
        ),
        ("leaderboard verify a b", r"expected nothing more for rb-smooth leaderboard verify, got 'b'; drop it"),
        (
            "doctor torch",
            r"expected nothing more for rb-smooth doctor, got 'torch'; drop it, or quote an argument with ",
        ),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(arguments, line, run_typed):
    code, said, complained = run_typed(*arguments.split())
    assert (code, said) == (2, "")
    assert re.fullmatch(rf"rb_smooth: {line}.*\n", complained), complained


def test_minus_v_prints_a_traceback(run_typed):
    _, _, complained = run_typed("recipe", "show", "digits", "att", "-v")
    assert complained.startswith("Traceback (most recent call last):")
    assert complained.splitlines()[-1].startswith("rb_smooth: expected a method of digits, got 'att'")


def test_minus_v_enables_autoattacks_log(run_typed):
    logger, root = logging.getLogger("auto-attack"), logging.getLogger()
    before, handlers = logger.level, list(root.handlers)
    try:
        run_typed("recipe", "show", "digits", "at", "-v")
        assert logger.isEnabledFor(logging.DEBUG)
    finally:
        logger.setLevel(before)
        root.handlers[:] = handlers


def test_remarks_are_left_out_by_minus_q_and_results_are_not(capsys, monkeypatch):
    log_info("epoch 1")
    monkeypatch.setattr(environment, "verbosity", environment.Verbosity.QUIET)
    log_info("epoch 2")
    console.print("a result")
    assert capsys.readouterr().out == "epoch 1\na result\n"


@pytest.mark.slow
@pytest.mark.usefixtures("short_attacks", "no_curve_plots")
def test_a_run_says_as_much_as_it_is_asked_to_and_can_be_moved(run_typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said, complained = run_typed("recipe", "digits", "at+awp", *QUICK, "-q")
    assert (code, complained) == (0, "")
    assert said.startswith("best epoch: clean ")
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "leaderboard"}

    code, said, complained = run_typed("recipe", "digits", "at+awp", *QUICK, "--json")
    score = json.loads(said)
    assert 0 <= score["autoattack"] <= score["clean"] <= 1
    assert Path(score["run"]).is_dir()
    assert "best epoch: clean " in complained

    _, said, _ = run_typed("recipe", "digits", "at+awp", "at+awp+wa", *QUICK, "--json", "-q")
    assert {run["method"] for run in json.loads(said)["runs"]} == {"at+awp", "at+awp+wa"}

    for path in tmp_path.rglob("*"):
        assert not re.search(r'[<>:"\\|?*]|[. ]$', path.name), f"Windows cannot keep {path.name}"
        assert len(str(path.relative_to(tmp_path))) < 160

    elsewhere = tmp_path / "elsewhere" / "another name"
    elsewhere.parent.mkdir()
    Path(score["run"]).rename(elsewhere)
    code, said, complained = run_typed("leaderboard", "submit", elsewhere, "--leaderboard", "elsewhere/board")
    assert code == 0, complained
    assert rb_smooth.evaluate(rb_smooth.Run(elsewhere), verbose=False).autoattack == score["autoattack"]


def test_recipes_come_as_json_too(run_typed):
    listed = json.loads(run_typed("recipe", "list", "cifar10", "--json")[1])
    assert {"dataset": "cifar10", "name": "at"} in [
        {key: each[key] for key in ("dataset", "name")} for each in listed["recipes"]
    ]
    assert listed["cells"][0].keys() >= {"paper", "table", "recipe", "provenance"}
    shown = json.loads(run_typed("recipe", "show", "cifar10", "at+awp", "--json")[1])
    assert shown["perturbation"]["name"] == "awp"
    assert shown["train"]["epochs"] == 200
    (chapter,) = json.loads(run_typed("recipe", "keys", "perturbation.awp", "--json")[1])
    assert chapter["title"] == "perturbation.awp"
    assert {"name", "values", "default", "what", "source"} == chapter["keys"][0].keys()


def test_colour_is_for_terminals(monkeypatch, capsys):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    console.print("[bold]no markup", style="red")
    assert capsys.readouterr().out == "[bold]no markup\n"


def test_the_changelog_begins_with_this_version():
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first
    assert first[1] == rb_smooth.__version__


def test_the_version_stands_in_one_place():
    assert "version" not in PROJECT
    assert PROJECT["dynamic"] == ["version"]
    stated = re.compile(rf"[\"']{re.escape(rb_smooth.__version__)}[\"']")
    assert [path.name for path in PACKAGE.rglob("*.py") if stated.search(path.read_text())] == ["__init__.py"]


def test_of_very_many_valid_names_the_most_similar_are_listed():
    said = did_you_mean("model_77x", [f"model_{number}" for number in range(100)])
    assert said.startswith("got 'model_77x'; did you mean 'model_77'? valid: model_77, ")
    assert said.endswith(", … (100 in all)")
    assert said.count(",") == 40
    assert did_you_mean("x", ["b", "a"]) == "got 'x'; valid: a, b"
