"""What a user can mend is said in one line: what was expected, what was found, what to do."""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Callable, Iterable

REFUSED, INTERRUPTED = 2, 130

_MENDABLE_OS_ERRORS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EACCES: "allow writing there, or choose another folder",
    errno.EPERM: "allow writing there, or choose another folder",
    errno.EROFS: "choose a folder that can be written",
}


class Refused(Exception):
    """Something the user can mend. The message is one line: `expected …, got …; do …`."""


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
        try:
            return main() or 0
        except Refused as refused:
            return _say(str(refused), REFUSED)
        except Interrupted as interrupted:
            return _say(str(interrupted), INTERRUPTED)
        except KeyboardInterrupt:
            return _say("stopped; finished stages are kept, and the same command goes on from there", INTERRUPTED)
        except OSError as error:
            if error.errno not in _MENDABLE_OS_ERRORS:
                raise
            where = error.filename or "the output folder"
            cure = _MENDABLE_OS_ERRORS[error.errno]
            return _say(f"expected to write {where}, got '{error.strerror}'; {cure} and repeat the command", REFUSED)
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's; named here so that torch stays unimported
                raise
            return _say("expected the batch to fit, got out of memory; lower data.batch_size (--set)", REFUSED)

    return program


def _say(message: str, code: int) -> int:
    print(f"rb_smooth: {message}", file=sys.stderr)
    return code
