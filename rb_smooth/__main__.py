"""rb-smooth PROGRAM …: run the program rb_smooth.PROGRAM.

    rb-smooth recipe digits at+ensgd        train, evaluate, submit, compare
    rb-smooth leaderboard serve             serve the board as a web page
    rb-smooth PROGRAM --help                options and examples

Exit codes: 0 success, 1 a failed or different result, 2 user error (one line says what to do), 130 interrupted.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

from rb_smooth.core import environment
from rb_smooth.core.cli import SCRIPT, StrictArgumentParser, make_parser, run_cli
from rb_smooth.core.errors import UserError, did_you_mean

PROGRAMS = {
    "recipe": "recipe",
    "tune": "tune",
    "runs": "runs",
    "leaderboard": "leaderboard.__main__",
    "smoothness": "smoothness",
    "landscape": "landscape",
    "theory": "theory",
    "laws": "laws",
    "doctor": "doctor",
}
"""Names of programs, and the modules of their `main`."""


def main() -> int:
    environment.as_script = True
    name, *rest = sys.argv[1:] or ["--help"]
    if name.startswith("-"):
        _parser().parse_args([name, *rest])  # slow, since it reads every program's first line
    if name not in PROGRAMS:
        raise UserError(f"expected a program, {did_you_mean(name, PROGRAMS)}")
    sys.argv = [f"{SCRIPT} {name}", *rest]
    return importlib.import_module(f"rb_smooth.{PROGRAMS[name]}").main() or 0


def run() -> int:
    """Entry point of the console script; returns the exit code."""
    return run_cli(main)()


def _parser() -> StrictArgumentParser:
    widest = max(map(len, PROGRAMS))
    lines = "\n".join(f"    {name:<{widest}}  {_first_docstring_line(module)}" for name, module in PROGRAMS.items())
    return make_parser("", f"{__doc__}\nPrograms:\n{lines}\n")


def _first_docstring_line(module: str) -> str:
    """Text after the colon in the first line of a module's docstring, read without importing it."""
    path = Path(__file__).parent.joinpath(*module.split(".")).with_suffix(".py")
    first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return first.partition(": ")[2]


if __name__ == "__main__":
    sys.exit(run())
