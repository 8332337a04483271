"""Worker processes beside this one, started and ended in one way: none outlives what it was started for."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from rb_smooth.interruption import unheard_by_children
from rb_smooth.refusal import Refused

Task = TypeVar("Task")
Result = TypeVar("Result")

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
    except BrokenProcessPool:
        raise Refused(
            f"expected {workers} processes to {to} in, got one that ended (for want of memory, unless an error stands "
            "above); the same command goes on from there, with fewer --workers if need be"
        ) from None
    finally:
        for process in set(multiprocessing.active_children()) - others:  # nobody waits for what they are at
            process.kill()
        pool.shutdown()  # waits until they are gone


def carried_out(
    make: Callable[[], Callable[[Task], Result]], tasks: Sequence[Task], workers: int
) -> Generator[tuple[Task, Result], None, None]:
    """Each task with its result, as soon as there is one, whether by this process (workers: 1) or by several beside it.

    make: called once in each process; gives what carries out one task after the other there. It, tasks and results
    are pickled if workers > 1.

    Close it (contextlib.closing) when no more is wanted: that ends the processes. What a task raises is raised here.
    """
    if workers == 1:
        work = make()
        for task in tasks:
            yield task, work(task)
        return
    # Pickled here, so by value: of shared memory, in which torch would pass tensors, containers have often too little.
    with crew(workers, _make, pickle.dumps(make)) as pool:
        ahead = {pool.submit(_carry_out, task): task for task in tasks}
        for future in as_completed(ahead):
            yield ahead[future], future.result()


_work: Callable[[Any], Any]
"""In a worker process, once `_make` has set it: what carries out tasks there."""


def _make(make: bytes) -> None:
    global _work
    _work = pickle.loads(make)()


def _carry_out(task: Any) -> Any:
    return _work(task)


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
