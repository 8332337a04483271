"""Environment of this process: ranks, verbosity, CPU cores, git commit, folders of the package's data.

torchrun --nproc-per-node 4 -m rb_smooth.recipe cifar10 at+awp

Does not import torch.
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
"""torchrun's global rank, number of processes, local rank, and number of processes on this machine."""


class Verbosity(Enum):
    """QUIET: results and warnings. NORMAL: progress too. VERBOSE: logs of libraries and tracebacks too."""

    QUIET, NORMAL, VERBOSE = range(3)


verbosity = Verbosity.NORMAL
as_script = False
"""Whether the program was started by the console script rather than as a module."""


def usable_cores() -> int:
    """Number of CPU cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_per_worker(workers: int) -> int:
    """CPU cores for each of `workers` processes, at least 1."""
    return max(1, usable_cores() // workers)


def git_commit() -> str:
    """Commit of the checkout, with "-dirty" if files differ; "none" outside a checkout."""
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
    """Folders of the shipped data: the checkout and the installed package's own, in order of precedence."""
    package = Path(__file__).parents[1]
    checkout = package.parent
    return [checkout, package / "_data"] if (checkout / "pyproject.toml").exists() else [package / "_data"]
