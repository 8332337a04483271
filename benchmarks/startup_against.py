"""Compare the start-up of each program, and of a finished and a new run, with another checkout's.

    python benchmarks/startup_against.py ../older-checkout --rounds 7

Each round starts every command once with each checkout, in changing order, so that both meet the same machine. The
table gives the median ratio of this checkout to the other, with the smallest and the largest of the rounds. `new run`
trains digits' `at` for one epoch and attacks ten test images; `finished run` repeats that command.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from interleaved_timing import ratios, time_interleaved

_RUN = ["recipe", "digits", "at", "--epochs", "1", "--n-examples", "10", "--device", "cpu"]
_COMMANDS = {
    "recipe --help": ["recipe", "--help"],
    "recipe list digits": ["recipe", "list", "digits"],
    "recipe show digits at": ["recipe", "show", "digits", "at"],
    "runs list": ["runs", "list"],
    "leaderboard --help": ["leaderboard", "--help"],
    "leaderboard page": ["leaderboard", "page"],
    "theory --help": ["theory", "--help"],
    "landscape --help": ["landscape", "--help"],
    "smoothness --help": ["smoothness", "--help"],
    "laws --help": ["laws", "--help"],
    "import rb_smooth": [],
    "finished run": _RUN,
    "new run": [*_RUN, "--fresh"],
}


def _starting(checkout: Path, folder: Path, arguments: list[str]) -> Callable[[], None]:
    """A function that runs one program of a checkout to its end, in `folder`."""
    command = ["-m", f"rb_smooth.{arguments[0]}", *arguments[1:]] if arguments else ["-c", "import rb_smooth"]
    environment = os.environ | {"PYTHONPATH": str(checkout)}

    def work() -> None:
        done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(
                f"expected {command} of {checkout} to succeed, got exit code {done.returncode}: {done.stderr}"
            )

    return work


def main() -> None:
    """Time the commands, print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="another checkout of this repository")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    checkouts = {"this": Path(__file__).resolve().parents[1], "other": arguments.other.resolve()}
    print("| command | this / other | range |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        folders = {name: Path(place, name) for name in checkouts}
        for name, folder in folders.items():
            folder.mkdir()
            _starting(checkouts[name], folder, _RUN)()
        for title, command in _COMMANDS.items():
            functions = {name: _starting(checkouts[name], folders[name], command) for name in checkouts}
            times = time_interleaved(functions, seconds=0, fewest=arguments.rounds)
            ratio = ratios(times, "this", "other")
            print(f"| {title} | {statistics.median(ratio):.2f} | {min(ratio):.2f} to {max(ratio):.2f} |", flush=True)


if __name__ == "__main__":
    main()
