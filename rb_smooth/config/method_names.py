"""Names of methods: a base and parts, as `at+awp-l2`, and how the papers write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rb_smooth.core.errors import UserError, did_you_mean

_ALIASES = {"+entropysgd": "+ensgd", "+entropysgd2": "+ensgd2"}
"""Other names of parts, in lower case."""


def split_method(method: str) -> list[str]:
    """Split `at+awp-l2` into at, +awp and -l2."""
    return re.findall(r"^[^+-]+|[+-][^+-]+", method) or [method]


def adds_one_part(method: str, base: str) -> bool:
    """Whether `method` is `base` with exactly one more part: at+awp for at."""
    here, there = set(split_method(method)), set(split_method(base))
    return there < here and len(here - there) == 1


def parse_method(dataset: str, method: str, bases: Sequence[str], parts: Sequence[str]) -> list[str]:
    """The base and the parts that `method` names, in its order: AT-AWP and AT + AWP are at+awp, PGD-AT is at.

    Case and the sign of a part matter only where two names differ in nothing else. Raises UserError for another name.
    """
    typed = re.sub(r"^pgd-at(?=$|[+-])", "at", re.sub(r"\s", "", method), flags=re.IGNORECASE)
    base, *added = split_method(typed)
    found = _find_name([base], bases)
    if found is None or "".join([base, *added]) != typed:
        parts_text = f"; with any of the parts {', '.join(sorted(parts))}" if parts else ""
        raise UserError(f"expected a method of {dataset}, {did_you_mean(method, bases)}{parts_text}")
    return [found, *(_parse_part(dataset, part, bases, parts) for part in added)]


def _parse_part(dataset: str, part: str, bases: Sequence[str], parts: Sequence[str]) -> str:
    plus = f"+{part[1:]}"
    found = _find_name([part, plus, f"-{part[1:]}", _ALIASES.get(plus.lower(), plus)], parts)
    if found is None:
        close = did_you_mean(part, parts)
        raise UserError(f"expected a part of {dataset}'s methods, {close}; bases: {', '.join(sorted(bases))}")
    return found


def _find_name(typed: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of `typed` that is one of `names`, or differs from only one of them, and in case only."""
    for each in typed:
        same = [name for name in names if name.lower() == each.lower()]
        if each in same or len(same) == 1:
            return each if each in same else same[0]
    return None
