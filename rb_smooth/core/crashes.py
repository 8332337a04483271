"""Record crashes: ends of a process by a signal that native code raises and Python cannot catch. Costs no torch.

While a process works on a run, Python's faulthandler holds a file open in the run's folder. It stays empty unless the
process crashes; then the handler writes there which signal came and what every thread was doing.
"""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rb_smooth.core.errors import UserError
from rb_smooth.core.input_files import regular_file

FIX_HINT = (
    "on a CPU set ONEDNN_MAX_CPU_ISA=AVX and repeat the command; python -m rb_smooth.doctor checks what is installed"
)

_TRACE_HEADER = "Fatal Python error: "
_SIGNAL_NAMES = {
    "Aborted": "SIGABRT",
    "Segmentation fault": "SIGSEGV",
    "Bus error": "SIGBUS",
    "Illegal instruction": "SIGILL",
    "Floating point exception": "SIGFPE",
}
"""What faulthandler writes behind `_TRACE_HEADER`, and the signal that it means."""

_UNKNOWN_SIGNAL = "an unknown signal"
_STDERR_FD = 2


def crash_signal(exit_code: int) -> str | None:
    """The name of the signal by which a process with this exit code crashed; None if it ended in another way."""
    names = [name for name in _SIGNAL_NAMES.values() if getattr(signal, name, None) == -exit_code]
    return names[0] if names else None


@contextmanager
def record_crash_trace(path: Path) -> Iterator[None]:
    """While inside, a crash of this process writes a trace of its threads to the end of the file at `path`.

    A faulthandler that was enabled before is enabled again afterwards, on stderr. Where the folder of `path` does not
    exist, as on a machine that does not share the run's disk, nothing is recorded.
    """
    if not path.parent.is_dir():
        yield
        return
    was_enabled = faulthandler.is_enabled()
    with path.open("ab") as file:
        faulthandler.enable(file)
        try:
            yield
        finally:
            faulthandler.disable()
            if was_enabled:
                faulthandler.enable(_STDERR_FD)


def read_signal(path: Path) -> str | None:
    """The name of the signal in a trace; None if there is no file or an empty one. A damaged trace has no name."""
    try:
        with regular_file(path).open("rb") as file:
            first = file.read(200).decode(errors="replace").partition("\n")[0]
            is_empty = file.seek(0, 2) == 0
    except (FileNotFoundError, NotADirectoryError, UserError):
        return None
    words = first.removeprefix(_TRACE_HEADER).replace("-", " ")  # newer Pythons write floating-point
    return None if is_empty else _SIGNAL_NAMES.get(words, _UNKNOWN_SIGNAL)


def make_trace(signal_name: str) -> str:
    """A trace without threads, for a process that crashed and left none."""
    words = {name: words for words, name in _SIGNAL_NAMES.items()}
    return f"{_TRACE_HEADER}{words[signal_name]}\n"
