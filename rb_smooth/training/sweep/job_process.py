"""One job of a queue as a process: its command, output and exit reason."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from rb_smooth.core.crashes import FIX_HINT, crash_signal
from rb_smooth.training.run_folder.run import Run


@dataclass(frozen=True)
class Job:
    """A run to carry out. command: its command line, without `--device=…`; is_done: whether the run is complete.

    network_key: equal for runs of the same network, of which none starts after a crash of one; empty if unknown.
    """

    name: str
    run: Run
    command: tuple[str, ...]
    is_done: Callable[[], bool]
    network_key: str = ""


class JobProcess:
    """The process of a job on a device. Its output is appended to output.txt in the run's folder."""

    def __init__(self, job: Job, device: str, threads: int | None) -> None:
        self.job, self.device, self.started = job, device, time.monotonic()
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
                start_new_session=True,  # Ctrl-C reaches the queue only, which forwards it once
            )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def time_taken(self) -> str:
        return str(timedelta(seconds=round(self.seconds))).removeprefix("0:")

    @property
    def last_line(self) -> str:
        """Last non-empty line of the output; empty if there is none."""
        with self.output.open("rb") as file:
            file.seek(max(self.offset, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    @property
    def crash(self) -> str | None:
        """Name of the signal of a crash in native code; None if there was no such crash."""
        return crash_signal(self.process.returncode)

    @property
    def exit_reason(self) -> str:
        """Why the process ended, in one line."""
        if self.crash is not None:
            last = self.last_line or "nothing"
            return f"crashed by {self.crash} in native code; {FIX_HINT}; the last line of {self.output}: {last}"
        if (code := self.process.returncode) < 0:
            last = f"; before that: {self.last_line}" if self.last_line else ""
            return (
                f"ended by signal {-code} ({signal.strsignal(-code)}{', out of memory?' if code == -9 else ''}){last}"
            )
        return self.last_line.removeprefix("rb_smooth: ") or f"exit code {code}"
