"""Losses on a grid of weights, and the .npz file that stores them, complete or partial. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rb_smooth.core import files
from rb_smooth.core.errors import UserError

QUANTITIES = ("train_loss", "train_robust", "test_loss", "test_robust")
"""At each grid point, on training and on test images: adversarial loss, and robust accuracy in [0, 1]."""

_NAME_FIELDS = ("run", "method", "dataset", "seed", "weights")
"""LandscapeMeta's fields that do not change the values; they are left out of the file name's hash."""


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
