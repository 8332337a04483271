"""The adversarial loss at every point of a slice through the weights, point by point, in as many processes as wanted.

BatchNorm: the checkpoint's running statistics are held wherever the weights go (`adversarial_loss.AdversarialLoss`).

A point's figures depend on nothing but the point: each process computes in one thread, from the checkpoint's file, and
the attacks' random starts are the same everywhere. So any number of processes and of stops ends with the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import partial

import torch
from torch import Tensor

from rb_smooth.analysis.adversarial_loss import AdversarialLoss, flatten
from rb_smooth.analysis.landscape.directions import filter_normalised, random_direction
from rb_smooth.analysis.landscape.slices import Slice
from rb_smooth.analysis.landscape.surface import LossLandscape, read_landscape
from rb_smooth.components import memory_format
from rb_smooth.core.console import progress_bars
from rb_smooth.core.determinism import full_float32
from rb_smooth.core.errors import UserError
from rb_smooth.core.threat import Threat
from rb_smooth.core.worker_pool import map_unordered

_SAVE_S = 2.0
"""Seconds of work that are lost, at most, when this process is killed."""

Task = tuple[int, tuple[int, ...]]
"""The number of a slice, and a place in its grid."""


def compute_landscapes(slices: Sequence[Slice], device: torch.device, workers: int) -> list[LossLandscape]:
    """The landscape of each slice, whole. Only what its file lacks is computed, and kept there as it comes."""
    landscapes = [_load_or_create(each) for each in slices]
    tasks = [(number, place) for number, landscape in enumerate(landscapes) for place in landscape.missing_points]
    if not tasks:
        return landscapes
    whole = sum(landscape.done.size for landscape in landscapes)
    found = map_unordered(partial(PointEvaluator, slices, device), tasks, min(workers, len(tasks)))
    unsaved, saved_at = set[int](), time.monotonic()
    with progress_bars() as bars, closing(found):
        bar = bars.add_task("starting", total=whole, completed=whole - len(tasks))
        try:
            for (number, place), figures in found:
                unsaved.add(number)
                landscapes[number].set_point(place, figures)
                if time.monotonic() - saved_at > _SAVE_S:
                    _save(landscapes, slices, unsaved)
                    saved_at = time.monotonic()
                meta = slices[number].meta
                bars.update(bar, advance=1, description=f"{meta.run}, {meta.weights}")
        finally:  # also at Ctrl-C
            _save(landscapes, slices, unsaved)
    return landscapes


def _load_or_create(part: Slice) -> LossLandscape:
    """What is kept of it; what is damaged counts as nothing."""
    landscape = LossLandscape(part.meta)
    if part.path.exists():
        with suppress(UserError):
            landscape = read_landscape(part.path)
            landscape.meta = part.meta  # a run may have been renamed
    return landscape


def _save(landscapes: Sequence[LossLandscape], slices: Sequence[Slice], unsaved: set[int]) -> None:
    for number in sorted(unsaved):
        landscapes[number].save(slices[number].path)
        unsaved.remove(number)


class PointEvaluator:
    """Computes a task: the figures of one point, in the order of `surface.QUANTITIES`."""

    def __init__(self, slices: Sequence[Slice], device: torch.device) -> None:
        self.slices, self.device = slices, device
        self._number = -1
        if device.type == "cpu":
            torch.set_num_threads(1)  # points are shared out instead, and a sum's rounding depends on the threads

    def __call__(self, task: Task) -> tuple[float, ...]:
        number, place = task
        with full_float32():
            if number != self._number:
                self._select_slice(self.slices[number])
                self._number = number
            weights, axis = self._centre, self.slices[number].meta.axis
            for i, direction in zip(place, self._directions, strict=True):
                weights = weights + float(axis[i]) * direction
            with self._losses[0].at_weights(weights):
                return tuple(
                    figure
                    for loss, x_adv in zip(self._losses, self._fixed_attacks, strict=True)
                    for figure in _loss_and_accuracy(loss, loss.adversarial_examples() if x_adv is None else x_adv)
                )

    def _select_slice(self, chosen: Slice) -> None:
        meta = chosen.meta
        model = chosen.trained_model.load(meta.weights).to(self.device)
        shape = (*chosen.test.x.shape[1:],)
        memory_format.lay_out(
            model, memory_format.choose_memory_format(model, shape, self.device)
        )  # 0.85 of the time on a CPU
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
        self._fixed_attacks: list[Tensor | None] = [
            loss.adversarial_examples() if meta.fixed_attacks else None for loss in self._losses
        ]


@torch.no_grad()
def _loss_and_accuracy(loss: AdversarialLoss, x_adv: Tensor) -> tuple[float, float]:
    """Loss and robust accuracy at the present weights and these attacks."""
    given = torch.cat([loss.model(part).argmax(1) for part in x_adv.split(500)])
    return loss.value(x_adv), (given == loss.y).double().mean().item()
