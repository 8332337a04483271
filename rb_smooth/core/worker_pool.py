"""Worker processes beside this one, none of which outlives what it was started for; and stop requests.

Ctrl-C and SIGTERM are requests, honoured between two steps instead of in the middle of one.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from rb_smooth.core.errors import UserError

_REPEAT_WINDOW_S = 1.0


@contextmanager
def catch_stop_signals() -> Iterator[list[float]]:
    """Inside, a signal fills the list; one that comes a second or more after it acts as if nobody were listening.

    Sooner it is the same request by another way: a batch system tells every process, and torchrun tells its own again.

    Outside the main thread signals are somebody else's, and the list stays empty.
    """
    requested: list[float] = []
    handlers: dict[int, Any] = {}

    def note(number: int, frame: object) -> None:
        requested.append(time.monotonic())
        if requested[-1] - requested[0] > _REPEAT_WINDOW_S:
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
def shield_children() -> Iterator[None]:
    """Inside, a signal waits for the end, and processes that are started do not hear Ctrl-C, neither then nor later.

    A terminal's Ctrl-C reaches all of them: one that has just begun would die of it with a traceback, and so would one
    whose parent stops before it has told it everything.
    """
    with catch_stop_signals() as requested:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which children inherit
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if requested:
        raise KeyboardInterrupt


TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_POLL_SECONDS = 0.2


@contextmanager
def start_workers(
    workers: int, initializer: Callable[..., None], *args: Any, purpose: str = "work"
) -> Iterator[ProcessPoolExecutor]:
    """`workers` processes, in each of which begin(*brought) was called first; both are pickled. Ctrl-C is this one's.

    Leaving ends them; on an exception at once, whatever they are at. Raises UserError if one ended by itself. purpose:
    what they are for, in that one line.
    """
    # Spawned, not forked: a GPU in use, or torch's threads, would not survive a fork.
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _init_worker, (initializer, *args))
    try:
        with shield_children():  # the first task starts all processes
            waking = [pool.submit(time.sleep, _POLL_SECONDS) for _ in range(workers)]  # so long that each takes one
        for begun in waking:
            begun.result()
        yield pool
    except BrokenProcessPool:
        raise UserError(
            f"expected {workers} processes to {purpose} in, got one that ended (for want of memory, unless an error "
            "stands "
            "above); the same command goes on from there, with fewer --workers if need be"
        ) from None
    finally:
        for process in set(multiprocessing.active_children()) - others:  # nobody waits for what they are at
            process.kill()
        pool.shutdown()  # waits until they are gone


def map_unordered(
    make: Callable[[], Callable[[TaskT], ResultT]], tasks: Sequence[TaskT], workers: int
) -> Generator[tuple[TaskT, ResultT], None, None]:
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
    with start_workers(workers, _make_work, pickle.dumps(make)) as pool:
        ahead = {pool.submit(_run_task, task): task for task in tasks}
        for future in as_completed(ahead):
            yield ahead[future], future.result()


_work: Callable[[Any], Any]
"""In a worker process, once `_make_work` has set it: what carries out tasks there."""


def _make_work(make: bytes) -> None:
    global _work
    _work = pickle.loads(make)()


def _run_task(task: Any) -> Any:
    return _work(task)


def _init_worker(begin: Callable[..., None], *args: Any) -> None:
    """The first thing in a worker process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin(*args)


def _end_with_parent() -> None:
    """A parent that was killed ends nobody: its workers would work on, and then wait for more for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
