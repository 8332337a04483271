"""Which slices through the weights of a trained network are looked at, and where each one's landscape is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rb_smooth.analysis.landscape.surface import LandscapeMeta
from rb_smooth.analysis.trained_model import TrainedModel
from rb_smooth.core import files
from rb_smooth.core.errors import UserError
from rb_smooth.data.images import Images, fixed_permutation
from rb_smooth.data.splits import fingerprint
from rb_smooth.training.run_folder.summary import is_run


@dataclass(frozen=True)
class LandscapeSettings:
    """How a landscape is looked at. n: images of the training set, and of the test set. weights: None: all there are.

    directions: along each of them a landscape; over two of them at once if two_dimensional.
    The others are of `surface.LandscapeMeta`. Raises UserError for what cannot be meant.
    """

    two_dimensional: bool = False
    points: int = 51
    radius: float = 1.0
    weights: tuple[str, ...] | None = None
    n: int = 1000
    steps: int = 10
    fixed_attacks: bool = False
    directions: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.points < 3 or self.points % 2 == 0:
            raise UserError(
                f"expected --points of 3, 5, 7, …, of which one is the checkpoint itself, got {self.points}; correct it"
            )
        if not 0 < self.radius < math.inf:
            raise UserError(f"expected --range above 0, got {self.radius}; correct it")
        counts = (
            ("n", self.n, 1),
            ("steps", self.steps, 1),
            ("directions", self.directions, 1),
            ("seed", self.seed, 0),
        )
        for name, value, least in counts:
            if value < least:
                raise UserError(f"expected --{name} of at least {least}, got {value}; correct it")
        if self.two_dimensional and self.directions > 1:
            raise UserError(
                "expected one pair of directions for --2d, got --directions; another --seed gives another pair"
            )


@dataclass(frozen=True)
class Slice:
    """What `meta` describes. path: of its file. train, test: the images that are looked at."""

    meta: LandscapeMeta
    path: Path
    trained_model: TrainedModel
    train: Images
    test: Images


def make_slices(trained_model: TrainedModel, settings: LandscapeSettings, leaderboard: Path) -> Iterator[Slice]:
    """The slices of one specimen, checkpoint after checkpoint. Landscapes of a run are kept in its folder, those of an
    entry below <leaderboard>/.evaluations.

    Raises UserError for weights that it does not have, or that are missing or damaged.
    """
    order = fixed_permutation(len(trained_model.train))
    train, test = trained_model.train[order[: settings.n]].load(), trained_model.test[: settings.n].load()
    trained_model, images = replace(trained_model, train=train, test=test), fingerprint(train, test)
    folder = trained_model.weights["best"].parent
    for weights in settings.weights or trained_model.weights:
        trained_model.load(weights)  # or refused, before anything is computed
        weights_sha256 = files.sha256(trained_model.weights[weights])
        kept = folder if is_run(folder) else leaderboard / ".evaluations" / weights_sha256[:16]
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
                fixed_attacks=settings.fixed_attacks,
                train_points=len(train),
                test_points=len(test),
                images=images,
                random_seed=settings.seed,
                directions=(0, 1) if settings.two_dimensional else (number,),
                radius=settings.radius,
                points=settings.points,
            )
            yield Slice(meta, kept / "landscapes" / meta.file_name, trained_model, train, test)
