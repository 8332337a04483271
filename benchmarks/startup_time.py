"""Start-up time: of commands that need no torch, beyond Python's own, and of `make demo` to its first epoch."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmark_figure import figure
from interleaved_timing import time_interleaved

_MAKEFILE = Path(__file__).parents[1] / "Makefile"
_EPOCH = re.compile(r"epoch +(\d+)/(\d+)")
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
    commands = {name: _starting("-m", "rb_smooth.recipe", *arguments) for name, arguments in _COMMANDS.items()}
    times = time_interleaved(
        commands | {"pass": _starting("-c", "pass")}, seconds=0 if toy else 20, fewest=1 if toy else 5
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


def measure_demo(toy: bool) -> dict[str, Any]:
    found = [
        _until_the_first_epoch(("--epochs", "1", "--set", "objective.steps=1") if toy else ())
        for _ in range(1 if toy else 3)
    ]
    seconds, epochs = zip(*found, strict=True)
    return {
        "figures": [figure("`make demo` (installed) to the end of its first epoch", "s", seconds, at_most=10.0)],
        "epochs": epochs[0],
        "seen": f"1 of {epochs[0]} epochs; then stopped",
    }


def _until_the_first_epoch(further: tuple[str, ...]) -> tuple[float, int]:
    """Seconds, and the number of epochs that the line names."""
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        with subprocess.Popen(
            [*_command(folder), *further], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as program:
            assert program.stdout is not None
            for line in program.stdout:
                if line_of_epoch := _EPOCH.match(line):
                    seconds = time.perf_counter() - start
                    program.send_signal(signal.SIGINT)
                    program.communicate()
                    return seconds, int(line_of_epoch[2])
    raise RuntimeError("the demo printed no line of an epoch")


def _command(folder: str) -> list[str]:
    """The command of `demo:` in the Makefile, writing to `folder`."""
    (line,) = re.findall(r"^demo:.*\n\t(.*)$", _MAKEFILE.read_text(), re.MULTILINE)
    assert line.startswith("$(BIN)/python "), line
    words = shlex.split(line.removeprefix("$(BIN)/python "))
    return [sys.executable, *(word.replace("demo/", f"{folder}/") for word in words)]
