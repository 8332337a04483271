"""A loss landscape as numbers, and the .npz that keeps it while it grows and afterwards. Costs no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rb_smooth.core import files
from rb_smooth.core.errors import UserError

QUANTITIES = ("train_loss", "train_robust", "test_loss", "test_robust")
"""Of every point, on training and on test images: the adversarial loss, and the share in [0, 1] of attacked images
that are classified rightly."""

_NAME_FIELDS = ("run", "method", "dataset", "seed", "weights")
"""What of a landscape's description changes no number in it."""


@dataclass(frozen=True)
class LandscapeMeta:
    """What the landscape is of. Two with equal values, names apart, hold equal numbers.

    run, method, dataset, seed, weights: what the specimen is called, and its checkpoint.
    weights_sha256, images: SHA-256 of the checkpoint's file and of all images with their labels.
    norm, eps, step_size, steps: of the attack, PGD. random_seed: of its random starts and of the directions.
    fixed_attacks: they were crafted at the centre and held; otherwise anew at every point.
    directions: the numbers of one direction, or of two. radius: how far each axis goes, in filters' norms.
    points: on each axis, an odd number, so that the one in the middle is the checkpoint itself.
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
    fixed_attacks: bool
    train_points: int
    test_points: int
    images: str
    random_seed: int
    directions: tuple[int, ...]
    radius: float
    points: int

    @property
    def dimensions(self) -> int:
        return len(self.directions)

    @property
    def file_name(self) -> str:
        told = {key: value for key, value in asdict(self).items() if key not in _NAME_FIELDS}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        slice_ = "-".join([f"{self.dimensions}d", *(f"direction{number}" for number in self.directions)])
        return f"{self.weights}-{slice_}{'-fixed-attacks' if self.fixed_attacks else ''}-{digest[:12]}.npz"

    @property
    def axis(self) -> np.ndarray:
        """(points,) multiples of a direction, from -radius to radius; the middle one is exactly 0."""
        half = self.points // 2
        return self.radius * np.arange(-half, half + 1) / half


class LossLandscape:
    """Of each of FIGURES an array (points,) or (points, points), axes as directions; nan at points yet to come."""

    def __init__(self, meta: LandscapeMeta) -> None:
        self.meta = meta
        shape = (meta.points,) * meta.dimensions
        self.done = np.zeros(shape, bool)
        self.values = {name: np.full(shape, np.nan) for name in QUANTITIES}

    @property
    def missing_points(self) -> list[tuple[int, ...]]:
        """Places in the grid that are yet to come."""
        return [tuple(map(int, place)) for place in np.argwhere(~self.done)]

    @property
    def centre(self) -> dict[str, float]:
        """The figures of the checkpoint itself."""
        middle = (self.meta.points // 2,) * self.done.ndim
        return {name: float(values[middle]) for name, values in self.values.items()}

    def set_point(self, place: tuple[int, ...], values: tuple[float, ...]) -> None:
        for name, figure in zip(QUANTITIES, values, strict=True):
            self.values[name][place] = figure
        self.done[place] = True

    def save(self, path: Path) -> None:
        meta = np.array(json.dumps(asdict(self.meta)))
        files.write_arrays(path, {"about": meta, "axis": self.meta.axis, "done": self.done, **self.values})


def read_landscape(path: Path) -> LossLandscape:
    """Raises UserError for a file that is missing, damaged, or something else."""
    arrays = files.read_arrays(path)
    try:
        told = json.loads(str(arrays["about"]))
        landscape = LossLandscape(LandscapeMeta(**told | {"directions": tuple(told["directions"])}))
        for mine, name in ((landscape.done, "done"), *((landscape.values[name], name) for name in QUANTITIES)):
            if arrays[name].shape != mine.shape:
                raise ValueError
            mine[:] = arrays[name]
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"expected a loss landscape in {path}, got other arrays; name files of <run>/landscapes"
        ) from None
    return landscape
