"""Estimate time, memory and FLOPs of a run from three training steps timed on its device."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import psutil
import torch
from torch import nn

from rb_smooth.components import flops
from rb_smooth.components.flops import choose_threads, count_flops, forward_flops
from rb_smooth.components.models import Normalized
from rb_smooth.config.schema import Evaluate, Recipe
from rb_smooth.core import distributed
from rb_smooth.core.determinism import preserve_rng
from rb_smooth.core.formatting import duration
from rb_smooth.data.images import AnyImages, iterate_batches
from rb_smooth.data.splits import DataSplits
from rb_smooth.evaluation.autoattack import BACKWARD_PASSES, FORWARD_PASSES, VERSIONS
from rb_smooth.evaluation.score import attack_title
from rb_smooth.training import measurement
from rb_smooth.training.batches import BatchLoader
from rb_smooth.training.model_setup import choose_compute_config
from rb_smooth.training.trainer import Trainer

_TIMED_STEPS = 3
_SMALL_BATCH = 16
_LONG_STEP_S = 2.0
_WORTH_WORKERS_FLOP = 1e12
"""FLOPs of an attack below which starting a second process takes longer than the attack."""


@dataclass(frozen=True)
class CostEstimate:
    """Times in seconds, sizes in bytes.

    attack: title of the final attack. attack_s: upper bound of its time, reached if every point is robust.
    validation_s: of all that is measured after epochs, by one process.
    """

    device: str
    steps: int
    validation_s: float
    step_s: float
    step_flop: float
    attack: str
    attack_s: float
    points: int
    memory: int

    @property
    def sentence(self) -> str:
        return (
            f"estimate on {self.device}: training {duration(self.steps * self.step_s)} "
            f"({self.steps} steps of {duration(self.step_s)}, {self.steps * self.step_flop:.1e} FLOP), "
            f"validation {duration(self.validation_s)} in all, "
            f"{self.attack} at most {duration(self.attack_s)} on {self.points} points, "
            f"memory {self.memory / 2**30:.1f} GiB"
        )


@distributed.single_process()
def choose_attack_workers(recipe: Recipe, data: DataSplits, network: Normalized) -> int:
    """Set torch's thread count (`flops.choose_threads`) and return the number of worker processes for AutoAttack.

    The threads depend on recipe and data only, so that a resumed run sums in the same order. There are as many workers
    as threads that a small network leaves idle, if AutoAttack takes long enough.
    """
    large = choose_threads(network, data.shape, recipe.data.batch_size)
    forwards, backwards = _passes(recipe.evaluate.version)
    points = min(recipe.evaluate.n_examples, len(data.test))
    flop = forward_flops(network, data.shape) * (forwards + 2 * backwards) * points
    return flops.THREADS if flop > _WORTH_WORKERS_FLOP and not large else 1


@distributed.single_process()
def estimate_cost(
    recipe: Recipe, data: DataSplits, network: Normalized, device: torch.device, shares: int = 1, workers: int = 1
) -> CostEstimate:
    """Time three training steps, and a forward and a backward pass of the attacks, on copies of `network`.

    On a slow CPU the steps have 16 images and are scaled, as their time is linear in the images. shares: processes of
    the training; one shard is timed, without communication. workers: attacking processes of each.
    """
    full = recipe.data.batch_size // shares
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with preserve_rng():
        images = full if device.type == "cuda" else min(full, _SMALL_BATCH)
        scratch = _scratch_trainer(recipe, data, network, device, full)
        _set_batch_size(scratch, images)
        _first_batch(scratch)  # loads libraries and allocates memory
        step_s = _timed(lambda: _first_batch(scratch), device)
        if images < full and step_s * full / images < _LONG_STEP_S:
            images = full
            _set_batch_size(scratch, images)
            _first_batch(scratch)
        step_s = min(_timed(lambda: _first_batch(scratch), device) for _ in range(_TIMED_STEPS)) * full / images
        points = min(recipe.evaluate.n_examples, len(data.test))
        pass_s = _pass_seconds(scratch.model, scratch.data.train, min(images, recipe.evaluate.batch_size), device)
        memory = _memory(device)
        step_flop = count_flops(lambda: _first_batch(scratch)) * full / images
    return CostEstimate(
        device=_device_name(device) + (f", {shares} processes" if shares > 1 else ""),
        steps=recipe.train.epochs * (len(data.train) // recipe.data.batch_size),
        validation_s=_total(pass_s, measurement.count_passes(recipe, data)),
        step_s=step_s,
        step_flop=step_flop * shares,
        attack=attack_title(recipe.sections["evaluate"]),
        attack_s=_attack_seconds(pass_s, recipe.evaluate, points, shares * workers),
        points=points,
        memory=memory,
    )


def evaluation_estimate(
    model: nn.Module, points: AnyImages, protocol: Evaluate, device: torch.device, workers: int
) -> str:
    """Return the estimate of an evaluation without training, as a sentence. model: on `device`.

    Times a forward and a backward pass, on a CPU of 16 images.
    """
    images = min(protocol.batch_size, len(points), *([] if device.type == "cuda" else [_SMALL_BATCH]))
    with preserve_rng():
        pass_s = _pass_seconds(model, points, images, device)
    return (
        f"estimate on {_device_name(device)}: {attack_title({'version': protocol.version})} at most "
        f"{duration(_attack_seconds(pass_s, protocol, len(points), workers))} on {len(points)} points, "
        f"memory {_memory(device) / 2**30:.1f} GiB"
    )


def _attack_seconds(pass_s: tuple[float, float], protocol: Evaluate, points: int, processes: int) -> float:
    """Seconds of all attacks if every point is robust; batches are shared by `processes`."""
    batches_each = math.ceil(math.ceil(points / protocol.batch_size) / processes)
    return _total(pass_s, _passes(protocol.version)) * min(points, batches_each * protocol.batch_size)


def _scratch_trainer(
    recipe: Recipe, data: DataSplits, network: Normalized, device: torch.device, batch_size: int
) -> Trainer:
    """A trainer for one minibatch of `batch_size` images, in the precision of the recipe's own batch size.

    It does not compile, which takes minutes, and does not synchronise BatchNorm.
    """
    precision = choose_compute_config(recipe.train, network, data.shape, recipe.data.batch_size, device).precision
    smaller = recipe.data.model_copy(update={"batch_size": batch_size})
    plain = recipe.train.model_copy(update={"precision": precision, "compile": False, "sync_bn": False})
    extra = None if data.extra is None else data.extra[:batch_size]
    part = replace(data, train=data.train[:batch_size].load(), validation=data.validation[:1], extra=extra)
    scratch = replace(recipe, data=smaller, train=plain)
    return Trainer(scratch, part, device, starts_training=False, network=network)


def _set_batch_size(scratch: Trainer, images: int) -> None:
    smaller = scratch.recipe.data.model_copy(update={"batch_size": images})
    scratch.batch_loader = BatchLoader(replace(scratch.recipe, data=smaller), scratch.data)


def _first_batch(scratch: Trainer) -> None:
    scratch.batch = 0
    scratch.run_batch(scratch.batch_order())


def _pass_seconds(model: nn.Module, some: AnyImages, images: int, device: torch.device) -> tuple[float, float]:
    """Seconds of a forward and of a backward pass to an image, in evaluation, on the first `images` of `some`."""
    x, _ = next(iterate_batches(some, images, device))
    model.eval()

    def forward() -> None:
        with torch.no_grad():
            model(x)

    def backward() -> None:
        inputs = x.clone().requires_grad_()
        torch.autograd.grad(model(inputs).sum(), inputs)

    forward_s = min(_timed(forward, device) for _ in range(_TIMED_STEPS))
    backward_s = max(min(_timed(backward, device) for _ in range(_TIMED_STEPS)) - forward_s, 0.0)
    return forward_s / len(x), backward_s / len(x)


def _total(pass_s: tuple[float, float], passes: tuple[int, int]) -> float:
    return sum(seconds * number for seconds, number in zip(pass_s, passes, strict=True))


def _passes(version: str) -> tuple[int, int]:
    """Forward and backward passes of all attacks of `version` over a batch of robust points."""
    attacks = VERSIONS[version]
    return sum(FORWARD_PASSES[name] for name in attacks), sum(BACKWARD_PASSES[name] for name in attacks)


def _timed(work: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _memory(device: torch.device) -> int:
    """Peak GPU memory so far, or resident memory of this process, in bytes."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} of {os.cpu_count()} cores)"
