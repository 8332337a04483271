"""Which epoch is the best one, by `train.select_rule`. docs/selecting-the-epoch.md compares the rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from rb_smooth.config.schema import Recipe

_WEIGHTS: dict[str, tuple[int, int, int]] = {"mean3": (1, 1, 1), "mean121": (1, 2, 1)}


def needs_previous_weights(rule: str) -> bool:
    """Whether the epoch before the last one may become the best."""
    return rule in _WEIGHTS


def best_epoch(rule: str, correct: Sequence[int], images: int, starts: Sequence[int], epochs: int) -> int:
    """Return the best epoch so far, from 0, by `rule`.

    correct: number of the validation images, of which there are `images`, that are classified correctly, for each
    epoch so far. starts: `stage_starts`. epochs: length of the training. Each further epoch leaves the best epoch as
    it is, becomes it or, with `needs_previous_weights`, makes the epoch before it the best one.
    """
    if rule == "maximum":
        return correct.index(max(correct))
    if rule == "latest":
        top = max(correct)
        enough = top - math.sqrt(top * (1 - top / images))
        return max(epoch for epoch, count in enumerate(correct) if count >= enough)
    ends = {*starts, epochs}
    known = [epoch for epoch in range(len(correct)) if epoch + 1 < len(correct) or epoch + 1 in ends]
    return max(known, key=lambda epoch: _mean(_WEIGHTS[rule], correct, epoch, ends), default=0)


def stage_starts(recipe: Recipe) -> list[int]:
    """The first epochs of the stages between drops of the learning rate and changes of the optimizer.

    A rate that also changes within epochs has no drops.
    """
    schedule, epochs = recipe.build("schedule"), recipe.train.epochs
    factors = [(schedule(epoch, epochs), schedule(epoch + 0.5, epochs)) for epoch in range(epochs)]
    return [
        epoch
        for epoch in range(epochs)
        if epoch == 0
        or factors[epoch][0] < factors[epoch - 1][0] == factors[epoch - 1][1]
        or recipe.stage("optimizer", epoch) != recipe.stage("optimizer", epoch - 1)
    ]


def _mean(weights: tuple[int, int, int], correct: Sequence[int], epoch: int, ends: set[int]) -> Fraction:
    """Weighted mean over an epoch and its neighbours in its stage. ends: stage starts, and the end."""
    before, own, after = weights
    terms = [(own, correct[epoch])]
    if epoch not in ends:  # epoch 0 starts a stage
        terms.append((before, correct[epoch - 1]))
    if epoch + 1 not in ends:
        terms.append((after, correct[epoch + 1]))
    return Fraction(sum(weight * count for weight, count in terms), sum(weight for weight, _ in terms))
