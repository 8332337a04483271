"""Steps of the other methods beside their bare passes, as they come: precision and layout by default."""

from __future__ import annotations

from typing import Any

from bare_passes import compare_with_bare_passes
from benchmark_runs import SMALL_NET

_METHODS = ("at", "at+ensgd", "at+awp+ensgd", "trades+awp")
_BATCH_SIZE = 8


def measure(toy: bool) -> dict[str, Any]:
    smaller = (SMALL_NET, "objective.steps=1") if toy else ()
    images = 4 if toy else _BATCH_SIZE
    figures, forwards = [], {}
    for method in _METHODS:
        what = f"step of {method} over its bare passes, by default"
        found, forwards[method] = compare_with_bare_passes(what, method, images, *smaller, seconds=0 if toy else 15)
        figures.append(found)
    return {"figures": figures, "batch_size": images, "forwards": forwards}
