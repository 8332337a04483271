"""A run as a process of its own: its command, the claim that keeps others away, and what it wrote."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import filelock
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rb_smooth.core.console import console, is_quiet, log_info
from rb_smooth.core.crashes import FIX_HINT, crash_signal
from rb_smooth.core.errors import USER_ERROR, Interrupted
from rb_smooth.core.worker_pool import catch_stop_signals
from rb_smooth.evaluation.score import attack_title
from rb_smooth.training.run_folder.run import Run


@dataclass(frozen=True)
class Job:
    """A run to be made. command: what makes it, to which `--device=…` is added; is_done: whether nothing is left.

    network_key: equal for runs of the same network, of which one crash is enough; empty if that is not known.
    """

    name: str
    run: Run
    command: tuple[str, ...]
    is_done: Callable[[], bool]
    network_key: str = ""


@dataclass(frozen=True)
class Failure:
    """A job that ended badly, with the last line that it wrote. is_user_error: the user can mend it, as the line
    says.
    """

    job: Job
    line: str
    is_user_error: bool


class JobProcess:
    """The process of a job on a device. It writes to output.txt in the run's folder, below what was written before."""

    def __init__(self, job: Job, device: str, claim: filelock.BaseFileLock, threads: int | None) -> None:
        self.job, self.device, self.claim, self.started = job, device, claim, time.monotonic()
        self.output = job.run.path / "output.txt"
        environment = {"PYTHONUNBUFFERED": "1"} | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
        command = [*job.command, f"--device={device}"]
        with self.output.open("ab") as file:
            file.write(f"$ {shlex.join(command)}\n".encode())
            file.flush()
            self.offset = file.tell()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment | os.environ,
                start_new_session=True,  # Ctrl-C reaches this program alone, which passes it on once
            )

    @property
    def time_taken(self) -> str:
        return str(timedelta(seconds=round(time.monotonic() - self.started))).removeprefix("0:")

    @property
    def last_line(self) -> str:
        """What the process wrote last; empty if it wrote nothing."""
        with self.output.open("rb") as file:
            file.seek(max(self.offset, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    @property
    def crash(self) -> str | None:
        """The name of the signal by which native code ended it; None if it ended in another way."""
        return crash_signal(self.process.returncode)

    @property
    def exit_reason(self) -> str:
        """Why it ended, in one line."""
        if self.crash is not None:
            last = self.last_line or "nothing"
            return f"crashed by {self.crash} in native code; {FIX_HINT}; the last line of {self.output}: {last}"
        if (code := self.process.returncode) < 0:
            last = f"; before that: {self.last_line}" if self.last_line else ""
            return (
                f"ended by signal {-code} ({signal.strsignal(-code)}{', out of memory?' if code == -9 else ''}){last}"
            )
        return self.last_line.removeprefix("rb_smooth: ") or f"exit code {code}"

    def interrupt(self) -> None:
        self.process.wait()
        self.claim.release()


def claim_run(run: Run) -> filelock.BaseFileLock | None:
    """The claim on a run, held while a process of ours lives there; None if anything works there already."""
    run.path.mkdir(parents=True, exist_ok=True)
    claim = filelock.FileLock(run.path / ".claim", timeout=0)
    try:
        claim.acquire()
    except filelock.Timeout:
        return None
    if run.is_in_use:
        claim.release()
        return None
    return claim


_POLL_SECONDS = 0.1
_RETRY_SECONDS = 2.0
"""Seconds after which runs that others work on are looked at again."""


def run_jobs(jobs: Sequence[Job], devices: Sequence[str], threads: int | None = None) -> list[Failure]:
    """Carry `jobs` out in order, one at a time on each of `devices`; what failed or was not started comes back.

    threads: CPU threads of each process, unless OMP_NUM_THREADS says otherwise. Each writes to output.txt in its run's
    folder. Raises Interrupted after Ctrl-C or SIGTERM, when every process has saved and stopped; a second signal kills.
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
                process.interrupt()
    if stop and queue.done + len(queue.failures) < len(jobs):
        raise Interrupted(f"stopped, {queue.done} of {len(jobs)} runs done; the same command goes on from there")
    return queue.failures


class _Queue:
    """What waits, what runs, and on which devices nothing runs."""

    def __init__(self, jobs: Sequence[Job], devices: Sequence[str], threads: int | None) -> None:
        self.waiting, self.free, self.threads = deque(jobs), deque(devices), threads
        self.processes: list[JobProcess] = []
        self.failures: list[Failure] = []
        self.crashed: dict[str, str] = {}
        """By network, the name of the run that crashed."""
        self.done, self.jobs = 0, len(jobs)
        self.is_stopping = False
        self._next_look = 0.0
        self._reported_busy: set[str] = set()

    def start(self) -> None:
        """As many jobs as devices are free."""
        while self.free and self.waiting and time.monotonic() >= self._next_look:
            for job in list(self.waiting):
                if self._try_start(job):
                    self.waiting.remove(job)
                    break
                self._report_busy(job)
            else:
                self._next_look = time.monotonic() + _RETRY_SECONDS

    def collect(self, stopping: bool) -> None:
        """Judge and let go the processes that have ended."""
        for process in [process for process in self.processes if process.process.poll() is not None]:
            self._handle_exit(process, stopping)
            process.interrupt()
            self.processes.remove(process)
            self.free.appendleft(process.device)

    def stop(self) -> None:
        """Ask every process, once, to save and end."""
        self.is_stopping = True
        console.print(f"stopping: {len(self.processes)} processes save what they have; a second Ctrl-C kills them")
        for process in self.processes:
            process.process.terminate()

    def status_table(self) -> Group:
        """What runs now, for a terminal."""
        table = Table.grid("", "", "", "", padding=(0, 2))
        for process in tuple(self.processes):
            told = (process.job.name, process.device, process.time_taken, process.last_line)
            table.add_row(*(Text(each, no_wrap=True, overflow="ellipsis") for each in told))
        for column in table.columns[:-1]:
            column.no_wrap = True  # where room is short, the last line gives way
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return Group(table, f"{self.done} of {self.jobs} done{failed}")

    def _try_start(self, job: Job) -> bool:
        """Whether the job is off the queue: started, found done, or not to be started. False: another works there."""
        if job.network_key in self.crashed and not job.is_done():
            self._fail(
                job, f"not started: {self.crashed[job.network_key]}, of the same network, crashed", refused=False
            )
            return True
        try:
            claim = claim_run(job.run)
            if claim is None:
                return False
            if job.is_done():
                claim.release()
                self._count_done(job, "")
            else:
                self.processes.append(JobProcess(job, self.free[0], claim, self.threads))
                log_info(f"started {job.name} on {self.free.popleft()}")
        except OSError as error:
            self._fail(job, str(error), refused=True)
        return True

    def _handle_exit(self, process: JobProcess, stopping: bool) -> None:
        job, code = process.job, process.process.returncode
        if code == 0:
            self._count_done(job, f", {process.time_taken}")
        elif stopping:
            log_info(f"stopped {job.name}: {process.exit_reason}")
        elif job.is_done():
            self._count_done(job, "")
        elif job.run.is_in_use:  # someone was quicker between our look and our process's
            self.waiting.append(job)
        else:
            if process.crash is not None:
                self._record_crash(job, process.crash)
            self._fail(job, process.exit_reason, code == USER_ERROR)

    def _record_crash(self, job: Job, signal_name: str) -> None:
        """Keep other runs of this network from being started, and record the crash in the run's folder."""
        if job.network_key:
            self.crashed.setdefault(job.network_key, job.name)
        with suppress(OSError):  # a full disk ends no other run
            job.run.record_crash(signal_name)

    def _count_done(self, job: Job, time_taken: str) -> None:
        self.done += 1
        score = job.run.score
        figure = "" if score is None else f": {attack_title(score)} {score['autoattack']:.1%}"
        log_info(f"finished {job.name}{figure}{time_taken or ', by another process'}")

    def _fail(self, job: Job, line: str, refused: bool) -> None:
        self.failures.append(Failure(job, line, refused))
        console.print(f"failed {job.name}: {line}")

    def _report_busy(self, job: Job) -> None:
        if job.name not in self._reported_busy:
            self._reported_busy.add(job.name)
            log_info(f"waiting for {job.name}: another process works there")


@contextmanager
def _live_status(status_table: Callable[[], Group]) -> Iterator[None]:
    """The board, kept up to date below the lines printed; nothing where the output is not a terminal."""
    if is_quiet() or not console.is_terminal:
        yield
        return
    with Live(get_renderable=status_table, console=console, refresh_per_second=2, transient=True):
        yield
