"""A run as a process of its own: its command, the claim that keeps others away, and what it wrote."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import filelock

from rb_smooth.crashes import CURE, signal_of
from rb_smooth.run_folder import Run


@dataclass(frozen=True)
class Job:
    """A run to be made. command: what makes it, to which `--device=…` is added; is_done: whether nothing is left.

    network: equal for runs of the same network, of which one crash is enough; empty if that is not known.
    """

    name: str
    run: Run
    command: tuple[str, ...]
    is_done: Callable[[], bool]
    network: str = ""


@dataclass(frozen=True)
class Failure:
    """A job that ended badly, with the last line that it wrote. refused: the user can mend it, as the line says."""

    job: Job
    line: str
    refused: bool


class Attempt:
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
        return signal_of(self.process.returncode)

    @property
    def ending(self) -> str:
        """Why it ended, in one line."""
        if self.crash is not None:
            last = self.last_line or "nothing"
            return f"crashed by {self.crash} in native code; {CURE}; the last line of {self.output}: {last}"
        if (code := self.process.returncode) < 0:
            last = f"; before that: {self.last_line}" if self.last_line else ""
            return (
                f"ended by signal {-code} ({signal.strsignal(-code)}{', out of memory?' if code == -9 else ''}){last}"
            )
        return self.last_line.removeprefix("rb_smooth: ") or f"exit code {code}"

    def end(self) -> None:
        self.process.wait()
        self.claim.release()


def claimed(run: Run) -> filelock.BaseFileLock | None:
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
