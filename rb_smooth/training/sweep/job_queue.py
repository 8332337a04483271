"""Run jobs as processes, one at a time on each device."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rb_smooth.core.console import console, is_quiet, log_info
from rb_smooth.core.errors import USER_ERROR, Interrupted
from rb_smooth.core.formatting import counted, duration
from rb_smooth.core.worker_pool import catch_stop_signals
from rb_smooth.evaluation.score import attack_title
from rb_smooth.training.sweep.job_process import Job, JobProcess


@dataclass(frozen=True)
class Failure:
    """A failed job. line: why, in one line. is_user_error: whether the line tells the user what to fix."""

    job: Job
    line: str
    is_user_error: bool


_POLL_SECONDS = 0.1
_RETRY_SECONDS = 2.0
"""Seconds before runs that other processes work on are tried again."""


def run_jobs(jobs: Sequence[Job], devices: Sequence[str], threads: int | None = None) -> list[Failure]:
    """Run `jobs` in order, one at a time on each of `devices`. Returns the jobs that failed or did not start.

    threads: CPU threads of each process, unless OMP_NUM_THREADS is set. Each writes to output.txt in its run's folder.
    Raises Interrupted after a stop signal, when every process has saved its state; a second signal kills them.
    """
    queue = _Queue(jobs, devices, threads)
    with catch_stop_signals() as stop, _live_status(queue.status_table):
        try:
            while queue.processes or (queue.waiting and not stop):
                queue.collect(stopping=bool(stop))
                if not stop:
                    queue.start()
                elif not queue.is_stopping:
                    queue.stop()
                time.sleep(_POLL_SECONDS)
        finally:
            for process in queue.processes:
                process.process.kill()
                process.process.wait()
    if stop and queue.done + len(queue.failures) < len(jobs):
        raise Interrupted(f"stopped, {queue.done} of {len(jobs)} runs done; the same command goes on from there")
    return queue.failures


class _Queue:
    """Waiting jobs, running processes and free devices."""

    def __init__(self, jobs: Sequence[Job], devices: Sequence[str], threads: int | None) -> None:
        self.waiting, self.free, self.threads = deque(jobs), deque(devices), threads
        self.processes: list[JobProcess] = []
        self.failures: list[Failure] = []
        self.crashed: dict[str, str] = {}
        """Name of the run that crashed, by network."""
        self.done, self.jobs = 0, len(jobs)
        self._seconds: list[float] = []
        """Times of the processes that finished their job."""
        self.is_stopping = False
        self._retry_at = 0.0
        self._reported_busy: set[str] = set()

    def start(self) -> None:
        """Start a job on each free device."""
        while self.free and self.waiting and time.monotonic() >= self._retry_at:
            for job in list(self.waiting):
                if self._try_start(job):
                    self.waiting.remove(job)
                    break
                self._report_busy(job)
            else:
                self._retry_at = time.monotonic() + _RETRY_SECONDS

    def collect(self, stopping: bool) -> None:
        """Handle the processes that have ended."""
        for process in [process for process in self.processes if process.process.poll() is not None]:
            self._handle_exit(process, stopping)
            self.processes.remove(process)
            self.free.appendleft(process.device)
            if process.process.returncode == 0:
                self._seconds.append(process.seconds)
                self._report_time_left()

    def stop(self) -> None:
        """Send SIGTERM to every process, on which it saves its state and ends."""
        self.is_stopping = True
        console.print(f"stopping: {len(self.processes)} processes save their state; a second Ctrl-C kills them")
        for process in self.processes:
            process.process.terminate()

    def status_table(self) -> Group:
        """The running processes, for a terminal."""
        table = Table.grid("", "", "", "", padding=(0, 2))
        for process in tuple(self.processes):
            cells = (process.job.name, process.device, process.time_taken, process.last_line)
            table.add_row(*(Text(each, no_wrap=True, overflow="ellipsis") for each in cells))
        for column in table.columns[:-1]:
            column.no_wrap = True  # only the last column is shortened
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return Group(table, f"{self.done} of {self.jobs} done{failed}")

    def _try_start(self, job: Job) -> bool:
        """Start the job, unless it is done or cannot start. Returns False if another process works on its run."""
        if job.network_key in self.crashed and not job.is_done():
            self._fail(job, f"not started: {self.crashed[job.network_key]}, of the same network, crashed")
            return True
        try:
            job.run.path.mkdir(parents=True, exist_ok=True)
            if job.run.is_in_use:
                return False
            if job.is_done():
                self._count_done(job, "")
            else:
                self.processes.append(JobProcess(job, self.free[0], self.threads))
                log_info(f"started {job.name} on {self.free.popleft()}; log: {self.processes[-1].output}")
        except OSError as error:
            self._fail(job, str(error), is_user_error=True)
        return True

    def _handle_exit(self, process: JobProcess, stopping: bool) -> None:
        job, code = process.job, process.process.returncode
        if code == 0:
            self._count_done(job, f", {process.time_taken}")
        elif stopping:
            log_info(f"stopped {job.name}: {process.exit_reason}")
        elif job.is_done():
            self._count_done(job, "")
        elif job.run.is_in_use:  # another process locked the run first
            self.waiting.append(job)
        else:
            if process.crash is not None:
                self._record_crash(job, process.crash)
            self._fail(job, process.exit_reason, code == USER_ERROR)

    def _record_crash(self, job: Job, signal_name: str) -> None:
        """Record the crash in the run's folder, and start no other run of this network."""
        if job.network_key:
            self.crashed.setdefault(job.network_key, job.name)
        with suppress(OSError):  # a full disk must not end other runs
            job.run.record_crash(signal_name)

    def _count_done(self, job: Job, time_taken: str) -> None:
        self.done += 1
        score = job.run.score
        figure = "" if score is None else f": {attack_title(score)} {score['autoattack']:.1%}"
        log_info(f"finished {job.name}{figure}{time_taken or ', by another process'}")

    def _report_time_left(self) -> None:
        left = len(self.waiting) + len(self.processes)
        if left and not self.is_stopping:
            each = sum(self._seconds) / len(self._seconds)
            begun = sum(min(process.seconds, each) for process in self.processes)
            seconds = (each * left - begun) / min(left, len(self.free) + len(self.processes))
            log_info(f"about {duration(seconds)} left for {counted(left, 'run')}, if they take as long as those before")

    def _fail(self, job: Job, line: str, is_user_error: bool = False) -> None:
        self.failures.append(Failure(job, line, is_user_error))
        console.print(f"failed {job.name}: {line}")

    def _report_busy(self, job: Job) -> None:
        if job.name not in self._reported_busy:
            self._reported_busy.add(job.name)
            log_info(f"waiting for {job.name}: another process works there")


@contextmanager
def _live_status(status_table: Callable[[], Group]) -> Iterator[None]:
    """Show the status table below the printed lines, on a terminal."""
    if is_quiet() or not console.is_terminal:
        yield
        return
    with Live(get_renderable=status_table, console=console, refresh_per_second=2, transient=True):
        yield
