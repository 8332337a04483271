"""Rules that choose the best epoch from noisy counts, for many draws at once; `selection_rules` compares them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Counts = np.ndarray
"""(draws, epochs) Validation images classified correctly under attack."""


@dataclass(frozen=True)
class Rule:
    """choose: of counts, the first epochs of the schedule's stages, and the images, an epoch in each draw.

    kept: checkpoints that training has to keep at once.
    """

    title: str
    kept: str
    choose: Callable[[Counts, Sequence[int], int], np.ndarray]


def first_maximum(values: np.ndarray) -> np.ndarray:
    return np.argmax(values, axis=1)


def last_maximum(values: np.ndarray) -> np.ndarray:
    return values.shape[1] - 1 - np.argmax(values[:, ::-1], axis=1)


def stages(epochs: int, starts: Sequence[int]) -> Iterator[slice]:
    """The epochs between drops of the learning rate. starts: the first epoch of each stage."""
    for start, end in zip(starts, [*starts[1:], epochs], strict=True):
        yield slice(start, end)


def centred_mean(counts: Counts, starts: Sequence[int], weights: tuple[int, ...] = (1, 1, 1)) -> np.ndarray:
    """Weighted mean over an epoch and its neighbours; at a stage's ends over those within the stage."""
    means = np.empty(counts.shape)
    reach = len(weights) // 2
    for stage in stages(counts.shape[1], starts):
        part = np.pad(counts[:, stage], ((0, 0), (reach, reach)))
        there = np.pad(np.ones(stage.stop - stage.start, dtype=int), reach)
        spans = [slice(k, k + stage.stop - stage.start) for k in range(len(weights))]
        total = sum(weight * part[:, span] for weight, span in zip(weights, spans, strict=True))
        means[:, stage] = total / sum(weight * there[span] for weight, span in zip(weights, spans, strict=True))
    return means


def trailing_mean(counts: Counts, starts: Sequence[int], epochs: int = 3) -> np.ndarray:
    """Mean over an epoch and those before it in its stage."""
    means = np.empty(counts.shape)
    for stage in stages(counts.shape[1], starts):
        sums = np.cumsum(np.pad(counts[:, stage], ((0, 0), (epochs, 0))), axis=1)
        there = np.minimum(np.arange(1, stage.stop - stage.start + 1), epochs)
        means[:, stage] = (sums[:, epochs:] - sums[:, :-epochs]) / there
    return means


def whole_windows(counts: Counts, starts: Sequence[int]) -> np.ndarray:
    """Centred mean of three; -1 at a stage's ends, which lack a neighbour."""
    means = centred_mean(counts, starts)
    for stage in stages(counts.shape[1], starts):
        means[:, [stage.start, stage.stop - 1]] = -1
    return means


def latest_within(counts: Counts, images: int, errors: float = 1.0) -> np.ndarray:
    """The latest epoch within so many standard errors of the maximum."""
    top = counts.max(axis=1, keepdims=True)
    return last_maximum(counts >= top - errors * np.sqrt(top * (1 - top / images)))


def latest_in_best_stage(counts: Counts, starts: Sequence[int], images: int) -> np.ndarray:
    """The latest epoch within a standard error of the maximum and in the maximum's stage."""
    stage_of = np.searchsorted(np.asarray(starts), np.arange(counts.shape[1]), side="right")
    elsewhere = stage_of[None] != stage_of[first_maximum(counts)][:, None]
    return latest_within(np.where(elsewhere, -images, counts), images)


PLAIN = "maximum"
RULES: Mapping[str, Rule] = {
    PLAIN: Rule("the maximum; of equal ones the earlier", "1", lambda c, s, n: first_maximum(c)),
    "maximum-later": Rule("the maximum; of equal ones the later", "1", lambda c, s, n: last_maximum(c)),
    "mean3": Rule("mean of three, centred", "2", lambda c, s, n: first_maximum(centred_mean(c, s))),
    "mean3-whole": Rule(
        "mean of three, not at a stage's ends", "2", lambda c, s, n: first_maximum(whole_windows(c, s))
    ),
    "mean121": Rule(
        "mean of three, weights 1, 2, 1", "2", lambda c, s, n: first_maximum(centred_mean(c, s, (1, 2, 1)))
    ),
    "mean5": Rule("mean of five, centred", "3", lambda c, s, n: first_maximum(centred_mean(c, s, (1,) * 5))),
    "trailing3": Rule("last of the best three in a row", "1", lambda c, s, n: first_maximum(trailing_mean(c, s))),
    "latest": Rule("latest within one standard error", "1", lambda c, s, n: latest_within(c, n)),
    "latest-half": Rule("latest within half a standard error", "1", lambda c, s, n: latest_within(c, n, 0.5)),
    "latest-stage": Rule(
        "latest within one standard error and the maximum's stage", "1", lambda c, s, n: latest_in_best_stage(c, s, n)
    ),
    "last": Rule("the last epoch, no selection", "0", lambda c, s, n: np.full(len(c), c.shape[1] - 1)),
}
