"""`recipe` with a process that is killed at its tenth minibatch: torchrun … tests/killed_rank.py digits at …"""

from __future__ import annotations

import itertools
import os
import signal
import sys

from rb_smooth import recipe
from rb_smooth.core import environment
from rb_smooth.core.cli import run_cli
from rb_smooth.training import trainer
from rb_smooth.training.step import training_step

count = itertools.count()


def kill_at_tenth_step(*arguments):
    if next(count) == 9 and environment.RANK == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return training_step(*arguments)


if __name__ == "__main__":
    trainer.training_step = kill_at_tenth_step
    sys.exit(run_cli(recipe.main)())
