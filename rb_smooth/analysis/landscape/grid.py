"""Losses on a grid of weights, their .npz file, and their means over runs and directions. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rb_smooth.core import files
from rb_smooth.core.errors import UserError

QUANTITIES = ("train_loss", "train_robust", "test_loss", "test_robust")
"""At each grid point, on training and on test images: adversarial loss, and robust accuracy in [0, 1]."""

_NAME_FIELDS = ("run", "method", "dataset", "seed", "weights")
"""LandscapeMeta's fields that do not change the values; they are left out of the file name's hash."""


CHECKPOINTS = ("first", "best", "last")

_COMPARABLE_FIELDS = (
    *("dataset", "norm", "eps", "steps", "fixed_attacks", "train_points", "test_points", "random_seed"),
    *("dimensions", "radius", "points"),
)
"""LandscapeMeta's fields that must be equal within one picture."""


@dataclass(frozen=True)
class LandscapeMeta:
    """Everything that determines a landscape's values, and the names of its run.

    run, method, dataset, seed, weights: names of the model and of its checkpoint (first, best or last).
    weights_sha256, images: SHA-256 of the checkpoint file, and of all images with their labels.
    norm, eps, step_size, steps: the PGD attack. random_seed: seed of its random starts and of the directions.
    train_points, test_points: number of training and of test images.
    directions: number of the one direction, or of the two. radius: end of each axis, in filter norms.
    points: grid points on each axis, odd: the middle one is the checkpoint itself.
    fixed_attacks: adversarial examples are those of the centre, not recomputed at each point. Only in files of
        version 0.1; such files can be drawn but no longer computed.
    """

    run: str
    method: str
    dataset: str
    seed: int
    weights: str
    weights_sha256: str
    norm: str
    eps: float
    step_size: float
    steps: int
    train_points: int
    test_points: int
    images: str
    random_seed: int
    directions: tuple[int, ...]
    radius: float
    points: int
    fixed_attacks: bool = False

    @property
    def dimensions(self) -> int:
        return len(self.directions)

    @property
    def file_name(self) -> str:
        fields = {key: value for key, value in asdict(self).items() if key not in _NAME_FIELDS}
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
        directions = "-".join(f"direction{number}" for number in self.directions)
        return f"{self.weights}-{self.dimensions}d-{directions}-{digest[:12]}.npz"

    @property
    def axis(self) -> np.ndarray:
        """(points,) coordinates along a direction, from -radius to radius; the middle one is exactly 0."""
        half = self.points // 2
        return self.radius * np.arange(-half, half + 1) / half


class LossLandscape:
    """For each of QUANTITIES an array (points,) or (points, points), one axis per direction; NaN where not computed."""

    def __init__(self, meta: LandscapeMeta) -> None:
        self.meta = meta
        shape = (meta.points,) * meta.dimensions
        self.done = np.zeros(shape, bool)
        self.values = {name: np.full(shape, np.nan) for name in QUANTITIES}

    @property
    def missing_points(self) -> list[tuple[int, ...]]:
        """Grid indices not computed yet."""
        return [tuple(map(int, index)) for index in np.argwhere(~self.done)]

    @property
    def centre(self) -> dict[str, float]:
        """Values at the checkpoint itself, by quantity, and the generalisation gaps of loss and robust accuracy."""
        middle = (self.meta.points // 2,) * self.done.ndim
        centre = {name: float(values[middle]) for name, values in self.values.items()}
        gaps = {"loss_gap": centre["test_loss"] - centre["train_loss"]}
        return centre | gaps | {"robust_gap": centre["train_robust"] - centre["test_robust"]}

    def set_point(self, index: tuple[int, ...], values: tuple[float, ...]) -> None:
        """Store `values`, in the order of QUANTITIES, at a grid index."""
        for name, value in zip(QUANTITIES, values, strict=True):
            self.values[name][index] = value
        self.done[index] = True

    def save(self, path: Path) -> None:
        meta = np.array(json.dumps(asdict(self.meta)))
        files.write_arrays(path, {"about": meta, "axis": self.meta.axis, "done": self.done, **self.values})


def read_landscape(path: Path) -> LossLandscape:
    """Read a file written by LossLandscape.save. Raises UserError if it is missing, damaged or another file."""
    arrays = files.read_arrays(path)
    try:
        meta = json.loads(str(arrays["about"]))
        landscape = LossLandscape(LandscapeMeta(**meta | {"directions": tuple(meta["directions"])}))
        for name, target in {"done": landscape.done, **landscape.values}.items():
            if arrays[name].shape != target.shape:
                raise ValueError
            target[:] = arrays[name]
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"expected a loss landscape in {path}, got other arrays; name files of <run>/landscapes"
        ) from None
    return landscape


