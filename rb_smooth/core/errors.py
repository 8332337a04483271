"""What a user can mend is said in one line: what was expected, what was found, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130


class UserError(Exception):
    """Something the user can mend. The message is one line: `expected …, got …; do …`."""


class Failed(Exception):
    """Part of the work failed, for a reason told above; the rest is done. The message says what, and how to go on."""


class Interrupted(Exception):
    """The user asked to stop, and what was done is saved. The message says how to go on."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """`'at+awp'; did you mean …? (valid: …)`: the tail of a message about an unknown name."""
    options = sorted(valid)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.4)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"got {name!r}; {guess}valid: {', '.join(options) or 'none'}"


def first_line(error: BaseException) -> str:
    """First line of an error's text; its type's name if the text is empty."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


Refused = UserError  # the name that users know
