"""Parse radii, convert them between norms, and check that accuracy does not increase with the radius."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rb_smooth.core.errors import UserError
from rb_smooth.core.numbers import parse_number
from rb_smooth.core.threat import MAX_RADIUS

L2_PER_LINF = 0.5 / (8 / 255)
"""L2 radius per Linf radius: the ratio of RobustBench's two radii for CIFAR-10, 0.5 and 8/255."""

_MAX_RADII = 64
"""Largest number of radii in one call; more is likely a typing error."""


def parse_radii(text: str) -> list[float]:
    """Parse `8/255`, a list `1/255,8/255`, or a range `2/255..16/255` (2/255, 4/255, …, 16/255: steps of the first).

    Returns the radii in ascending order. Raises UserError for a value that is not a positive number.
    """
    radii: list[float] = []
    for part in text.split(","):
        first, *rest = (_parse_radius(each, text) for each in part.split(".."))
        last = rest[0] if rest else first
        steps = round(last / first * 1e6) // 10**6 if last >= first else 0
        if len(rest) > 1 or not 1 <= steps <= _MAX_RADII:
            raise UserError(f"expected --eps such as 8/255 or 2/255..16/255, got {text!r}; correct it")
        radii += [first * k for k in range(1, steps + 1)] if rest else [first]
    return sorted(set(radii))


def norm_scale(norm: str, own_norm: str) -> float:
    """Return the factor that converts a radius in the norm `own_norm` to one in `norm`."""
    return {"Linf": 1.0, "L2": L2_PER_LINF}[norm] / {"Linf": 1.0, "L2": L2_PER_LINF}[own_norm]


def accuracy_increases(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Describe each increase of accuracy with the radius: the attack at the larger radius was too weak."""
    increases = []
    for norm in dict.fromkeys(row["norm"] for row in rows):
        ordered = sorted((row for row in rows if row["norm"] == norm), key=lambda row: row["eps"])
        for smaller, larger in pairwise(ordered):
            if larger["robust"] > smaller["robust"]:
                increases.append(
                    f"{norm}: {larger['robust']:.2%} at eps {larger['eps']:.4g}, above {smaller['robust']:.2%} at "
                    f"{smaller['eps']:.4g}: the attack at the larger radius is too weak"
                )
    return increases


def _parse_radius(text: str, whole: str) -> float:
    try:
        return parse_number(text, 1e-9, MAX_RADIUS["L2"])
    except ValueError:
        raise UserError(f"expected --eps such as 8/255 or 2/255..16/255, got {whole!r}; correct it") from None
