"""Radii of balls: as people write them, carried from one norm to another, and whether accuracy falls as they grow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rb_smooth.config.yaml import parse_yaml
from rb_smooth.core.errors import UserError

L2_PER_LINF = 0.5 / (8 / 255)
"""RobustBench's two balls for CIFAR-10, 0.5 in L2 beside 8/255 in L-infinity: by it a radius is carried to the other
norm."""

_MAX_RADII = 64
"""Radii of one call: more is a slip of the keyboard."""


def parse_radii(text: str) -> list[float]:
    """`8/255` -> one; `1/255,8/255` -> two; `2/255..16/255` -> 2/255, 4/255, …, 16/255, in steps of the first.

    Raises UserError for anything that is not a positive number.
    """
    found: list[float] = []
    for part in text.split(","):
        first, *rest = (_parse_radius(each, text) for each in part.split(".."))
        last = rest[0] if rest else first
        steps = round(last / first * 1e6) // 10**6 if last >= first else 0
        if len(rest) > 1 or not 1 <= steps <= _MAX_RADII:
            raise UserError(f"expected --eps such as 8/255 or 2/255..16/255, got {text!r}; correct it")
        found += [first * k for k in range(1, steps + 1)] if rest else [first]
    return sorted(set(found))


def norm_scale(norm: str, own_norm: str) -> float:
    """By what a radius in the norm `own_norm` is multiplied to be one in `norm`."""
    return {"Linf": 1.0, "L2": L2_PER_LINF}[norm] / {"Linf": 1.0, "L2": L2_PER_LINF}[own_norm]


def accuracy_increases(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Where accuracy rises as the ball grows, in words: a larger ball holds a smaller, so an attack was too weak."""
    found = []
    for norm in dict.fromkeys(row["norm"] for row in rows):
        ordered = sorted((row for row in rows if row["norm"] == norm), key=lambda row: row["eps"])
        for smaller, larger in pairwise(ordered):
            if larger["robust"] > smaller["robust"]:
                found.append(
                    f"{norm}: {larger['robust']:.2%} at eps {larger['eps']:.4g}, above {smaller['robust']:.2%} at "
                    f"{smaller['eps']:.4g}: the larger ball's figure is at most the smaller's"
                )
    return found


def _parse_radius(text: str, whole: str) -> float:
    value = parse_yaml(text, f"--eps {whole}")
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise UserError(f"expected --eps such as 8/255 or 2/255..16/255, got {whole!r}; correct it")
    return float(value)
