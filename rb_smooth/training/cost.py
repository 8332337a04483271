"""What is ahead: three real steps, timed on this device, and what a whole run takes. The run itself stays untouched."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import psutil
import torch

from rb_smooth.components import flops
from rb_smooth.components.flops import choose_threads, count_flops, forward_flops
from rb_smooth.config.schema import Recipe
from rb_smooth.core import distributed
from rb_smooth.core.determinism import preserve_rng
from rb_smooth.data.images import iterate_batches
from rb_smooth.data.splits import DataSplits
from rb_smooth.evaluation.autoattack import BACKWARD_PASSES, FORWARD_PASSES, VERSIONS
from rb_smooth.evaluation.score import attack_title
from rb_smooth.training.model_setup import build_network, choose_compute_config
from rb_smooth.training.trainer import Trainer

_TIMED_STEPS = 3
_SMALL_BATCH = 16
_LONG_STEP_S = 2.0
_WORTH_WORKERS_FLOP = 1e12
"""Less is attacked before a second process has started."""


@dataclass(frozen=True)
class CostEstimate:
    """Times in seconds, sizes in bytes. attack_s is the most that the final attack, called `attack`, takes: if no point
    breaks.
    """

    device: str
    steps: int
    step_s: float
    step_flop: float
    attack: str
    attack_s: float
    points: int
    memory: int

    @property
    def sentence(self) -> str:
        return (
            f"ahead on {self.device}: training {_duration(self.steps * self.step_s)} "
            f"({self.steps} steps of {_duration(self.step_s)}, {self.steps * self.step_flop:.1e} FLOP), "
            f"{self.attack} at most {_duration(self.attack_s)} on {self.points} points, "
            f"memory {self.memory / 2**30:.1f} GiB"
        )


@distributed.single_process()
def choose_attack_workers(recipe: Recipe, data: DataSplits) -> int:
    """Choose this process's threads (`flops.choose_threads`) by recipe and data alone, so that a resumed run adds
    its numbers in the same order. Returns how many processes may attack the trained net at a time: as many as threads
    were given up, if what AutoAttack has to do is worth starting them.
    """
    with preserve_rng():
        model = build_network(recipe, data, starts_training=False)
    large = choose_threads(model, data.shape, recipe.data.batch_size)
    forwards, backwards = _passes(recipe.evaluate.version)
    points = min(recipe.evaluate.n_examples, len(data.test))
    flop = forward_flops(model, data.shape) * (forwards + 2 * backwards) * points
    return flops.THREADS if flop > _WORTH_WORKERS_FLOP and not large else 1


def estimate_cost(
    recipe: Recipe, data: DataSplits, device: torch.device, shares: int = 1, workers: int = 1
) -> CostEstimate:
    """Time three training steps, and one pass each way for the attacks, on a scratch model.

    On a slow CPU the steps are of 16 images, and scaled: a step's time is linear in its images. Of several processes
    one times its share of a minibatch, by itself: what they tell each other comes on top. workers: by how many
    processes each of them attacks.
    """
    with distributed.single_process():
        return _estimate_cost(recipe, data, device, shares, workers)


def _estimate_cost(recipe: Recipe, data: DataSplits, device: torch.device, shares: int, workers: int) -> CostEstimate:
    full = recipe.data.batch_size // shares
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with preserve_rng():
        images = full if device.type == "cuda" else min(full, _SMALL_BATCH)
        scratch = _scratch_trainer(recipe, data, device, images)
        _first_batch(scratch)  # libraries load, memory is found
        step_s = _timed(lambda: _first_batch(scratch), device)
        if images < full and step_s * full / images < _LONG_STEP_S:
            images = full
            scratch = _scratch_trainer(recipe, data, device, images)
            _first_batch(scratch)
        step_s = min(_timed(lambda: _first_batch(scratch), device) for _ in range(_TIMED_STEPS)) * full / images
        points = min(recipe.evaluate.n_examples, len(data.test))
        per_point_s = _attack_seconds(scratch, min(images, recipe.evaluate.batch_size), device)
        batches_each = math.ceil(math.ceil(points / recipe.evaluate.batch_size) / (shares * workers))
        memory = _memory(device)
        few = _scratch_trainer(recipe, data, torch.device("cpu"), 2)
        step_flop = count_flops(lambda: _first_batch(few)) * full / 2
    return CostEstimate(
        device=_device_name(device) + (f", {shares} processes" if shares > 1 else ""),
        steps=recipe.train.epochs * (len(data.train) // recipe.data.batch_size),
        step_s=step_s,
        step_flop=step_flop * shares,
        attack=attack_title(recipe.sections["evaluate"]),
        attack_s=per_point_s * min(points, batches_each * recipe.evaluate.batch_size),
        points=points,
        memory=memory,
    )


def _scratch_trainer(recipe: Recipe, data: DataSplits, device: torch.device, batch_size: int) -> Trainer:
    """A session of its own, with its own model, on one minibatch of data, in the form that the recipe's own size gets.

    It compiles nothing, which takes minutes, and synchronises nothing: no other process is there.
    """
    model = build_network(recipe, data, starts_training=False).to(device)
    form = choose_compute_config(recipe.train, model, data.shape, recipe.data.batch_size, device)
    smaller = recipe.data.model_copy(update={"batch_size": batch_size})
    plain = recipe.train.model_copy(update={"precision": form.precision, "compile": False, "sync_bn": False})
    extra = None if data.extra is None else data.extra[:batch_size]
    part = replace(data, train=data.train[:batch_size].load(), validation=data.validation[:1], extra=extra)
    return Trainer(replace(recipe, data=smaller, train=plain), part, device, starts_training=False)


def _first_batch(scratch: Trainer) -> None:
    scratch.batch = 0
    scratch.run_batch(scratch.batch_order())


def _attack_seconds(scratch: Trainer, images: int, device: torch.device) -> float:
    """Seconds per point of the final attack, if the point survives to the end."""
    x, _ = next(iterate_batches(scratch.data.train, images, device))
    model = scratch.model.eval()

    def forward() -> None:
        with torch.no_grad():
            model(x)

    def both_ways() -> None:
        inputs = x.clone().requires_grad_()
        torch.autograd.grad(model(inputs).sum(), inputs)

    forward_s = min(_timed(forward, device) for _ in range(_TIMED_STEPS))
    backward_s = max(min(_timed(both_ways, device) for _ in range(_TIMED_STEPS)) - forward_s, 0.0)
    forwards, backwards = _passes(scratch.recipe.evaluate.version)
    return (forwards * forward_s + backwards * backward_s) / len(x)


def _passes(version: str) -> tuple[int, int]:
    """Forward and backward passes of all attacks of `version` over a batch, if no point breaks."""
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
    """Bytes that a run needs: the GPU's peak so far, or what this process holds."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} of {os.cpu_count()} cores)"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
