"""A training step of PreActResNet-18 under AT and AWP beside the passes that it must do, in either memory layout."""

from __future__ import annotations

from typing import Any

from bare_passes import compare_with_bare_passes
from benchmark_runs import SMALL_NET

_BATCH_SIZE = 16
"""What two cores do in seconds; the recipe has 128, at which whatever is not a pass weighs less."""

_LAYOUTS = {"NCHW": "train.channels_last=false", "channels_last": "train.channels_last=true"}


def measure(toy: bool) -> dict[str, Any]:
    smaller = (SMALL_NET, "objective.steps=1") if toy else ()
    images = 4 if toy else _BATCH_SIZE
    figures = []
    for layout, setting in _LAYOUTS.items():
        settings = ("train.precision=fp32", "train.compile=false", setting, *smaller)
        what = f"step of at+awp over its bare passes, fp32, {layout}"
        found, forwards = compare_with_bare_passes(
            what, "at+awp", images, *settings, seconds=0 if toy else 70, at_most=1.03
        )
        figures.append(found)
    return {"figures": figures, "batch_size": images, "forwards": forwards}
