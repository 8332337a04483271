"""What processes of a crew carry out in tests, and whether they are gone; it costs no torch."""

from __future__ import annotations

import multiprocessing
import os
import time

from rb_smooth.core import errors


def power_and_pid(exponent):
    """Tells the process, too."""
    return lambda base: (base**exponent, os.getpid())


def sleep_forever():
    return time.sleep


def fail():
    def fail(task):
        raise errors.UserError(f"expected anything but {task}")

    return fail


def exit_process():
    return lambda task: os._exit(3)


def workers_are_gone():
    """Whether the processes are gone, or soon: two threads wait for their ends, and one of them tells."""
    until = time.monotonic() + 300
    while multiprocessing.active_children() and time.monotonic() < until:
        time.sleep(0.02)
    return not multiprocessing.active_children()
