"""A training step of PreActResNet-18 as the AWP authors take it, beside ours as it comes on this CPU."""

from __future__ import annotations

from typing import Any

import torch
from authors_step import AuthorsStep
from benchmark_figure import figure
from benchmark_runs import SMALL_NET, first_minibatch, on_random_images, training_step_of
from interleaved_timing import ratios, time_interleaved

_BATCH_SIZE = 16


def measure(toy: bool) -> dict[str, Any]:
    smaller = (SMALL_NET, "objective.steps=1") if toy else ()
    images = 4 if toy else _BATCH_SIZE
    ours = on_random_images("at+awp", images, *smaller)
    theirs = on_random_images("at+awp", images, *smaller, "train.precision=fp32", "train.channels_last=false")
    x, y = first_minibatch(theirs)
    theirs.model.train()
    authors = AuthorsStep(theirs.model, steps=theirs.objective.steps, gamma=0.01)  # type: ignore[attr-defined]
    contenders = {"authors": lambda: authors(x, y), "ours": training_step_of(ours, x, y)}
    times = time_interleaved(contenders, seconds=0 if toy else 60, fewest=3)
    kernel = next(each for each in ours.model.parameters() if each.ndim == 4)
    return {
        "figures": [
            figure(
                "step of at+awp as its authors take it over ours", "×", ratios(times, "authors", "ours"), at_least=2.2
            )
        ],
        "batch_size": images,
        "authors": "eager, fp32, NCHW",
        "ours": {
            "precision": ours.precision,
            "channels_last": kernel.is_contiguous(memory_format=torch.channels_last),
            "compiled": ours.compiled,
        },
    }
