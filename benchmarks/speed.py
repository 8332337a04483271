"""Measure speed and memory on this machine's CPU: `make bench`, or python benchmarks/speed.py

    python benchmarks/speed.py                      every part, each in its own process; minutes on two idle cores
    python benchmarks/speed.py --only step,memory   these parts again; other rows stay
    python benchmarks/speed.py --toy                run everything on tiny inputs; nothing is measured or written
    python benchmarks/speed.py --table              write the page's tables from speed.json

Times are ratios of functions timed in turn within one process, since absolute times depend on the machine. Writes
benchmarks/speed.json and the tables in docs/performance.md; exit code 1 if a figure misses its goal.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmark_figure import Figure, from_json

from rb_smooth.core import environment, files, robustbench
from rb_smooth.core.cli import run_cli
from rb_smooth.core.environment import git_commit
from rb_smooth.core.errors import Failed, UserError, did_you_mean
from rb_smooth.core.files import write_between

PARTS = {
    "step": "step_time:measure_bare_passes",
    "authors": "step_time:measure_authors",
    "optimizer": "optimizer_cost:measure",
    "memory": "memory_cost:measure",
    "study": "study_cost:measure",
    "startup": "startup_time:measure",
    "demo": "startup_time:measure_demo",
    "attack": "attack_time:measure",
    "measuring": "measuring_cost:measure",
    "scaling": "scaling:measure",
    "profile": "time_shares:measure",
}
"""module:function; called with `toy`, it returns a dict with "figures" and whatever else is stored."""

RESULTS = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
SEED = 0
_SILENT_PROFILER = {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}


def main() -> int:
    options = _parse()
    if options.into:
        _measure_here(options.only[0], options.toy, options.into)
        return 0
    if options.table:
        write_table(PAGE, files.read_json(RESULTS))
        return 0
    results = {} if options.toy or not RESULTS.exists() else files.read_json(RESULTS)
    source = git_commit()  # before results change the checkout
    for part in options.only:
        print(f"{part} …", flush=True)
        begun = time.monotonic()
        found = _measure_in_subprocess(part, options.toy)
        results[part] = {"commit": source, "seconds": round(time.monotonic() - begun)} | found
        if not options.toy:
            results = {name: results[name] for name in PARTS if name in results}
            files.write_json(RESULTS, results)
            write_table(PAGE, results)
    print("\n".join(table(results)))
    if options.toy:
        return 0
    missed = [f"{each.what} ({each.goal})" for each in figures(results) if not each.reached]
    if missed:
        raise Failed(f"{len(missed)} of {len(figures(results))} figures miss their goals: {'; '.join(missed)}")
    return 0


def figures(results: dict[str, Any]) -> list[Figure]:
    return [from_json(row) for part in results.values() for row in part["figures"]]


def table(results: dict[str, Any]) -> list[str]:
    """Lines of Markdown: a row per figure, and the machines and commits."""
    rows = [each.cells for each in figures(results)]
    lines = [f"| {' | '.join(cells)} |" for cells in [("what", "measured"), ("---",) * 2, *rows]]
    machines = {f"{part['machine']['cpu']}, {part['machine']['cores']} cores" for part in results.values()}
    commits = {part["commit"][:7] for part in results.values()}
    how = "Medians of n interleaved rounds, quartiles in brackets"
    threads = max(part["machine"]["threads"] for part in results.values())
    return [
        *lines,
        "",
        f"{how} ({'; '.join(sorted(machines))}, at most {threads} threads; commit {', '.join(sorted(commits))}).",
    ]


def write_table(page: Path, results: dict[str, Any]) -> None:
    """Put the tables between their markers."""
    blocks = {"speed": table(results)}
    if "profile" in results:
        blocks["profile"] = profile_table(results["profile"])
    write_between(page, blocks)


def profile_table(found: dict[str, Any]) -> list[str]:
    """Lines of Markdown: the share of the time that each part of a step takes."""
    shares = found["shares"]
    lines = [f"| part of `{found['method']}` | {' | '.join(shares)} |", "|---|" + "---:|" * len(shares)]
    for part in next(iter(shares.values())):
        lines.append(f"| {part} | {' | '.join(f'{each[part]:.1f} %' for each in shares.values())} |")
    return lines


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="NAME[,NAME]", help=", ".join(PARTS))
    parser.add_argument("--toy", action="store_true", help="tiny inputs; nothing is measured or written")
    parser.add_argument("--table", action="store_true", help="write the page's tables from speed.json")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # measure one part in this process, into this file
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    for name in (names := text.split(",")):
        if name not in PARTS:
            raise UserError(f"expected parts of the benchmark, {did_you_mean(name, PARTS)}")
    return names


def _measure_in_subprocess(part: str, toy: bool) -> dict[str, Any]:
    """Results of `part` in a fresh process, without the caches, threads and memory of another part."""
    with TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        command = [sys.executable, __file__, "--only", part, "--into", str(found), *(["--toy"] if toy else [])]
        if code := subprocess.run(command, env=os.environ | _SILENT_PROFILER).returncode:
            raise Failed(f"part {part} ended with code {code}; fix it, then continue with --only")
        return files.read_json(found)


def _measure_here(part: str, toy: bool, path: Path) -> None:
    busy = os.getloadavg()[0]
    module, _, function = PARTS[part].partition(":")
    found = getattr(import_module(module), function)(toy)
    import torch

    limit = f"OMP_NUM_THREADS={threads} " if (threads := os.environ.get("OMP_NUM_THREADS")) else ""
    about = {
        "command": f"{limit}python benchmarks/speed.py --only {part}",
        "seed": SEED,
        "versions": {"python": platform.python_version(), **robustbench.package_versions()},
        "machine": {
            **machine_kind(),
            "threads": torch.get_num_threads(),
            "load_before": busy,
        },
    }
    files.write_json(path, about | found | {"figures": [each.to_json() for each in found["figures"]]})


def machine_kind() -> dict[str, Any]:
    """CPU model and number of cores."""
    return {"cpu": cpu_name(), "cores": environment.usable_cores()}


def cpu_name() -> str:
    """The CPU's model name."""
    listed = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", listed.read_text(), re.MULTILINE) if listed.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(run_cli(main)())
