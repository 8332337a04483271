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
    """The base and the parts that `method` names, in its order: AT-AWP, at_awp and AT AWP are at+awp, PGD-AT is at.

    Case and the sign of a part matter only where two names differ in nothing else. `_` and spaces are signs unless
    a name has them. Raises UserError for another name.
    """
    typed = re.sub(r"\s*([+-])\s*", r"\1", method.strip())
    spellings = [_split_papers_name(each) for each in (typed, re.sub(r"[\s_]+", "+", typed))]
    for base, *added in spellings:
        names = [_find_name([base], bases), *(_find_part(part, parts) for part in added)]
        if None not in names:
            return [name for name in names if name]
    for base, *added in spellings:
        if _find_name([base], bases) is not None:
            unknown = next(part for part in added if _find_part(part, parts) is None)
            close = did_you_mean(unknown, parts)
            raise UserError(f"expected a part of {dataset}'s methods, {close}; bases: {', '.join(sorted(bases))}")
    parts_text = f"; with any of the parts {', '.join(sorted(parts))}" if parts else ""
    close = did_you_mean(method, bases, [base + part for base in bases for part in parts])
    raise UserError(f"expected a method of {dataset}, {close}{parts_text}")


def _split_papers_name(typed: str) -> list[str]:
    """`split_method` of a name whose base may be PGD-AT; the whole where it has an empty part."""
    typed = re.sub(r"^pgd[+-]at(?=$|[+-])", "at", typed, flags=re.IGNORECASE)
    names = split_method(typed)
    return names if "".join(names) == typed else [typed]


def _find_part(part: str, parts: Sequence[str]) -> str | None:
    plus = f"+{part[1:]}"
    return _find_name([part, plus, f"-{part[1:]}", _ALIASES.get(plus.lower(), plus)], parts)


def _find_name(typed: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of `typed` that is one of `names`, or differs from only one of them, and in case only."""
    for each in typed:
        same = [name for name in names if name.lower() == each.lower()]
        if each in same or len(same) == 1:
            return each if each in same else same[0]
    return None
