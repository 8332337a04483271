"""How long `python -m rb_smooth.recipe` takes to answer what needs no torch, beyond Python's own start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmark_figure import figure
from interleaved_timing import time_interleaved

_COMMANDS = {"--help": ["--help"], "list": ["list"]}
_NO_TORCH = """
import runpy, sys
sys.argv = ["recipe", *sys.argv[1:]]
try:
    runpy.run_module("rb_smooth.recipe", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
assert "torch" not in sys.modules, "torch was imported"
"""


def measure(toy: bool) -> dict[str, Any]:
    for arguments in _COMMANDS.values():
        _run("-c", _NO_TORCH, *arguments)
    contenders = {name: _starting("-m", "rb_smooth.recipe", *arguments) for name, arguments in _COMMANDS.items()}
    times = time_interleaved(
        contenders | {"pass": _starting("-c", "pass")}, seconds=0 if toy else 20, fewest=1 if toy else 5
    )
    figures = [
        figure(
            f"`python -m rb_smooth.recipe {name}` beyond `python -c pass`",
            "s",
            [ours - python for ours, python in zip(times[name], times["pass"], strict=True)],
            at_most=0.3,
        )
        for name in _COMMANDS
    ]
    return {"figures": figures, "torch_imported": False}


def _starting(*arguments: str) -> Callable[[], None]:
    return lambda: _run(*arguments)


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
