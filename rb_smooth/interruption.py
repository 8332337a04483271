"""Ctrl-C and SIGTERM as requests, honoured between two steps instead of in the middle of one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Inside, a signal fills the list; a second one acts at once, as if nobody were listening.

    Outside the main thread signals are somebody else's, and the list stays empty.
    """
    requested: list[int] = []
    handlers: dict[int, Any] = {}

    def note(number: int, frame: object) -> None:
        requested.append(number)
        for each, handler in handlers.items():
            signal.signal(each, handler)

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
