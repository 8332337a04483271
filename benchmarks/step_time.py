"""Time of an `at+awp` step of PreActResNet-18 relative to its bare passes and to the AWP authors' way, on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from authors_step import AuthorsStep
from bare_passes import BarePasses, count_forwards
from benchmark_figure import figure
from benchmark_runs import SMALL_NET, first_minibatch, on_random_images, training_step_of
from interleaved_timing import ratios, time_interleaved

_BATCH_SIZE = 16
"""Seconds a step on two cores. At the recipe's 128 images, whatever is not a pass weighs less."""

_LAYOUTS = {"NCHW": "train.channels_last=false", "channels_last": "train.channels_last=true"}


def measure_bare_passes(toy: bool) -> dict[str, Any]:
    images, smaller = _size(toy)
    figures, passes = [], 0
    for layout, setting in _LAYOUTS.items():
        trainer = on_random_images("at+awp", images, "train.precision=fp32", "train.compile=false", setting, *smaller)
        x, y = first_minibatch(trainer)
        ways = {"ours": training_step_of(trainer, x, y), "bare": BarePasses(trainer, x, y)}
        passes, bare = (count_forwards(trainer.model, way) for way in ways.values())  # also warms up
        assert passes == bare, f"expected {passes} forward passes of the lower bound, got {bare}"
        times = time_interleaved(ways, seconds=0 if toy else 70, fewest=3, warm_up=False)
        what = f"`at+awp` step / its forward and backward passes alone (fp32, {layout})"
        figures.append(figure(what, "×", ratios(times, "ours", "bare"), at_most=1.03))
    return {"figures": figures, "batch_size": images, "forwards": passes}


def measure_authors(toy: bool) -> dict[str, Any]:
    images, smaller = _size(toy)
    ours = on_random_images("at+awp", images, *smaller)
    theirs = on_random_images("at+awp", images, *smaller, "train.precision=fp32", "train.channels_last=false")
    x, y = first_minibatch(theirs)
    theirs.model.train()
    authors = AuthorsStep(theirs.model, steps=theirs.objective.steps, gamma=0.01)  # type: ignore[attr-defined]
    ways = {"authors": lambda: authors(x, y), "ours": training_step_of(ours, x, y)}
    times = time_interleaved(ways, seconds=0 if toy else 60, fewest=3)
    kernel = next(each for each in ours.model.parameters() if each.ndim == 4)
    what = "`at+awp` step as its authors take it / ours"
    return {
        "figures": [figure(what, "×", ratios(times, "authors", "ours"), at_least=2.2)],
        "batch_size": images,
        "authors": "eager, fp32, NCHW",
        "ours": {
            "precision": ours.precision,
            "channels_last": kernel.is_contiguous(memory_format=torch.channels_last),
            "compiled": ours.compiled,
        },
    }


def _size(toy: bool) -> tuple[int, tuple[str, ...]]:
    """Images, and settings of the network."""
    return (4, (SMALL_NET, "objective.steps=1")) if toy else (_BATCH_SIZE, ())
