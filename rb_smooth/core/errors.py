"""Exceptions and exit codes of the programs, and the texts of their messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130


class UserError(Exception):
    """An error that the user can fix. The message is one line: `expected …, got …; do …`."""


class Diverged(UserError):
    """Training gave a loss or weights that are not finite."""


class Failed(Exception):
    """Part of the work failed, with its error printed before. The message names the part and how to continue."""


class Interrupted(Exception):
    """The user stopped the program; finished work is saved. The message says how to resume."""


def did_you_mean(name: str, valid: Iterable[str], unlisted: Iterable[str] = ()) -> str:
    """`got 'att'; did you mean 'at'? valid: at, mart`: the end of a message about an unknown name.

    unlisted: names that may be meant too, but are too many to list. An abbreviation stands for its words: lr for
    learning_rate, and the other way round.
    """
    options = sorted(valid)
    candidates, folded = [*options, *unlisted], name.lower()
    close = [each for each in candidates if folded in (each.lower(), each.rpartition(".")[2].lower())]
    close = close or [each for each in candidates if folded == _initials(each) or each.lower() == _initials(name)]
    close = close or difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"got {name!r}; {guess}valid: {', '.join(options) or 'none'}"


def _initials(name: str) -> str:
    """`lr` of learning_rate; nothing of a single word."""
    words = re.findall(r"[^\W_]+", name.lower())
    return "".join(word[0] for word in words) if len(words) > 1 else ""


def first_line(error: BaseException) -> str:
    """First line of an error's text; its type's name if the text is empty."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


Refused = UserError  # deprecated alias
