"""Landscapes of several runs and directions put together: each method's mean, and how far it spreads. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rb_smooth.analysis.landscape.surface import QUANTITIES, LandscapeMeta, LossLandscape
from rb_smooth.core.errors import UserError

CHECKPOINTS = ("first", "best", "last")

_COMPARABLE_FIELDS = (
    *("dataset", "norm", "eps", "steps", "fixed_attacks", "train_points", "test_points", "random_seed"),
    *("dimensions", "radius", "points"),
)
"""In what landscapes must agree to stand in one picture."""


@dataclass(frozen=True)
class LandscapeSummary:
    """One checkpoint of the runs of one method that differ in their seed alone, or of one run.

    over:   what the spread is over: `3 runs`; of a single run `3 directions`; empty if there is nothing to spread.
    mean, std: by figure, (points,) or (points, points): over runs, each the mean of its directions, or of a single run
            over its directions. The standard deviation is a sample's; 0 if `over` is empty.
    centres: the figures of each run's checkpoint itself.
    """

    label: str
    weights: str
    over: str
    mean: dict[str, np.ndarray]
    std: dict[str, np.ndarray]
    centres: list[dict[str, float]]

    @property
    def title(self) -> str:
        return f"{self.label} ({self.over})" if self.over else self.label

    def robust_gaps(self) -> list[float]:
        """The robust generalisation gap of each run: robust accuracy on training minus on test images, in [-1, 1]."""
        return [centre["train_robust"] - centre["test_robust"] for centre in self.centres]

    def loss_gaps(self) -> list[float]:
        """Of each run, the adversarial loss on test minus on training images."""
        return [centre["test_loss"] - centre["train_loss"] for centre in self.centres]


def check_comparable(metas: Sequence[LandscapeMeta]) -> None:
    """Raises UserError for landscapes that one picture cannot compare, and for two runs of one name."""
    first = metas[0]
    called: dict[tuple[str, str], str] = {}
    for other in metas:
        if called.setdefault((other.run, other.weights), other.weights_sha256) != other.weights_sha256:
            raise UserError(f"expected runs of different names, got two called {other.run}; rename the folder of one")
        for name in _COMPARABLE_FIELDS:
            mine, its = getattr(first, name), getattr(other, name)
            if mine != its:
                raise UserError(
                    f"expected landscapes alike but for their runs, got {name} {mine} of {first.run} and {its} of "
                    f"{other.run}; draw them apart"
                )


def summarise_landscapes(landscapes: Sequence[LossLandscape]) -> list[LandscapeSummary]:
    """Bands in the order in which their runs come, and of each first, best and last.

    Raises UserError for landscapes that cannot be compared: of other losses or grids, or in other directions.
    """
    check_comparable([landscape.meta for landscape in landscapes])
    stems = dict.fromkeys(run_group(landscape.meta) for landscape in landscapes)
    summaries = []
    for own in stems:
        members = [landscape for landscape in landscapes if run_group(landscape.meta) == own]
        label = _label(members[0].meta, {s.meta.run for s in members}, [other[0] for other in stems].count(own[0]))
        for weights in CHECKPOINTS:
            chosen = [landscape for landscape in members if landscape.meta.weights == weights]
            if chosen:
                summaries.append(_summarise(chosen, label))
    return summaries


def _label(meta: LandscapeMeta, runs: set[str], of_this_method: int) -> str:
    """The method; with a seed where there is one run. Where a picture has the method in several forms, runs' names."""
    if of_this_method > 1:
        return meta.run if len(runs) == 1 else run_group(meta)[1]
    return meta.method if len(runs) > 1 else f"{meta.method}, seed {meta.seed}"


def run_group(meta: LandscapeMeta) -> tuple[str, str]:
    """Method, and the run's name without its seed: equal for runs that differ in their seed alone.

    In two dimensions every run is drawn by itself.
    """
    if meta.dimensions == 2:
        return meta.method, meta.run
    return meta.method, re.sub(rf"[-_]s{meta.seed}(?=[-_]|$)", "", meta.run)


def _summarise(landscapes: Sequence[LossLandscape], label: str) -> LandscapeSummary:
    runs: dict[str, dict[tuple[int, ...], LossLandscape]] = {}
    for landscape in landscapes:
        runs.setdefault(landscape.meta.weights_sha256, {})[landscape.meta.directions] = landscape
    directions = [set(run) for run in runs.values()]
    if any(each != directions[0] for each in directions):
        raise UserError(f"expected the same directions of every run of {label}, got others; compute those that lack")
    firsts = [next(iter(run.values())) for run in runs.values()]
    if len(runs) > 1:
        over = f"{len(runs)} runs"
        members = [
            [np.mean([s.values[name] for s in run.values()], axis=0) for run in runs.values()] for name in QUANTITIES
        ]
    else:
        (run,) = runs.values()
        over = f"{len(run)} directions" if len(run) > 1 else ""
        members = [[s.values[name] for s in run.values()] for name in QUANTITIES]
    return LandscapeSummary(
        label=label,
        weights=landscapes[0].meta.weights,
        over=over,
        mean={name: np.mean(each, axis=0) for name, each in zip(QUANTITIES, members, strict=True)},
        std={
            name: np.std(each, axis=0, ddof=1) if over else np.zeros_like(each[0])
            for name, each in zip(QUANTITIES, members, strict=True)
        },
        centres=[first.centre for first in firsts],
    )
