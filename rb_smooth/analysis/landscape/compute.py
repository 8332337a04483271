"""Compute the adversarial loss at each grid point of slices through the weights, in one or more processes.

BatchNorm's running statistics are fixed at the checkpoint's (`adversarial_loss.AdversarialLoss`).

The values at a point depend only on the point: each process uses one thread and loads the checkpoint's file, and PGD's
random starts are the same at all points. So results are bitwise equal for any number of processes and interruptions.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import partial

import torch

from rb_smooth.analysis.adversarial_loss import AdversarialLoss, flatten
from rb_smooth.analysis.landscape.directions import filter_normalised, random_direction
from rb_smooth.analysis.landscape.grid import LossLandscape, read_landscape
from rb_smooth.analysis.landscape.slices import Slice
from rb_smooth.components import memory_format
from rb_smooth.core.console import progress_bars
from rb_smooth.core.determinism import full_float32
from rb_smooth.core.errors import UserError
from rb_smooth.core.threat import Threat
from rb_smooth.core.worker_pool import map_unordered

_SAVE_S = 2.0
"""Seconds between writes of partial results."""

Task = tuple[int, tuple[int, ...]]
"""Index of a slice, and an index in its grid."""


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
