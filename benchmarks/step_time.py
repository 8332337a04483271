"""A training step of PreActResNet-18 beside the passes that it must do, and beside the AWP authors' way of doing it."""

from __future__ import annotations

from typing import Any

import torch
from authors_way import AuthorsStep
from bare_passes import bare_step, forwards_of
from figures import Figure, figure
from interleaved import interleaved, ratios
from subjects import SMALL_NET, first_minibatch, on_random_images, step_of

_BATCH_SIZE = 16
"""What two cores do in seconds; the recipes have 128, at which whatever is not a pass weighs less."""

_LAYOUTS = {"NCHW": "train.channels_last=false", "channels_last": "train.channels_last=true"}
_WITHOUT_GOAL = ("at", "at+ensgd", "at+awp+ensgd", "trades+awp")


def measure(toy: bool) -> dict[str, Any]:
    smaller = (SMALL_NET, "objective.steps=1") if toy else ()
    images = 4 if toy else _BATCH_SIZE
    figures, forwards = [], {}
    for layout, setting in _LAYOUTS.items():
        settings = ("train.precision=fp32", "train.compile=false", setting, *smaller)
        found, _ = _beside_the_floor("at+awp", f"fp32 {layout}", images, settings, 0 if toy else 75, at_most=1.03)
        figures.append(found)
    found, default = _beside_the_authors(images, smaller, 0 if toy else 60)
    figures.append(found)
    for method in _WITHOUT_GOAL:
        found, forwards[method] = _beside_the_floor(method, "by default", images, smaller, 0 if toy else 20)
        figures.append(found)
    return {"figures": figures, "batch_size": images, "forwards": forwards, "by_default": default}


def _beside_the_authors(images: int, smaller: tuple[str, ...], seconds: float) -> tuple[Figure, dict[str, Any]]:
    """The AWP authors' step, eager in fp32 and NCHW as theirs, over ours as it comes; and as what it comes."""
    ours = on_random_images("at+awp", images, *smaller)
    theirs = on_random_images("at+awp", images, *smaller, "train.precision=fp32", "train.channels_last=false")
    x, y = first_minibatch(theirs)
    theirs.model.train()
    authors = AuthorsStep(theirs.model, steps=theirs.objective.steps, gamma=0.01)  # type: ignore[attr-defined]
    times = interleaved({"authors": lambda: authors(x, y), "ours": step_of(ours, x, y)}, seconds=seconds, fewest=3)
    first = next(each for each in ours.model.parameters() if each.ndim == 4)
    default = {
        "precision": ours.precision,
        "channels_last": first.is_contiguous(memory_format=torch.channels_last),
        "compiled": ours.compiled,
    }
    found = figure(
        "step of at+awp as the authors take it over ours", "×", ratios(times, "authors", "ours"), at_least=2.2
    )
    return found, default


def _beside_the_floor(
    method: str, conditions: str, images: int, settings: tuple[str, ...], seconds: float, at_most: float | None = None
) -> tuple[Figure, int]:
    """A step over its bare passes, and the forward passes that both take."""
    session = on_random_images(method, images, *settings)
    x, y = first_minibatch(session)
    ours, floor = step_of(session, x, y), bare_step(session, x, y)
    forwards = forwards_of(session, ours)
    assert forwards == forwards_of(session, floor), "the floor must have the step's passes"
    times = interleaved({"ours": ours, "floor": floor}, seconds=seconds, fewest=3)
    what = f"step of {method} over its bare passes, {conditions}"
    return figure(what, "×", ratios(times, "ours", "floor"), at_most=at_most), forwards
