"""Numbers of command lines: finite, in a range, and fractions such as 8/255. Does not import torch."""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import TypeVar

_Number = TypeVar("_Number", int, float)

_WHOLE = re.compile(r"[-+]?[0-9]{1,19}")
_FRACTION = re.compile(r"([0-9]{1,19})/([0-9]{1,19})")

MAX_SEED = 2**63 - 1
"""Largest seed: torch's generators take no larger one whose next ones are seeds too."""

MAX_WORKERS = 1024
MAX_EPOCHS = 10**6
MAX_COUNT = 10**9
"""Largest numbers of processes, of epochs, and of images or steps; larger ones are taken for typing errors."""


def parse_number(text: str, low: float, high: float) -> float:
    """The number that `text` writes, as 0.03, 5e-4 or 8/255. Raises ValueError if it is none from `low` to `high`."""
    fraction = _FRACTION.fullmatch(text.strip())
    try:
        value = int(fraction[1]) / int(fraction[2]) if fraction else float(text)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    return _in_range(value, low, high, "number", text)


def real_number(low: float, high: float) -> Callable[[str], float]:
    """A type of argparse's options: a number from `low` to `high`, also as a fraction."""

    def parse(text: str) -> float:
        try:
            return parse_number(text, low, high)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None

    return parse


def whole_number(low: int, high: int = MAX_COUNT) -> Callable[[str], int]:
    """A type of argparse's options: a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        try:
            value = int(text) if _WHOLE.fullmatch(text.strip()) else math.nan
            return int(_in_range(value, low, high, "whole number", text))
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None

    return parse


seed_number = whole_number(0, MAX_SEED)
worker_number = whole_number(1, MAX_WORKERS)


def _in_range(value: _Number, low: float, high: float, what: str, text: str) -> _Number:
    if not low <= value <= high:  # true for nan
        limit = f" of at least {low}" if value < low else f" of at most {high}" if value > high else ""
        raise ValueError(f"expected a {what}{limit}, got {text!r}")
    return value
