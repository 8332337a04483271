"""Seconds from `make demo`'s command, everything being set up, to the line of its first epoch."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmark_figure import figure

_MAKEFILE = Path(__file__).parents[1] / "Makefile"
_EPOCH = re.compile(r"epoch +(\d+)/(\d+)")


def measure(toy: bool) -> dict[str, Any]:
    found = [
        _until_the_first_epoch(("--epochs", "1", "--set", "objective.steps=1") if toy else ())
        for _ in range(1 if toy else 3)
    ]
    seconds, epochs = zip(*found, strict=True)
    return {
        "figures": [figure("`make demo` to the line of its first epoch", "s", seconds, at_most=10.0)],
        "epochs": epochs[0],
        "seen": f"1 of {epochs[0]} epochs' lines; then it was stopped",
    }


def _until_the_first_epoch(further: tuple[str, ...]) -> tuple[float, int]:
    """(seconds, epochs that there are to be)."""
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
    raise RuntimeError("the demo printed no epoch's line")


def _command(folder: str) -> list[str]:
    """The line below `demo:` in the Makefile, writing to `folder`."""
    (line,) = re.findall(r"^demo:.*\n\t(.*)$", _MAKEFILE.read_text(), re.MULTILINE)
    assert line.startswith("$(BIN)/python "), line
    words = shlex.split(line.removeprefix("$(BIN)/python "))
    return [sys.executable, *(word.replace("demo/", f"{folder}/") for word in words)]
