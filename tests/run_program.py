"""A program, run in this process: importing torch once more would take longer than most of them."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rb_smooth.core.cli import run_cli


def run_program(main: Callable[[], int | None], *arguments: object) -> int | str | None:
    """Its exit code."""
    argv, sys.argv = sys.argv, ["program", *map(str, arguments)]
    try:
        return run_cli(main)()
    except SystemExit as stopped:  # after --help and --version
        return stopped.code
    finally:
        sys.argv = argv
