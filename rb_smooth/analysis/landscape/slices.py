"""Slices through the weights of a trained model, and the file of each slice's landscape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rb_smooth.analysis.landscape.grid import LandscapeMeta
from rb_smooth.analysis.trained_model import TrainedModel
from rb_smooth.core import files
from rb_smooth.core.errors import UserError
from rb_smooth.data.images import Images, fixed_permutation
from rb_smooth.data.splits import fingerprint
from rb_smooth.training.run_folder.summary import is_run


@dataclass(frozen=True)
class LandscapeSettings:
    """Options of `python -m rb_smooth.landscape`. Raises UserError for values out of range.

    weights: checkpoints; None: all that the model has.
    n: number of training images and of test images.
    directions: one landscape along each; with two_dimensional one over directions 0 and 1.
    points, radius, steps, seed: as `points`, `radius`, `steps` and `random_seed` of `grid.LandscapeMeta`.
    """

    two_dimensional: bool = False
    points: int = 51
    radius: float = 1.0
    weights: Sequence[str] | None = None
    n: int = 1000
    steps: int = 10
    directions: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.points < 3 or self.points % 2 == 0:
            raise UserError(
                f"expected --points of 3, 5, 7, … (the middle one is the checkpoint), got {self.points}; correct it"
            )
        if not 0 < self.radius < math.inf:
            raise UserError(f"expected --range above 0, got {self.radius}; correct it")
        for name, minimum in {"n": 1, "steps": 1, "directions": 1, "seed": 0}.items():
            if (value := getattr(self, name)) < minimum:
                raise UserError(f"expected --{name} of at least {minimum}, got {value}; raise it")
        if self.two_dimensional and self.directions > 1:
            raise UserError(
                f"expected no --directions with --2d, got {self.directions}; use --seed for another pair of directions"
            )


@dataclass(frozen=True)
class Slice:
    """One landscape to compute: `meta`, the path of its file, the model, and its images."""

    meta: LandscapeMeta
    path: Path
    trained_model: TrainedModel
    train: Images
    test: Images


def make_slices(trained_model: TrainedModel, settings: LandscapeSettings, leaderboard: Path) -> Iterator[Slice]:
    """Yield the slices of one model, checkpoint by checkpoint.

    Files lie in the run's folder; those of a leaderboard entry in <leaderboard>/.evaluations. Raises UserError for
    weights that the model does not have, or that are missing or damaged.
    """
    order = fixed_permutation(len(trained_model.train))
    train, test = trained_model.train[order[: settings.n]].load(), trained_model.test[: settings.n].load()
    trained_model, images = replace(trained_model, train=train, test=test), fingerprint(train, test)
    folder = trained_model.weights["best"].parent
    for weights in settings.weights or trained_model.weights:
        trained_model.load(weights)  # raises before anything is computed
        weights_sha256 = files.sha256(trained_model.weights[weights])
        parent = folder if is_run(folder) else leaderboard / ".evaluations" / weights_sha256[:16]
        for number in range(settings.directions):
            meta = LandscapeMeta(
                run=trained_model.name,
                method=trained_model.method,
                dataset=trained_model.dataset,
                seed=trained_model.seed,
                weights=weights,
                weights_sha256=weights_sha256,
                **trained_model.threat._asdict(),
                steps=settings.steps,
                train_points=len(train),
                test_points=len(test),
                images=images,
                random_seed=settings.seed,
                directions=(0, 1) if settings.two_dimensional else (number,),
                radius=settings.radius,
                points=settings.points,
            )
            yield Slice(meta, parent / "landscapes" / meta.file_name, trained_model, train, test)
