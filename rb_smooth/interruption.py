"""Ctrl-C and SIGTERM as requests, honoured between two steps instead of in the middle of one."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SAME_REQUEST_S = 1.0


@contextmanager
def stop_requests() -> Iterator[list[float]]:
    """Inside, a signal fills the list; one that comes a second or more after it acts as if nobody were listening.

    Sooner it is the same request by another way: a batch system tells every process, and torchrun tells its own again.

    Outside the main thread signals are somebody else's, and the list stays empty.
    """
    requested: list[float] = []
    handlers: dict[int, Any] = {}

    def note(number: int, frame: object) -> None:
        requested.append(time.monotonic())
        if requested[-1] - requested[0] > _SAME_REQUEST_S:
            for each, handler in handlers.items():
                signal.signal(each, handler)
            signal.raise_signal(number)

    try:
        for number in map(int, (signal.SIGINT, signal.SIGTERM)):
            handlers[number] = signal.signal(number, note)
    except ValueError:
        pass
    try:
        yield requested
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def unheard_by_children() -> Iterator[None]:
    """Inside, a signal waits for the end, and processes that are started do not hear Ctrl-C, neither then nor later.

    A terminal's Ctrl-C reaches all of them: one that has just begun would die of it with a traceback, and so would one
    whose parent stops before it has told it everything.
    """
    with stop_requests() as requested:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which children inherit
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if requested:
        raise KeyboardInterrupt
