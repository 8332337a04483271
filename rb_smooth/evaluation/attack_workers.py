"""Who carries out AutoAttack's units: this process, or worker processes beside it. What is found is the same."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
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
"""Seconds between two looks at how far the workers are."""

ProgressCallback = Callable[[int], object]
"""Is told of forward passes made, as they are made: an attack has no other moment to report from."""


class AttackRunner(Protocol):
    """Ready to attack: processes are started, the model and the points are where they are needed."""

    def results(
        self, batches: Iterable[AttackBatch], on_progress: ProgressCallback
    ) -> Iterator[tuple[AttackBatch, BatchResult]]:
        """What each unit finds, as soon as it is found."""
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
    """Attackers of `model` on the points x (N, C, H, W) in [0, 1], y (N,), both on the model's device.

    keep_examples: of how many of the points, the first ones, adversarial examples are wanted beside the flags.
    workers: how many processes attack at a time; 1: this one, by itself. Attacks run in eval mode, in float32 and with
    parameters that want no gradient; the model leaves each as it came, and so does the random state.
    """
    if workers == 1:
        yield _LocalRunner(model, x, y, threat, classes, seed, keep_examples)
        return
    # By value and on the CPU: what containers allow of shared memory, in which torch would put it, is often too little.
    brought = pickle.dumps((copy.deepcopy(model).cpu(), x.cpu(), y.cpu(), threat, classes, seed, keep_examples))
    passes = multiprocessing.get_context("spawn").Value("q", 0)
    threads = environment.cores_per_worker(workers)
    with start_workers(workers, _init_worker, brought, x.device, threads, passes, purpose="attack") as pool:
        yield _PoolRunner(pool, passes)


class _LocalRunner:
    """This process."""

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
        start, places = time.monotonic(), batch.points.to(self.y.device)
        x, y = self.x[places], self.y[places]
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
        right = logits.gather(1, y[:, None]).squeeze(1)
        others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
        robust = logits.argmax(1) == y
        wanted = x_adv[~robust & (places < self.keep_examples)].float().cpu().contiguous()
        return BatchResult(robust.cpu(), (right - others).float().cpu(), time.monotonic() - start, warnings, wanted)


class _PoolRunner:
    """Worker processes, each with a model of its own. passes: forward passes that they have made, all together."""

    def __init__(self, pool: ProcessPoolExecutor, passes: Any) -> None:
        self.pool, self.passes = pool, passes

    def results(
        self, batches: Iterable[AttackBatch], on_progress: ProgressCallback
    ) -> Iterator[tuple[AttackBatch, BatchResult]]:
        seen = self.passes.value
        ahead = {self.pool.submit(_attack, pickle.dumps(batch)): batch for batch in batches}
        while ahead:
            done, _ = wait(ahead, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            now = self.passes.value
            on_progress(now - seen)
            seen = now
            for future in done:
                yield ahead.pop(future), pickle.loads(future.result())


_worker: _LocalRunner
"""In a worker process, once `_init_worker` has set it: what attacks there."""


def _init_worker(state: bytes, device: torch.device, threads: int, passes: Any) -> None:
    """The first thing in a worker process: everything that it needs, once."""
    global _worker
    torch.set_num_threads(min(threads, torch.get_num_threads()))  # no more than OMP_NUM_THREADS allows
    model, x, y, *rest = pickle.loads(state)
    _worker = _LocalRunner(model.to(device), x.to(device), y.to(device), *rest)

    def count(*_: object) -> None:
        with passes.get_lock():
            passes.value += 1

    model.register_forward_hook(count)


def _attack(batch: bytes) -> bytes:
    return pickle.dumps(_worker.attack(pickle.loads(batch)))
