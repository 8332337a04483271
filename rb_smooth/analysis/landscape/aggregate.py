"""Landscapes of several runs and directions put together: each method's mean, and how far it spreads. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rb_smooth.analysis.landscape.surface import FIGURES, About, Surface
from rb_smooth.core.errors import Refused

CHECKPOINTS = ("first", "best", "last")

_ALIKE = (
    *("dataset", "norm", "eps", "steps", "fixed_attacks", "train_points", "test_points", "random_seed"),
    *("dimensions", "radius", "points"),
)
"""In what landscapes must agree to stand in one picture."""


@dataclass(frozen=True)
class Band:
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


def check_alike(abouts: Sequence[About]) -> None:
    """Raises Refused for landscapes that one picture cannot compare, and for two runs of one name."""
    first = abouts[0]
    called: dict[tuple[str, str], str] = {}
    for other in abouts:
        if called.setdefault((other.run, other.weights), other.weights_sha256) != other.weights_sha256:
            raise Refused(f"expected runs of different names, got two called {other.run}; rename the folder of one")
        for name in _ALIKE:
            mine, its = getattr(first, name), getattr(other, name)
            if mine != its:
                raise Refused(
                    f"expected landscapes alike but for their runs, got {name} {mine} of {first.run} and {its} of "
                    f"{other.run}; draw them apart"
                )


def gathered(surfaces: Sequence[Surface]) -> list[Band]:
    """Bands in the order in which their runs come, and of each first, best and last.

    Raises Refused for landscapes that cannot be compared: of other losses or grids, or in other directions.
    """
    check_alike([surface.about for surface in surfaces])
    stems = dict.fromkeys(stem(surface.about) for surface in surfaces)
    bands = []
    for own in stems:
        members = [surface for surface in surfaces if stem(surface.about) == own]
        label = _label(members[0].about, {s.about.run for s in members}, [other[0] for other in stems].count(own[0]))
        for weights in CHECKPOINTS:
            chosen = [surface for surface in members if surface.about.weights == weights]
            if chosen:
                bands.append(_band(chosen, label))
    return bands


def _label(about: About, runs: set[str], of_this_method: int) -> str:
    """The method; with a seed where there is one run. Where a picture has the method in several forms, runs' names."""
    if of_this_method > 1:
        return about.run if len(runs) == 1 else stem(about)[1]
    return about.method if len(runs) > 1 else f"{about.method}, seed {about.seed}"


def stem(about: About) -> tuple[str, str]:
    """Method, and the run's name without its seed: equal for runs that differ in their seed alone.

    In two dimensions every run is drawn by itself.
    """
    if about.dimensions == 2:
        return about.method, about.run
    return about.method, re.sub(rf"[-_]s{about.seed}(?=[-_]|$)", "", about.run)


def _band(surfaces: Sequence[Surface], label: str) -> Band:
    runs: dict[str, dict[tuple[int, ...], Surface]] = {}
    for surface in surfaces:
        runs.setdefault(surface.about.weights_sha256, {})[surface.about.directions] = surface
    directions = [set(run) for run in runs.values()]
    if any(each != directions[0] for each in directions):
        raise Refused(f"expected the same directions of every run of {label}, got others; compute those that lack")
    firsts = [next(iter(run.values())) for run in runs.values()]
    if len(runs) > 1:
        over = f"{len(runs)} runs"
        members = [
            [np.mean([s.figures[name] for s in run.values()], axis=0) for run in runs.values()] for name in FIGURES
        ]
    else:
        (run,) = runs.values()
        over = f"{len(run)} directions" if len(run) > 1 else ""
        members = [[s.figures[name] for s in run.values()] for name in FIGURES]
    return Band(
        label=label,
        weights=surfaces[0].about.weights,
        over=over,
        mean={name: np.mean(each, axis=0) for name, each in zip(FIGURES, members, strict=True)},
        std={
            name: np.std(each, axis=0, ddof=1) if over else np.zeros_like(each[0])
            for name, each in zip(FIGURES, members, strict=True)
        },
        centres=[first.centre for first in firsts],
    )