@dataclass(frozen=True)
class LandscapeSummary:
    """Mean landscape of one checkpoint over the runs of one method that differ only in their seed, or of one run.

    over:    what std is taken over: `3 runs`; for a single run `3 directions`; empty for a single landscape.
    mean, std: for each of QUANTITIES an array (points,) or (points, points): over runs, each averaged over its
             directions first, or over the directions of a single run. std is the sample standard deviation; 0 if
             `over` is empty.
    centres: for each run, `LossLandscape.centre`.
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

    def at_centre(self, name: str) -> list[float]:
        """One of the values in `centres`, for each run."""
        return [centre[name] for centre in self.centres]


def check_comparable(metas: Sequence[LandscapeMeta]) -> None:
    """Raise UserError if losses or grids differ, or if two different runs have the same name."""
    first = metas[0]
    sha256s: dict[tuple[str, str], str] = {}
    for other in metas:
        if sha256s.setdefault((other.run, other.weights), other.weights_sha256) != other.weights_sha256:
            raise UserError(f"expected runs with different names, got two named {other.run}; rename one's folder")
        for name in _COMPARABLE_FIELDS:
            mine, its = getattr(first, name), getattr(other, name)
            if mine != its:
                raise UserError(
                    f"expected landscapes of equal {name}, got {mine} for {first.run} and {its} for {other.run}; "
                    "draw them separately"
                )


def summarise_landscapes(landscapes: Sequence[LossLandscape]) -> list[LandscapeSummary]:
    """One summary for each method and checkpoint: methods in the order of `landscapes`, then first, best, last.

    Raises UserError if losses, grids or directions differ.
    """
    check_comparable([landscape.meta for landscape in landscapes])
    groups = dict.fromkeys(run_group(landscape.meta) for landscape in landscapes)
    summaries = []
    for group in groups:
        members = [landscape for landscape in landscapes if run_group(landscape.meta) == group]
        same_method = [other[0] for other in groups].count(group[0])
        label = _label(members[0].meta, {s.meta.run for s in members}, same_method)
        for weights in CHECKPOINTS:
            chosen = [landscape for landscape in members if landscape.meta.weights == weights]
            if chosen:
                summaries.append(_summarise(chosen, label))
    return summaries


def _label(meta: LandscapeMeta, runs: set[str], groups_of_method: int) -> str:
    """The method, with the seed of a single run; the runs' name if the picture has several groups of the method."""
    if groups_of_method > 1:
        return meta.run if len(runs) == 1 else run_group(meta)[1]
    return meta.method if len(runs) > 1 else f"{meta.method}, seed {meta.seed}"


def run_group(meta: LandscapeMeta) -> tuple[str, str]:
    """Method and run name without the seed: equal for runs that differ only in their seed.

    In two dimensions each run is its own group.
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
        raise UserError(
            f"expected the same directions for every run of {label}, got different ones; compute the missing ones"
        )
    shape = (len(runs), len(directions[0]))
    over = f"{shape[0]} runs" if shape[0] > 1 else f"{shape[1]} directions" if shape[1] > 1 else ""
    values = {
        name: np.array([[each.values[name] for each in run.values()] for run in runs.values()]) for name in QUANTITIES
    }
    members = {name: each.mean(1) if shape[0] > 1 else each[0] for name, each in values.items()}
    return LandscapeSummary(
        label=label,
        weights=landscapes[0].meta.weights,
        over=over,
        mean={name: each.mean(0) for name, each in members.items()},
        std={name: each.std(0, ddof=1) if over else np.zeros_like(each[0]) for name, each in members.items()},
        centres=[next(iter(run.values())).centre for run in runs.values()],
    )
