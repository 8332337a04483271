"""Remake leaderboard/published/ from a checkout of RobustBench: python benchmarks/published.py CHECKOUT

Keeps figures and where they come from, in our own form: shares in [0, 1], eps as RobustBench writes it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from rb_smooth.core import files

BOARDS = [("cifar10", "Linf"), ("cifar10", "L2"), ("cifar100", "Linf")]
OUT = Path(__file__).parents[1] / "leaderboard" / "published"


def share(percent: Any) -> float | None:
    return None if percent is None else round(float(percent) / 100, 6)


def entry(path: Path) -> dict[str, Any]:
    info = files.read_json(path)
    autoattack = share(info["autoattack_acc"])
    external = share(info.get("external"))
    return {
        "name": path.stem,
        "title": info["name"],
        "link": info["link"],
        "venue": info["venue"],
        "architecture": info["architecture"],
        "eps": str(info["eps"]),
        "extra_data": bool(info["additional_data"]),
        "clean": share(info["clean_acc"]),
        "autoattack": autoattack,
        "best_known": autoattack if external is None else external,
        "unreliable": bool(info.get("unreliable", False)),
    }


def main(checkout: Path) -> None:
    shown = subprocess.run(
        ["git", "-C", str(checkout), "log", "-1", "--format=%H %cs"], capture_output=True, text=True, check=True
    )
    commit, date = shown.stdout.split()
    for dataset, threat in BOARDS:
        entries = [entry(path) for path in sorted((checkout / "model_info" / dataset / threat).glob("*.json"))]
        board = {
            "source": "https://github.com/RobustBench/robustbench model_info (MIT)",
            "commit": commit,
            "date": date,
            "dataset": dataset,
            "threat": threat,
            "entries": sorted(entries, key=lambda e: (-e["best_known"], e["name"])),
        }
        files.write_json(OUT / f"{dataset}-{threat}.json", board)
        print(f"{dataset} {threat}: {len(entries)} entries of {date}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
