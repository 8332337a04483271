"""What a user can mend is said in one line: what was expected, what was found, what to do."""

from __future__ import annotations

import difflib
import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rb_smooth import launch

FAILED, REFUSED, INTERRUPTED = 1, 2, 130

_CURES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EACCES: "allow it, or choose another folder",
    errno.EPERM: "allow it, or choose another folder",
    errno.EROFS: "choose a folder that can be written",
    errno.ENOTDIR: "choose a folder",
    errno.EEXIST: "choose a folder",
    errno.EISDIR: "choose a file, or move the folder away",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class Refused(Exception):
    """Something the user can mend. The message is one line: `expected …, got …; do …`."""


class Failed(Exception):
    """Part of the work failed, for a reason told above; the rest is done. The message says what, and how to go on."""


class Interrupted(Exception):
    """The user asked to stop, and what was done is saved. The message says how to go on."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """`'at+awp'; did you mean …? (valid: …)`: the tail of a message about an unknown name."""
    options = sorted(valid)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.4)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"got {name!r}; {guess}valid: {', '.join(options) or 'none'}"


def answering(main: Callable[[], int | None]) -> Callable[[], int]:
    """Turn what a program's `main` raises into an exit code and, where a user can mend it, one line."""

    def program() -> int:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 must not end a run
        with _sigterm_as_ctrl_c():
            try:
                return main() or 0
            except Refused as refused:
                return _say(str(refused), REFUSED)
            except Failed as failed:
                return _say(str(failed), FAILED)
            except Interrupted as interrupted:
                return _say(str(interrupted), INTERRUPTED)
            except KeyboardInterrupt:
                return _say("stopped; what was finished is kept, and the same command goes on from there", INTERRUPTED)
            except BrokenPipeError:  # whoever read our output has left
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (lives until the process ends)
                return REFUSED
            except OSError as error:
                if error.errno not in _CURES:
                    raise
                what = error.filename or "the output folder"
                cure = _CURES[error.errno]
                return _say(f"expected to use {what}, got '{error.strerror}'; {cure} and repeat the command", REFUSED)
            except RuntimeError as error:
                if str(error).startswith("DataLoader worker"):  # it died: killed for memory, or out of shared memory
                    cause = str(error).splitlines()[0]
                    return _say(f"expected processes that decode images, got '{cause}'; lower data.workers", REFUSED)
                if type(error).__name__ != "OutOfMemoryError" and "can't allocate memory" not in str(error):
                    raise  # torch's own class is named here, so that torch stays unimported
                return _say("expected net and batch to fit, got out of memory; lower data.batch_size (--set)", REFUSED)

    return program


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """A batch system's polite stop ends as Ctrl-C does. Outside the main thread signals are somebody else's."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(message: str, code: int) -> int:
    """Of several processes each says what only it may have met; that the job was stopped, the first says."""
    if launch.loudness is launch.Loudness.VERBOSE:
        traceback.print_exc()
    if launch.RANK == 0 or code == REFUSED:
        speaker = f"rb_smooth, process {launch.RANK}" if launch.RANK else "rb_smooth"
        print(f"{speaker}: {message}", file=sys.stderr)
    return code
