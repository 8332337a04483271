"""Worker processes beside this one, started and ended in one way: none outlives what it was started for."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from rb_smooth.interruption import unheard_by_children
from rb_smooth.refusal import Refused

_WAKING_S = 0.2


@contextmanager
def crew(workers: int, begin: Callable[..., None], *brought: Any, to: str = "work") -> Iterator[ProcessPoolExecutor]:
    """`workers` processes, in each of which begin(*brought) was called first; both are pickled. Ctrl-C is this one's.

    Leaving ends them; on an exception at once, whatever they are at. Raises Refused if one ended by itself. to: what
    they are for, in that one line.
    """
    # Spawned, not forked: a GPU in use, or torch's threads, would not survive a fork.
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _begin, (begin, *brought))
    try:
        with unheard_by_children():  # the first task starts all processes
            waking = [pool.submit(time.sleep, _WAKING_S) for _ in range(workers)]  # so long that each takes one
        for begun in waking:
            begun.result()
        yield pool
        pool.shutdown()
    except BrokenProcessPool:
        raise Refused(
            f"expected {workers} processes to {to} in, got one that ended (for want of memory, unless an error stands "
            "above); the same command goes on from there, with fewer --workers if need be"
        ) from None
    finally:
        for process in set(multiprocessing.active_children()) - others:  # nobody waits for what they are at
            process.kill()
            process.join()


def _begin(begin: Callable[..., None], *brought: Any) -> None:
    """The first thing in a worker process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin(*brought)


def _end_with_parent() -> None:
    """A parent that was killed ends nobody: its workers would work on, and then wait for more for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
