"""Compute the adversarial loss at each grid point of slices through the weights, in one or more processes.

Directions are random and filter-normalised, so that landscapes of different networks are comparable: Li, Xu, Taylor,
Studer, Goldstein, "Visualizing the Loss Landscape of Neural Nets", arXiv 1712.09913, Section 4,

    d_{i,j} <- d_{i,j} / ||d_{i,j}|| * ||w_{i,j}||        ||.||: the Frobenius norm

for each filter j (a slice of the first dimension: one output channel of a convolution, one output of a linear layer) of
each weight i with more than one dimension; d_i = 0 for biases and BatchNorm's parameters. Doubling the filters of one
layer of a ReLU network and halving the next layer's changes neither its function nor such a step.

BatchNorm's running statistics are fixed at the checkpoint's (`adversarial_loss.AdversarialLoss`).

The values at a point depend only on the point: each process uses one thread and loads the checkpoint's file, and PGD's
random starts are the same at all points. So results are bitwise equal for any number of processes and interruptions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from rb_smooth.analysis.adversarial_loss import AdversarialLoss, flatten
from rb_smooth.analysis.landscape.grid import LandscapeMeta, LossLandscape, read_landscape
from rb_smooth.analysis.trained_model import TrainedModel
from rb_smooth.components import memory_format
from rb_smooth.core import files
from rb_smooth.core.console import progress_bars
from rb_smooth.core.determinism import derive_seed, full_float32
from rb_smooth.core.errors import UserError
from rb_smooth.core.threat import Threat
from rb_smooth.core.worker_pool import map_unordered
from rb_smooth.data.images import Images, fixed_permutation
from rb_smooth.data.splits import fingerprint
from rb_smooth.training.run_folder.summary import is_run

_SAVE_S = 2.0
"""Seconds between writes of partial results."""

Task = tuple[int, tuple[int, ...]]
"""Index of a slice, and an index in its grid."""


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


def compute_landscapes(slices: Sequence[Slice], device: torch.device, workers: int) -> list[LossLandscape]:
    """Complete the landscape of each slice. Points already in its file are not recomputed; new ones are saved to it."""
    landscapes = [_load_or_create(each) for each in slices]
    tasks = [(number, index) for number, landscape in enumerate(landscapes) for index in landscape.missing_points]
    if not tasks:
        return landscapes
    total = sum(landscape.done.size for landscape in landscapes)
    results = map_unordered(partial(PointEvaluator, slices, device), tasks, min(workers, len(tasks)))
    unsaved, saved_at = set[int](), time.monotonic()
    with progress_bars() as bars, closing(results):
        bar = bars.add_task("starting", total=total, completed=total - len(tasks))
        try:
            for (number, index), values in results:
                unsaved.add(number)
                landscapes[number].set_point(index, values)
                if time.monotonic() - saved_at > _SAVE_S:
                    _save(landscapes, slices, unsaved)
                    saved_at = time.monotonic()
                meta = slices[number].meta
                bars.update(bar, advance=1, description=f"{meta.run}, {meta.weights}")
        finally:  # also at Ctrl-C
            _save(landscapes, slices, unsaved)
    return landscapes


def _load_or_create(part: Slice) -> LossLandscape:
    """Read the slice's file; an empty landscape if there is none or it is damaged."""
    landscape = LossLandscape(part.meta)
    if part.path.exists():
        with suppress(UserError):
            landscape = read_landscape(part.path)
            landscape.meta = part.meta  # the run may have been renamed
    return landscape


def _save(landscapes: Sequence[LossLandscape], slices: Sequence[Slice], unsaved: set[int]) -> None:
    for number in sorted(unsaved):
        landscapes[number].save(slices[number].path)
        unsaved.remove(number)


class PointEvaluator:
    """Compute the values of one grid point, in the order of `grid.QUANTITIES`."""

    def __init__(self, slices: Sequence[Slice], device: torch.device) -> None:
        self.slices, self.device = slices, device
        self._number = -1
        if device.type == "cpu":
            torch.set_num_threads(1)  # parallel over points instead; rounding of sums depends on the number of threads

    def __call__(self, task: Task) -> tuple[float, ...]:
        number, index = task
        with full_float32():
            if number != self._number:
                self._select_slice(self.slices[number])
                self._number = number
            weights, axis = self._centre, self.slices[number].meta.axis
            for i, direction in zip(index, self._directions, strict=True):
                weights = weights + float(axis[i]) * direction
            with self._losses[0].at_weights(weights):
                return tuple(value for loss in self._losses for value in _loss_and_accuracy(loss))

    def _select_slice(self, chosen: Slice) -> None:
        meta = chosen.meta
        model = chosen.trained_model.load(meta.weights).to(self.device)
        shape = (*chosen.test.x.shape[1:],)
        layout = memory_format.choose_memory_format(model, shape, self.device)  # 0.85 of the time on a CPU
        memory_format.lay_out(model, layout)
        threat = Threat(meta.norm, meta.eps, meta.step_size)  # type: ignore[arg-type]
        self._losses = [
            AdversarialLoss(model, images, threat, steps=meta.steps, seed=meta.random_seed)
            for images in (chosen.train, chosen.test)
        ]
        parameters = self._losses[0].parameters
        self._centre = self._losses[0].weights
        self._directions = [
            flatten(filter_normalised(random_direction(parameters, meta.random_seed, number), parameters)).detach()
            for number in meta.directions
        ]


@torch.no_grad()
def _loss_and_accuracy(loss: AdversarialLoss) -> tuple[float, float]:
    """Adversarial loss and robust accuracy in [0, 1] at the model's current weights."""
    x_adv = loss.adversarial_examples()
    predicted = torch.cat([loss.model(batch).argmax(1) for batch in x_adv.split(500)])
    return loss.value(x_adv), (predicted == loss.y).double().mean().item()


def random_direction(weights: Sequence[Tensor], seed: int, number: int) -> list[Tensor]:
    """Standard Gaussian tensors of the shapes of `weights`, float32 on the CPU.

    They depend only on `seed` >= 0, `number` >= 0 and the shapes: networks of one architecture get the same draw.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, number))
    return [torch.randn(weight.shape, generator=generator) for weight in weights]


def filter_normalised(direction: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Scale each filter of `direction` to the norm of the corresponding filter of `weights`; 0 for 1-d tensors.

    Both are lists of tensors of the same shapes; the result has the dtype and device of `weights`.
    """
    return [_normalise(d.to(w), w) for d, w in zip(direction, weights, strict=True)]


def _normalise(d: Tensor, w: Tensor) -> Tensor:
    if w.ndim < 2:
        return torch.zeros_like(w)
    scales = _filter_norms(w) / _filter_norms(d)
    return d * scales.view(-1, *[1] * (w.ndim - 1))


def _filter_norms(tensor: Tensor) -> Tensor:
    """(filters,) Frobenius norms."""
    return tensor.flatten(1).norm(dim=1)
