"""Any number of processes gives the same results, and none outlives what it was started for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial

import psutil
import pytest
from worker_tasks import exit_process, fail, power_and_pid, sleep_forever, workers_are_gone

from rb_smooth.core import errors, worker_pool
from rb_smooth.core.worker_pool import map_unordered


@pytest.mark.parametrize("workers", [1, 2])
def test_each_task_comes_with_its_result(workers):
    found = dict(map_unordered(partial(power_and_pid, 3), range(6), workers))
    assert {base: power for base, (power, _) in found.items()} == {base: base**3 for base in range(6)}
    assert ({process for _, process in found.values()} == {os.getpid()}) is (workers == 1)
    assert workers_are_gone()


def test_an_exception_of_a_task_is_raised_and_ends_the_processes():
    with pytest.raises(errors.UserError, match="anything but 7"):
        list(map_unordered(fail, [7], 2))
    assert workers_are_gone()


def test_a_killed_worker_is_reported_in_one_line():
    with pytest.raises(errors.UserError, match="expected 2 processes to work in, got one that ended"):
        list(map_unordered(exit_process, [1, 2], 2))
    assert workers_are_gone()


def test_closing_does_not_wait_for_running_tasks():
    with closing(map_unordered(sleep_forever, [0, 600, 600], 2)) as found:
        next(found)
        assert len(multiprocessing.active_children()) == 2
        start = time.monotonic()
    assert time.monotonic() - start < 600  # which waiting for them would take
    assert workers_are_gone()


def test_ctrl_c_reaches_no_worker_even_while_it_starts(monkeypatch):
    class Interrupting(ProcessPoolExecutor):
        def submit(self, *given):
            future = super().submit(*given)
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGINT)
            return future

    monkeypatch.setattr(worker_pool, "ProcessPoolExecutor", Interrupting)
    assert len(list(map_unordered(partial(power_and_pid, 2), range(3), 2))) == 3


ORPHANS = """
from worker_tasks import sleep_forever
from rb_smooth.core.worker_pool import map_unordered
found = map_unordered(sleep_forever, [0, 600, 600], 2)
next(found)
print("begun", flush=True)
next(found)
"""


def test_processes_end_with_a_parent_that_was_killed():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", ORPHANS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout.readline() == "begun\n"
        children = psutil.Process(parent.pid).children()
        parent.kill()
    _, alive = psutil.wait_procs(children, timeout=300)
    for each in alive:
        each.kill()
    assert len(children) >= 2
    assert not alive
