"""Measure training and evaluation on a GPU, each with its reference.

    python benchmarks/gpu.py                             # all items, into benchmarks/gpu.json
    python benchmarks/gpu.py --items evaluation --points 500
    python benchmarks/gpu.py --toy --device cpu --out FILE   # a dry run in a minute; its numbers mean nothing

Each item is written as soon as it is measured. Items that exist for the same commit and GPU are skipped (--again
repeats them), and after --minutes no item is started; the same command then resumes.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gpu_evaluation
import gpu_speed
import torch
from gpu_data import images_of
from gpu_steps import Cell

from rb_smooth.core import environment, files, robustbench
from rb_smooth.core.cli import run_cli
from rb_smooth.core.environment import git_commit
from rb_smooth.core.errors import UserError

OUT = Path(__file__).parent / "gpu.json"
TOY = ("model.name=small_preactresnet", "model.width=2", "objective.steps=2")
NETS = {"preactresnet18": "", "wideresnet-34-10": "-wrn34"}

Item = Callable[[], dict[str, Any]]


def items(options: argparse.Namespace, device: torch.device) -> dict[str, Item]:
    """Items by name, the most useful first."""
    toy = options.toy
    size, test = (8, 10) if toy else (32, options.points)

    def speed(net: str, batch_size: int) -> dict[str, Any]:
        shown = (
            Cell("", 16, TOY, rounds=3, round_s=0.05)
            if toy
            else Cell(NETS[net], batch_size, without_graphs=device.type == "cuda" and not options.only_graphs)
        )
        data = images_of(options.data, 8 * shown.batch_size + 10, 20, size)
        return gpu_speed.measure_cell(shown, data, device)

    def evaluation() -> dict[str, Any]:
        cell = Cell("", 16, (*TOY, "model.width=8")) if toy else Cell("", 128)
        data = images_of(options.data, 100 * cell.batch_size, test, size)
        return gpu_evaluation.measure_evaluation(cell, data, device, test)

    return {
        "speed preactresnet18 128": partial(speed, "preactresnet18", 128),
        "speed preactresnet18 512": partial(speed, "preactresnet18", 512),
        "evaluation": evaluation,
        "speed wideresnet-34-10 128": partial(speed, "wideresnet-34-10", 128),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """Device, CUDA, CPU and threads; no host name."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cpu": capabilities.get("cpu_name", platform.machine()),
        "cores": environment.usable_cores(),
        "threads": torch.get_num_threads(),
    }


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", default="", help="comma-separated prefixes of item names; default: all")
    parser.add_argument("--data", default="random", help="random, or a folder with train/<class>/ and test/<class>/")
    parser.add_argument("--points", type=int, default=1000, help="test points of the evaluation")
    parser.add_argument("--minutes", type=float, default=5, help="start no item later; one takes up to three")
    parser.add_argument("--only-graphs", action="store_true", help="skip compilation without CUDA graphs")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--commit", default=git_commit(), help="commit of the code, outside a checkout")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    if options.toy and options.out.resolve() == OUT:
        raise UserError(f"expected --out FILE for a dry run, got {OUT.name}, which has real results; name another")
    if options.device != "cuda" and not options.toy:
        raise UserError(f"expected a GPU, got --device {options.device}; add --toy for a dry run without one")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("expected a GPU, got none; try --toy --device cpu --out FILE")
    return options


@run_cli
def main() -> None:
    options, began = parse_options(), time.monotonic()
    device = torch.device(options.device)
    here = machine(device)
    results = files.read_json(options.out) if options.out.exists() else {}
    wanted = tuple(options.items.split(","))
    for name, item in items(options, device).items():
        if not name.startswith(wanted):
            continue
        done = results.get(name)
        if done and not options.again and _same(done, options.commit, here):
            print(f"{name}: done")
            continue
        if time.monotonic() - began > options.minutes * 60:
            print(f"{name}: not started; the same command resumes")
            continue
        start = time.monotonic()
        found = item()
        about = {
            "commit": options.commit,
            "command": " ".join(["python", "benchmarks/gpu.py", *sys.argv[1:]]),
            "seed": 0,
            "data": "random" if options.data == "random" else "a folder of images",
            "versions": robustbench.package_versions(),
            "machine": here,
            "seconds": time.monotonic() - start,
        }
        results[name] = about | found
        files.write_json(options.out, results)
        print(f"{name}: {about['seconds']:.0f} s")
        for what, goal in found.get("goals", {}).items():
            print(f"  {what}: {goal['found']} (goal {goal['goal']})")


def _same(done: dict[str, Any], of: str, here: dict[str, Any]) -> bool:
    """Whether an item was measured with this commit on this device. The output file itself makes a checkout dirty."""
    commits = {done["commit"].removesuffix("-dirty"), of.removesuffix("-dirty")}
    return len(commits) == 1 and done["machine"]["device"] == here["device"]


if __name__ == "__main__":
    sys.exit(main())
