"""Time and memory of the leaderboard's commands as a board grows: benchmarks/board-growth.json

    python benchmarks/board_growth.py                      this checkout, boards of 250 to 4,000 entries, 1,000 runs
    python benchmarks/board_growth.py --checkout FOLDER --as before --largest 1000      an older one, for comparison
    python benchmarks/board_growth.py --largest 250 --rounds 1 --out FILE.json          a short try

Each command runs in a process of its own, in turn with its floor: reading the JSON of all entries (or runs) with
json.loads. Figures are medians over rounds; `per_floor` is the ratio to the floor of the same round, `doubling` the
time at 2n over the time at n, which is 2 if the cost is linear. Imports are not counted. `peak_mib` is of the process,
and of the largest of its own. Boards are synthetic (growing_board.py).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
SIZES = (250, 500, 1000, 2000, 4000)
COMMANDS = ("page", "table", "show", "compare", "enter", "runs")


def main() -> None:
    options = _parse()
    if options.command:
        print(json.dumps(_measure_here(options.command, options.folder, options.rounds)))
        return
    from growing_board import make_board, make_runs

    from rb_smooth.core import files
    from rb_smooth.core.environment import git_commit

    found: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        board, runs, before = Path(folder) / "board", Path(folder) / "runs", 0
        for size in (size for size in SIZES if size <= options.largest):
            make_board(board, before, size)
            make_runs(runs, before, size)
            before = size
            for command in COMMANDS:
                each = _measure(options, command, runs if command == "runs" else board)
                found.setdefault(command, {})[str(size)] = each
                print(options.name, command, size, each, flush=True)
                if command == "page":
                    each["index_bytes"] = (board / "index.html").stat().st_size
    for sizes in found.values():
        for size, each in sizes.items():
            if half := sizes.get(str(int(size) // 2)):
                each["doubling"] = each["seconds"] / half["seconds"]
    results = files.read_json(options.out) if options.out.exists() else {}
    checkout = options.checkout or HERE.parent
    results[options.name] = {
        "commit": git_commit() if not options.checkout else _commit_of(checkout),
        "rounds": options.rounds,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "commands": found,
    }
    files.write_json(options.out, results)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, help="measure the package of this checkout")
    parser.add_argument("--as", dest="name", default="now", help="the name of the result (default: now)")
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="of the boards")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "board-growth.json")
    parser.add_argument("--command", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _commit_of(checkout: Path) -> str:
    git = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()


def _measure(options: argparse.Namespace, command: str, folder: Path) -> dict[str, Any]:
    """Figures of one command, measured in a process that imports the package of the checkout."""
    path = os.pathsep.join(map(str, (options.checkout or HERE.parent, HERE)))
    arguments = ["--command", command, "--folder", str(folder), "--rounds", str(options.rounds)]
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure_here(command: str, folder: Path, rounds: int) -> dict[str, Any]:
    work = _work(command, folder)
    pattern = "*/*/score.json" if command == "runs" else "model_info/*/*/*.json"
    times, floors = [], []
    for _ in range(rounds):
        begun = time.perf_counter()
        for path in folder.glob(pattern):
            json.loads(path.read_text())
        middle = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            work()
        floors.append(middle - begun)
        times.append(time.perf_counter() - middle)
    usage = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "seconds": median(times),
        "floor_seconds": median(floors),
        "per_floor": median(a / b for a, b in zip(times, floors, strict=True)),
        "peak_mib": [round(kib / 1024) for kib in usage],
    }


def _work(command: str, folder: Path) -> Callable[[], object]:
    """The command, with everything imported."""
    from growing_board import BOARD, entry_name

    if command == "enter":
        return _entering(folder)
    from rb_smooth import runs
    from rb_smooth.leaderboard import __main__ as leaderboard

    where = ["--leaderboard", str(folder)]
    arguments = {
        "page": ["page", *where],
        "table": ["table", *BOARD, "--csv", *where],
        "show": ["show", entry_name(7), *where],
        "compare": ["compare", entry_name(0), entry_name(5), "--json", *where],
        "runs": ["--runs", str(folder)],
    }[command]
    run = runs.main if command == "runs" else leaderboard.main

    def work() -> None:
        sys.argv = [command, *arguments]
        run()

    with TemporaryDirectory() as small, contextlib.redirect_stdout(io.StringIO()):  # imports what the command needs
        from growing_board import make_board, make_runs

        (make_runs if command == "runs" else make_board)(Path(small), 0, 8)
        swapped = [small if each == str(folder) else each for each in arguments]
        sys.argv = [command, *swapped]
        run()
    return work


def _entering(folder: Path) -> Callable[[], object]:
    """Writing one more entry, weights included, and printing its rank; its evaluation is done already."""
    from growing_board import BOARD, entry_name

    from rb_smooth.leaderboard.entries import read_entry
    from rb_smooth.leaderboard.reports.ranking import ranking_table
    from rb_smooth.leaderboard.submission import Submission, write_entry

    like = read_entry(folder.joinpath("model_info", *BOARD, f"{entry_name(0)}.json"))

    def enter(board: Path) -> None:
        entry = replace(like, leaderboard=board, name="one_more_s0")
        write_entry(Submission(entry, lambda model: None), replace=True)
        ranking_table(entry)
        for path in (entry.path, entry.weights):
            path.unlink()

    with TemporaryDirectory() as small:
        enter(Path(small))
    return lambda: enter(folder)


if __name__ == "__main__":
    main()
