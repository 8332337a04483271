"""How this process was started: by torchrun, as one of several, or alone, and how much it is to say. Costs no torch.

torchrun --nproc-per-node 4 -m rb_smooth.recipe cifar10 at+awp
"""

from __future__ import annotations

import os
from enum import Enum

RANK, SIZE, LOCAL_RANK, LOCAL_SIZE = (
    int(os.environ.get(name, default))
    for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))
)
"""torchrun's numbers: of this process among all, of all, of this one on its machine, and of those on its machine."""


class Loudness(Enum):
    """QUIET: results and warnings. NORMAL: how far the work is, too. VERBOSE: what libraries log, and tracebacks."""

    QUIET, NORMAL, VERBOSE = range(3)


loudness = Loudness.NORMAL
as_script = False
"""Whether it is the console script that runs, in the place of a module."""


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_each(workers: int) -> int:
    """Of each of several processes, so that they do not fight for cores."""
    return max(1, usable_cores() // workers)
