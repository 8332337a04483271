"""Worker processes, which end with the block or the parent that started them, and stop signals.

Ctrl-C, SIGTERM and SIGHUP are stop requests: the caller acts on them between two steps.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from rb_smooth.core.errors import UserError

_REPEAT_WINDOW_S = 1.0


def stop_signals() -> list[int]:
    """SIGTERM, which batch systems send, and SIGHUP, which a closed terminal sends unless it is ignored (nohup)."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [int(signal.SIGTERM)] if ignored else [int(signal.SIGTERM), int(signal.SIGHUP)]


@contextmanager
def catch_stop_signals() -> Iterator[list[float]]:
    """Context manager: append the time of each SIGINT and of each of `stop_signals` to the list.

    A signal more than 1 s after the first has its previous effect. Sooner ones are repetitions: a batch system signals
    every process, and torchrun signals its processes again. Outside the main thread the list stays empty.
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
        for number in (int(signal.SIGINT), *stop_signals()):
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
    """Context manager: delay signals until the end; processes started inside ignore Ctrl-C and SIGHUP.

    A terminal sends both to all processes: one that is starting would exit with a traceback, as would one whose
    parent stops before its arguments are sent.
    """
    with catch_stop_signals() as requested:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})  # which children inherit
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
    make: Callable[..., Callable[[TaskT], ResultT]], workers: int, *shared: Any, purpose: str = "work"
) -> Iterator[Callable[[TaskT], Future[bytes]]]:
    """Context manager: start `workers` processes; yield a function that submits a task to them.

    make:   called once in each process, with `shared`; returns the function that computes a task's result. It, tasks
            and results are pickled; the future is of a pickled result.
    shared: multiprocessing's shared objects, which are passed on.

    The processes ignore Ctrl-C and are killed at the end. Raises UserError, which names the `purpose`, if one ends
    earlier.
    """
    # Spawned, not forked: a GPU in use, or torch's threads, would not survive a fork.
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    # Pickled here, by value: torch would pass tensors in shared memory, which is often too small in containers.
    pool = ProcessPoolExecutor(workers, context, _init_worker, (pickle.dumps(make), *shared))
    try:
        with shield_children():  # the first task starts all processes
            starts = [
                pool.submit(time.sleep, _POLL_SECONDS) for _ in range(workers)
            ]  # so long that each process takes one
        for start in starts:
            start.result()
        yield lambda task: pool.submit(_run_task, pickle.dumps(task))
    except BrokenProcessPool:
        raise UserError(
            f"expected {workers} processes to {purpose} in, got one that ended (out of memory, unless an error is "
            "printed above); repeat the command to resume, with fewer --workers if necessary"
        ) from None
    finally:
        for process in set(multiprocessing.active_children()) - others:  # without waiting for running tasks
            process.kill()
        pool.shutdown()  # waits for their exit


def map_unordered(
    make: Callable[[], Callable[[TaskT], ResultT]], tasks: Sequence[TaskT], workers: int
) -> Generator[tuple[TaskT, ResultT], None, None]:
    """Yield (task, result) in order of completion, computed in this process (workers: 1) or in worker processes.

    make: as for `start_workers`.

    Exceptions of tasks are raised here. Close the generator (contextlib.closing) to end the processes early.
    """
    if workers == 1:
        work = make()
        for task in tasks:
            yield task, work(task)
        return
    with start_workers(make, workers) as submit:
        pending = {submit(task): task for task in tasks}
        for future in as_completed(pending):
            yield pending[future], pickle.loads(future.result())


_work: Callable[[Any], Any]
"""The function that computes results in a worker process; set by `_init_worker`."""


def _run_task(task: bytes) -> bytes:
    return pickle.dumps(_work(pickle.loads(task)))


def _init_worker(make: bytes, *shared: Any) -> None:
    """Initialise a worker process."""
    global _work
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = pickle.loads(make)(*shared)


def _end_with_parent() -> None:
    """Exit when the parent ends: workers of a killed parent would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
