"""What processes of a crew carry out in tests; it costs no torch."""

from __future__ import annotations

import os
import time

from rb_smooth import refusal


def powers(exponent):
    """Tells the process, too."""
    return lambda base: (base**exponent, os.getpid())


def sleeping():
    return time.sleep


def failing():
    def fail(task):
        raise refusal.Refused(f"expected anything but {task}")

    return fail


def dying():
    return lambda task: os._exit(3)
