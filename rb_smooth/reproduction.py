"""An entry trained again from the recipe that it stores, in a folder of its own, and held against what it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rb_smooth import files
from rb_smooth.console import console
from rb_smooth.entries import Entry
from rb_smooth.pipeline import Options, carry_out
from rb_smooth.refusal import Refused
from rb_smooth.registry import check_installed

_FIGURES = ("clean", "pgd20", "autoattack")


def reproduce(entry: Entry, options: Options) -> bool:
    """Train and evaluate by the stored recipe and seed below `options.runs`, or go on there; say what came out.

    The board stays as it is. Returns whether the new figures agree: the very weights, or AutoAttack accuracy within the
    entry's 95 % interval (another device or version rounds otherwise, and training makes much of little).
    """
    own = entry.own
    if "train" not in own["recipe"]:
        raise Refused(
            f"expected an entry that was trained here, got {entry.name}, which came as a checkpoint; use `verify`"
        )
    check_installed(entry.packages)
    trained_as = own.get("trained_as") or f"{own['recipe']['data']['name']}/{own['method'].split()[0]}"
    dataset, _, method = trained_as.partition("/")
    recipe = own["recipe"]
    if recipe["train"].get("channels_last") is True:  # as a run that goes on takes it
        recipe = recipe | {"train": recipe["train"] | {"channels_last": "auto"}}
    run = carry_out((dataset, method, recipe), replace(options, fresh=False, until="evaluation"))
    score, then = run.score or {}, own["score"]
    for figure in _FIGURES:
        console.print(f"{figure:<12} {then[figure]:.2%} then, {score[figure]:.2%} now")
    low, high = then["interval"]
    if entry.weights.exists() and _equal(run.load("best"), files.load_tensors(entry.weights)):
        console.print(f"{entry.name}: reproduced, bit for bit")
        return True
    inside = low <= score["autoattack"] <= high
    console.print(
        f"{entry.name}: other weights; AutoAttack accuracy {'within' if inside else 'outside'} the entry's 95 % "
        f"interval, {low:.1%} to {high:.1%}"
    )
    return inside


def _equal(one: Any, other: Any) -> bool:
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
