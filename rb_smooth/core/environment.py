"""How and where this process runs: torchrun's numbers, loudness, cores, the commit, and where our data lie.

torchrun --nproc-per-node 4 -m rb_smooth.recipe cifar10 at+awp

Costs no torch.
"""

from __future__ import annotations

import os
import subprocess
from enum import Enum
from pathlib import Path

RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE = (
    int(os.environ.get(name, default))
    for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))
)
"""torchrun's numbers: of this process among all, of all, of this one on its machine, and of those on its machine."""


class Verbosity(Enum):
    """QUIET: results and warnings. NORMAL: how far the work is, too. VERBOSE: what libraries log, and tracebacks."""

    QUIET, NORMAL, VERBOSE = range(3)


verbosity = Verbosity.NORMAL
as_script = False
"""Whether it is the console script that runs, in the place of a module."""


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_per_worker(workers: int) -> int:
    """Of each of several processes, so that they do not fight for cores."""
    return max(1, usable_cores() // workers)


def git_commit() -> str:
    """The checkout's commit, "-dirty" behind it if files differ; "none" where the package is not in its checkout."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return "none"
    try:
        shown = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "none"
    return shown.stdout.strip()


def data_roots() -> list[Path]:
    """Where what we ship lies: the checkout, or the installed package's own data."""
    package = Path(__file__).parents[1]
    checkout = package.parent
    return [checkout, package / "_data"] if (checkout / "pyproject.toml").exists() else [package / "_data"]
