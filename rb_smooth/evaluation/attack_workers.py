"""Run AutoAttack batches in this process or in worker processes, with equal results."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rb_smooth.components import weights
from rb_smooth.components.batchnorm import preserve_modes
from rb_smooth.core import environment, robustbench
from rb_smooth.core.determinism import full_float32
from rb_smooth.core.robustbench_shims import isolate_autoattack
from rb_smooth.core.threat import Threat
from rb_smooth.core.worker_pool import start_workers
from rb_smooth.evaluation.attack_cache import AttackBatch, BatchResult

_POLL_SECONDS = 0.2
"""Seconds between progress updates."""

ProgressCallback = Callable[[int], object]
"""Called with the number of forward passes since the last call; attacks report no other progress."""


class AttackRunner(Protocol):
    """Runs attacks; its processes are started and hold the model and the points."""

    def results(
        self, batches: Iterable[AttackBatch], on_progress: ProgressCallback
    ) -> Iterator[tuple[AttackBatch, BatchResult]]:
        """Yield each batch with its result, in order of completion."""
        ...


@contextmanager
def attack_runner(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    classes: int,
    seed: int,
    keep_examples: int = 0,
    workers: int = 1,
) -> Iterator[AttackRunner]:
    """Yield a runner of attacks on `model` at points x (N, C, H, W) in [0, 1], y (N,), both on the model's device.

    keep_examples: return adversarial examples of the first so many points. workers: processes that attack in parallel;
    1 uses this process. Attacks run in eval mode, in float32, with requires_grad off for parameters; modes, flags and
    the random state are restored.
    """
    if workers == 1:
        yield _LocalRunner(model, x, y, threat, classes, seed, keep_examples)
        return
    runner = partial(_LocalRunner, threat=threat, classes=classes, seed=seed, keep_examples=keep_examples)
    threads = environment.cores_per_worker(workers)
    make = partial(_make_attack, runner, copy.deepcopy(model).cpu(), x.cpu(), y.cpu(), x.device, threads)
    passes = multiprocessing.get_context("spawn").Value("q", 0)
    with start_workers(make, workers, passes, purpose="attack") as submit:
        yield _PoolRunner(submit, passes)


class _LocalRunner:
    """Attacks in this process."""

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, classes: int, seed: int, keep_examples: int
    ) -> None:
        self.model, self.x, self.y, self.keep_examples = model, x, y, keep_examples
        self.attacks = robustbench.standard_attacks(model, threat, classes, seed, x.device)

    def results(
        self, batches: Iterable[AttackBatch], on_progress: ProgressCallback
    ) -> Iterator[tuple[AttackBatch, BatchResult]]:
        hook = self.model.register_forward_hook(lambda *_: on_progress(1))
        try:
            for batch in batches:
                yield batch, self.attack(batch)
        finally:
            hook.remove()

    def attack(self, batch: AttackBatch) -> BatchResult:
        start, points = time.monotonic(), batch.points.to(self.y.device)
        x, y = self.x[points], self.y[points]
        with (
            isolate_autoattack(),
            full_float32(),
            preserve_modes(self.model),
            weights.no_param_grad(self.model),
            torch.no_grad(),
            robustbench.warnings_of_autoattack() as warnings,
        ):
            self.model.eval()
            x_adv = self.attacks[batch.attack](x, y)
            logits = self.model(x_adv)
        correct = logits.gather(1, y[:, None]).squeeze(1)
        others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
        robust = logits.argmax(1) == y
        saved = x_adv[~robust & (points < self.keep_examples)].float().cpu().contiguous()
        return BatchResult(robust.cpu(), (correct - others).float().cpu(), time.monotonic() - start, warnings, saved)


class _PoolRunner:
    """Attacks in worker processes, each with a copy of the model. passes: shared count of their forward passes."""

    def __init__(self, submit: Callable[[AttackBatch], Future[bytes]], passes: Any) -> None:
        self.submit, self.passes = submit, passes

    def results(
        self, batches: Iterable[AttackBatch], on_progress: ProgressCallback
    ) -> Iterator[tuple[AttackBatch, BatchResult]]:
        reported = self.passes.value
        pending = {self.submit(batch): batch for batch in batches}
        while pending:
            done, _ = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            now = self.passes.value
            on_progress(now - reported)
            reported = now
            for future in done:
                yield pending.pop(future), pickle.loads(future.result())


def _make_attack(
    runner: Callable[..., _LocalRunner],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    device: torch.device,
    threads: int,
    passes: Any,
) -> Callable[[AttackBatch], BatchResult]:
    """Set up a worker process; return the function that attacks a batch."""
    torch.set_num_threads(min(threads, torch.get_num_threads()))  # no more than OMP_NUM_THREADS allows

    def count(*_: object) -> None:
        with passes.get_lock():
            passes.value += 1

    model.register_forward_hook(count)
    return runner(model.to(device), x.to(device), y.to(device)).attack
