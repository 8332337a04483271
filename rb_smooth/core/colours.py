"""One colour per method in every picture: figures of training, landscapes, benchmarks, and the leaderboard's page."""

from __future__ import annotations

import re
from collections.abc import Iterable

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, distinct for colour-blind readers too; without yellow, which is faint on white."""

METHODS = ("at", "at+ensgd", "at+awp", "at+awp+ensgd", "trades", "mart", "standard")
"""Methods with a fixed colour: the one at the same place of COLOURS."""

_METHOD = re.compile(r"(?:at|trades|mart|standard)(?:\+[a-z0-9]+)*(?![\w+])", re.IGNORECASE)


def colour_indices(names: Iterable[str]) -> dict[str, int]:
    """Name -> place in COLOURS. A name of METHODS, also within `digits/at+awp-s0` or `at (10 epochs)`, has its own.

    Other names, and further names of the same method, get the first colour that is free; if none is, they start again.
    """
    found: dict[str, int] = {}
    others: list[str] = []
    for name in dict.fromkeys(names):
        match = _METHOD.match(name.rpartition("/")[2].replace("_", " "))
        method = match[0].lower() if match else ""
        if method in METHODS and METHODS.index(method) not in found.values():
            found[name] = METHODS.index(method)
        else:
            others.append(name)
    free = [index for index in range(len(COLOURS)) if index not in found.values()] or list(range(len(COLOURS)))
    return found | {name: free[place % len(free)] for place, name in enumerate(others)}


def method_colours(names: Iterable[str]) -> dict[str, str]:
    """Name -> colour, by `colour_indices`; in the order of `names`."""
    listed = list(dict.fromkeys(names))
    indices = colour_indices(listed)
    return {name: COLOURS[indices[name]] for name in listed}
