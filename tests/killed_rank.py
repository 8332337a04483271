"""`recipe` with a process that is killed at its tenth minibatch: torchrun … tests/killed_rank.py digits at …"""

from __future__ import annotations

import itertools
import os
import signal
import sys

from rb_smooth import launch, recipe, session
from rb_smooth.coupling import step
from rb_smooth.refusal import answering

count = itertools.count()


def dying(*arguments):
    if next(count) == 9 and launch.RANK == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments)


if __name__ == "__main__":
    session.step = dying
    sys.exit(answering(recipe.main)())
