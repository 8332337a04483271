"""Tasks carried out by this process or by several beside it; what each gives is the same, and comes as it is done."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from rb_smooth.interruption import unheard_by_children
from rb_smooth.refusal import Refused

Task = TypeVar("Task")
Result = TypeVar("Result")

_WAKING_S = 0.2


def carried_out(
    make: Callable[[], Callable[[Task], Result]], tasks: Sequence[Task], workers: int
) -> Generator[tuple[Task, Result], None, None]:
    """Each task with its result, as soon as there is one.

    make: called once in each process; gives what carries out one task after the other there. It, tasks and results
    are pickled if workers > 1.

    Close it (contextlib.closing) when no more is wanted: that ends the processes. What a task raises is
    raised here. Raises Refused if a process ended by itself.
    """
    if workers == 1:
        work = make()
        for task in tasks:
            yield task, work(task)
        return
    # Spawned, not forked: a GPU in use, or torch's threads, would not survive a fork. Pickled here, and so by value:
    # shared memory, in which torch would pass tensors, is often too little in containers.
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _begin, (pickle.dumps(make),))
    try:
        with unheard_by_children():  # the first task starts all processes
            waking = [pool.submit(time.sleep, _WAKING_S) for _ in range(workers)]  # so long that each takes one
        for begun in waking:
            begun.result()
        ahead = {pool.submit(_carry_out, task): task for task in tasks}
        for future in as_completed(ahead):
            yield ahead[future], future.result()
    except BrokenProcessPool:
        raise Refused(
            f"expected {workers} processes to work in, got one that ended (for want of memory, unless an error stands "
            "above); the same command goes on from there, with fewer --workers if need be"
        ) from None
    finally:
        for process in set(multiprocessing.active_children()) - others:  # nobody waits for what they are at
            process.kill()
        pool.shutdown()  # waits until they are gone


_work: Callable[[Any], Any]
"""In a worker process, once `_begin` has set it: what carries out tasks there."""


def _begin(make: bytes) -> None:
    """The first thing in a worker process."""
    global _work
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = pickle.loads(make)()


def _end_with_parent() -> None:
    """A parent that was killed ends nobody: its workers would work on, and then wait for more for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _carry_out(task: Any) -> Any:
    return _work(task)
