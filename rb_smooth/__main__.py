"""rb-smooth PROGRAM …: every program under one name, as the module rb_smooth.PROGRAM is one.

    rb-smooth recipe digits at+ensgd        train, attack, enter, compare
    rb-smooth leaderboard serve             the board as a page
    rb-smooth PROGRAM --help                what it does, with examples

Exit codes: 0 done, 1 what was asked for failed or was found different, 2 something to mend (one line says what),
130 stopped by you.
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
    "runs": "runs",
    "leaderboard": "leaderboard.__main__",
    "smoothness": "smoothness",
    "landscape": "landscape",
    "theory": "theory",
    "laws": "laws",
    "doctor": "doctor",
}
"""Names of programs, and the modules that hold their `main`."""


def main() -> int:
    environment.as_script = True
    name, *rest = sys.argv[1:] or ["--help"]
    if name.startswith("-"):
        _parser().parse_args([name, *rest])  # which reads every program's first line: not for the others to wait for
    if name not in PROGRAMS:
        raise UserError(f"expected a program, {did_you_mean(name, PROGRAMS)}")
    sys.argv = [f"{SCRIPT} {name}", *rest]
    return importlib.import_module(f"rb_smooth.{PROGRAMS[name]}").main() or 0


def run() -> int:
    """The console script: an exit code."""
    return run_cli(main)()


def _parser() -> StrictArgumentParser:
    widest = max(map(len, PROGRAMS))
    lines = "\n".join(f"    {name:<{widest}}  {_first_docstring_line(module)}" for name, module in PROGRAMS.items())
    return make_parser("", f"{__doc__}\nPrograms:\n{lines}\n")


def _first_docstring_line(module: str) -> str:
    """What the first line of a module's text says after the command, without importing it."""
    path = Path(__file__).parent.joinpath(*module.split(".")).with_suffix(".py")
    first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return first.partition(": ")[2]


if __name__ == "__main__":
    sys.exit(run())
