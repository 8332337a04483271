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

from rb_smooth.analysis.adversarial_loss import AdversarialLoss, flat
from rb_smooth.analysis.landscape.directions import filter_normalised, random_direction
from rb_smooth.analysis.landscape.slices import Slice
from rb_smooth.analysis.landscape.surface import Surface, read_surface
from rb_smooth.components import memory_format
from rb_smooth.core.console import progress_bars
from rb_smooth.core.determinism import full_float32
from rb_smooth.core.errors import Refused
from rb_smooth.core.threat import Threat
from rb_smooth.core.worker_pool import carried_out

_SAVE_S = 2.0
"""Seconds of work that are lost, at most, when this process is killed."""

Task = tuple[int, tuple[int, ...]]
"""The number of a slice, and a place in its grid."""


def compute_surfaces(slices: Sequence[Slice], device: torch.device, workers: int) -> list[Surface]:
    """The landscape of each slice, whole. Only what its file lacks is computed, and kept there as it comes."""
    surfaces = [_begun(each) for each in slices]
    tasks = [(number, place) for number, surface in enumerate(surfaces) for place in surface.missing]
    if not tasks:
        return surfaces
    whole = sum(surface.done.size for surface in surfaces)
    found = carried_out(partial(Prober, slices, device), tasks, min(workers, len(tasks)))
    unsaved, saved_at = set[int](), time.monotonic()
    with progress_bars() as bars, closing(found):
        bar = bars.add_task("starting", total=whole, completed=whole - len(tasks))
        try:
            for (number, place), figures in found:
                unsaved.add(number)
                surfaces[number].fill(place, figures)
                if time.monotonic() - saved_at > _SAVE_S:
                    _save(surfaces, slices, unsaved)
                    saved_at = time.monotonic()
                about = slices[number].about
                bars.update(bar, advance=1, description=f"{about.run}, {about.weights}")
        finally:  # also at Ctrl-C
            _save(surfaces, slices, unsaved)
    return surfaces


def _begun(chosen: Slice) -> Surface:
    """What is kept of it; what is damaged counts as nothing."""
    surface = Surface(chosen.about)
    if chosen.path.exists():
        with suppress(Refused):
            surface = read_surface(chosen.path)
            surface.about = chosen.about  # a run may have been renamed
    return surface


def _save(surfaces: Sequence[Surface], slices: Sequence[Slice], unsaved: set[int]) -> None:
    for number in sorted(unsaved):
        surfaces[number].save(slices[number].path)
        unsaved.remove(number)


class Prober:
    """Computes a task: the figures of one point, in the order of `surface.FIGURES`."""

    def __init__(self, slices: Sequence[Slice], device: torch.device) -> None:
        self.slices, self.device = slices, device
        self._number = -1
        if device.type == "cpu":
            torch.set_num_threads(1)  # points are shared out instead, and a sum's rounding depends on the threads

    def __call__(self, task: Task) -> tuple[float, ...]:
        number, place = task
        with full_float32():
            if number != self._number:
                self._turn_to(self.slices[number])
                self._number = number
            weights, axis = self._centre, self.slices[number].about.axis
            for i, direction in zip(place, self._directions, strict=True):
                weights = weights + float(axis[i]) * direction
            with self._losses[0].at(weights):
                return tuple(
                    figure
                    for loss, x_adv in zip(self._losses, self._held, strict=True)
                    for figure in _figures(loss, loss.attacks() if x_adv is None else x_adv)
                )

    def _turn_to(self, chosen: Slice) -> None:
        about = chosen.about
        model = chosen.specimen.load(about.weights).to(self.device)
        shape = (*chosen.test.x.shape[1:],)
        memory_format.lay_out(model, memory_format.choose(model, shape, self.device))  # 0.85 of the time on a CPU
        threat = Threat(about.norm, about.eps, about.step_size)  # type: ignore[arg-type]
        self._losses = [
            AdversarialLoss(model, images, threat, steps=about.steps, seed=about.random_seed)
            for images in (chosen.train, chosen.test)
        ]
        parameters = self._losses[0].parameters
        self._centre = self._losses[0].weights
        self._directions = [
            flat(filter_normalised(random_direction(parameters, about.random_seed, number), parameters)).detach()
            for number in about.directions
        ]
        self._held: list[Tensor | None] = [loss.attacks() if about.fixed_attacks else None for loss in self._losses]


@torch.no_grad()
def _figures(loss: AdversarialLoss, x_adv: Tensor) -> tuple[float, float]:
    """Loss and robust accuracy at the present weights and these attacks."""
    given = torch.cat([loss.model(part).argmax(1) for part in x_adv.split(500)])
    return loss.value(x_adv), (given == loss.y).double().mean().item()
