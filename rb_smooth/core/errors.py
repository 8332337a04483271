"""Exceptions and exit codes of the programs, and the texts of their messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130

_LISTED = 40
"""Valid names that a message lists; of more, the most similar."""

_MAX_LINE, _MAX_VALUE = 2000, 100
"""Characters of a message, and of a value in it."""


class UserError(Exception):
    """An error that the user can fix. The message is one line: `expected …, got …; do …`."""


class Diverged(UserError):
    """Training gave a loss or weights that are not finite."""


class SeveralUserErrors(UserError):
    """Several errors that the user can fix, each with its line."""

    def __init__(self, messages: Iterable[str]) -> None:
        self.messages = list(messages)
        super().__init__("\n".join(self.messages))


class Problems:
    """Messages of UserErrors, collected so that the user sees all of them at once."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def add(self, *messages: str) -> None:
        self.messages += messages

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Add the message of a UserError that ends the body."""
        try:
            yield
        except UserError as error:
            self.messages += messages_of(error)

    def as_error(self) -> UserError:
        return UserError(*self.messages) if len(self.messages) == 1 else SeveralUserErrors(self.messages)

    def raise_any(self) -> None:
        """Raise a UserError with the messages, if there are any."""
        if self.messages:
            raise self.as_error()


class Failed(Exception):
    """Part of the work failed, with its error printed before. The message names the part and how to continue."""


class Interrupted(Exception):
    """The user stopped the program; finished work is saved. The message says how to resume."""


def did_you_mean(name: str, valid: Iterable[str], unlisted: Iterable[str] = ()) -> str:
    """`got 'att'; did you mean 'at'? valid: at, mart`: the end of a message about an unknown name.

    unlisted: names that may be meant too, but are too many to list. A name that begins as typed is guessed before one
    that is similar; an abbreviation stands for its words: lr for learning_rate, and the other way round.
    """
    options = sorted(valid)
    candidates, folded = [*options, *unlisted], name.lower()
    spellings = {each: (each.lower(), re.split("[./]", each.lower())[-1]) for each in candidates}
    close = [each for each in candidates if folded in spellings[each]]
    close = close or [each for each in options if folded and any(one.startswith(folded) for one in spellings[each])]
    close = close or [each for each in candidates if folded == _initials(each) or each.lower() == _initials(name)]
    by_spelling = {one: each for each in reversed(candidates) for one in (each, *spellings[each])}
    close = close or [by_spelling[one] for one in difflib.get_close_matches(name, by_spelling, n=1, cutoff=0.5)]
    guess = f"did you mean {close[0]!r}? " if close else ""
    if len(options) > _LISTED:
        similar = difflib.get_close_matches(name, options, n=_LISTED, cutoff=0)
        return f"got {name!r}; {guess}valid: {', '.join(similar)}, … ({len(options)} in all)"
    return f"got {name!r}; {guess}valid: {', '.join(options) or 'none'}"


def _initials(name: str) -> str:
    """`lr` of learning_rate; nothing of a single word."""
    words = re.findall(r"[^\W_]+", name.lower())
    return "".join(word[0] for word in words) if len(words) > 1 else ""


def messages_of(error: UserError) -> list[str]:
    """Its messages, one for each problem."""
    return error.messages if isinstance(error, SeveralUserErrors) else [str(error)]


def one_line(message: str) -> str:
    """`message` without line breaks and other control characters, which a hostile name may hold; cut if very long."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", message)
    return text if len(text) <= _MAX_LINE else f"{text[: _MAX_LINE // 2]} … {text[-_MAX_LINE // 2 :]}"


def short_repr(value: object) -> str:
    """repr(value), cut if very long."""
    text = repr(value)
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]} …"


def first_line(error: BaseException) -> str:
    """First line of an error's text; its type's name if the text is empty."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


Refused = UserError  # deprecated alias
