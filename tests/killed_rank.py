"""`recipe` with a process that is killed at its tenth minibatch: torchrun … tests/killed_rank.py digits at …"""

from __future__ import annotations

import itertools
import os
import signal
import sys

from rb_smooth import recipe
from rb_smooth.core import environment
from rb_smooth.core.cli import answering
from rb_smooth.training import trainer
from rb_smooth.training.step import step

count = itertools.count()


def dying(*arguments):
    if next(count) == 9 and environment.RANK == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments)


if __name__ == "__main__":
    trainer.step = dying
    sys.exit(answering(recipe.main)())
