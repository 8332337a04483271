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
from rb_smooth.components.batchnorm import modes_kept
from rb_smooth.core import environment, robustbench
from rb_smooth.core.determinism import full_float32
from rb_smooth.core.robustbench_shims import undisturbed
from rb_smooth.core.threat import Threat
from rb_smooth.core.worker_pool import crew
from rb_smooth.evaluation.attack_cache import Finding, Unit

_LOOK_S = 0.2
"""Seconds between two looks at how far the workers are."""

Told = Callable[[int], object]
"""Is told of forward passes made, as they are made: an attack has no other moment to report from."""


class Attackers(Protocol):
    """Ready to attack: processes are started, the model and the points are where they are needed."""

    def findings(self, units: Iterable[Unit], told: Told) -> Iterator[tuple[Unit, Finding]]:
        """What each unit finds, as soon as it is found."""
        ...


@contextmanager
def ready(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, classes: int, seed: int, kept: int = 0, workers: int = 1
) -> Iterator[Attackers]:
    """Attackers of `model` on the points x (N, C, H, W) in [0, 1], y (N,), both on the model's device.

    kept: of how many of the points, the first ones, adversarial examples are wanted beside the flags.
    workers: how many processes attack at a time; 1: this one, by itself. Attacks run in eval mode, in float32 and with
    parameters that want no gradient; the model leaves each as it came, and so does the random state.
    """
    if workers == 1:
        yield _Alone(model, x, y, threat, classes, seed, kept)
        return
    # By value and on the CPU: what containers allow of shared memory, in which torch would put it, is often too little.
    brought = pickle.dumps((copy.deepcopy(model).cpu(), x.cpu(), y.cpu(), threat, classes, seed, kept))
    passes = multiprocessing.get_context("spawn").Value("q", 0)
    threads = environment.cores_each(workers)
    with crew(workers, _begin, brought, x.device, threads, passes, to="attack") as pool:
        yield _Crew(pool, passes)


class _Alone:
    """This process."""

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, classes: int, seed: int, kept: int
    ) -> None:
        self.model, self.x, self.y, self.kept = model, x, y, kept
        self.attacks = robustbench.standard_attacks(model, threat, classes, seed, x.device)

    def findings(self, units: Iterable[Unit], told: Told) -> Iterator[tuple[Unit, Finding]]:
        hook = self.model.register_forward_hook(lambda *_: told(1))
        try:
            for unit in units:
                yield unit, self.attack(unit)
        finally:
            hook.remove()

    def attack(self, unit: Unit) -> Finding:
        start, places = time.monotonic(), unit.points.to(self.y.device)
        x, y = self.x[places], self.y[places]
        with (
            undisturbed(),
            full_float32(),
            modes_kept(self.model),
            weights.frozen(self.model),
            torch.no_grad(),
            robustbench.warnings_of_autoattack() as warnings,
        ):
            self.model.eval()
            x_adv = self.attacks[unit.attack](x, y)
            logits = self.model(x_adv)
        right = logits.gather(1, y[:, None]).squeeze(1)
        others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
        robust = logits.argmax(1) == y
        wanted = x_adv[~robust & (places < self.kept)].float().cpu().contiguous()
        return Finding(robust.cpu(), (right - others).float().cpu(), time.monotonic() - start, warnings, wanted)


class _Crew:
    """Worker processes, each with a model of its own. passes: forward passes that they have made, all together."""

    def __init__(self, pool: ProcessPoolExecutor, passes: Any) -> None:
        self.pool, self.passes = pool, passes

    def findings(self, units: Iterable[Unit], told: Told) -> Iterator[tuple[Unit, Finding]]:
        seen = self.passes.value
        ahead = {self.pool.submit(_attack, pickle.dumps(unit)): unit for unit in units}
        while ahead:
            done, _ = wait(ahead, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            now = self.passes.value
            told(now - seen)
            seen = now
            for future in done:
                yield ahead.pop(future), pickle.loads(future.result())


_worker: _Alone
"""In a worker process, once `_begin` has set it: what attacks there."""


def _begin(brought: bytes, device: torch.device, threads: int, passes: Any) -> None:
    """The first thing in a worker process: everything that it needs, once."""
    global _worker
    torch.set_num_threads(min(threads, torch.get_num_threads()))  # no more than OMP_NUM_THREADS allows
    model, x, y, *rest = pickle.loads(brought)
    _worker = _Alone(model.to(device), x.to(device), y.to(device), *rest)

    def count(*_: object) -> None:
        with passes.get_lock():
            passes.value += 1

    model.register_forward_hook(count)


def _attack(unit: bytes) -> bytes:
    return pickle.dumps(_worker.attack(pickle.loads(unit)))
