"""AutoAttack as published, and a quick upper bound of its accuracy, batch by batch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from rich.progress import Progress
from torch import Tensor, nn

from rb_smooth.components.batchnorm import preserve_modes
from rb_smooth.core import distributed, robustbench
from rb_smooth.core.determinism import full_float32
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import AnyImages, iterate_batches
from rb_smooth.evaluation.accuracy import fraction
from rb_smooth.evaluation.attack_cache import AttackBatch, AttackCache, BatchResult
from rb_smooth.evaluation.attack_workers import AttackRunner, ProgressCallback, attack_runner

VERSIONS = {"standard": robustbench.ATTACKS, "quick": robustbench.ATTACKS[:2]}
"""Attacks of each version, in order. Accuracy under `quick` is an upper bound of that under `standard`."""

FORWARD_PASSES = {"apgd-ce": 103, "apgd-t": 920, "fab-t": 1829, "square": 5004}
"""Largest number of forward passes of each attack on one batch, reached if no point breaks; one is the final check."""

BACKWARD_PASSES = {"apgd-ce": 101, "apgd-t": 909, "fab-t": 900, "square": 0}
"""Backward passes, to the input, in that case."""


@dataclass(frozen=True)
class AttackResult:
    """robust: accuracy, in [0, 1], on all points after this attack and those before it.

    seconds: computing time, summed over batches and processes, cached results included.
    """

    robust: float
    seconds: float


@dataclass(frozen=True)
class AutoAttackResult:
    """robust: (N,) bool, True where no attack succeeded. clean: accuracy without attack, in [0, 1].

    broken_by: (N,) int64, index in `attacks` of the successful attack; -1 if none succeeded or none ran.
    margin: (N,) float32, logit of the correct class minus the largest other logit after the last attack; NaN if none
    ran. seconds: wall time, without starting workers. warnings: AutoAttack's own.
    x_adv: point index -> adversarial example (C, H, W) float32, of the broken points among those to save.
    """

    robust: Tensor
    clean: float
    attacks: dict[str, AttackResult]
    broken_by: Tensor
    margin: Tensor
    seconds: float
    warnings: list[str]
    x_adv: dict[int, Tensor]


def run_autoattack(
    model: nn.Module,
    images: AnyImages,
    threat: Threat,
    *,
    classes: int,
    batch_size: int,
    seed: int,
    version: str = "standard",
    initially_robust: Tensor | None = None,
    keep_examples: int = 0,
    workers: int = 1,
    cache: AttackCache | None = None,
    bars: Progress | None = None,
) -> AutoAttackResult:
    """Run the attacks of `version` in order, each on the points that are still classified correctly.

    Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
    arXiv 2003.01690. The attacks are pyautoattack's; the loop over remaining points is ours, so that batches can be
    counted, distributed and cached. At equal batch size and seed, `robust` under `standard` equals pyautoattack's bit
    for bit, for any number of workers and processes (which share an attack's batches) and after any interruption.

    initially_robust: (N,) bool, False for points that another attack broke; they are not attacked and count as broken.
                      Not allowed with `standard`, whose protocol has no other attack.
    keep_examples:    return adversarial examples of the first so many points.
    workers:          processes that attack in parallel, on the model's device; 1 uses this process.
    cache:            reads and writes the result of each batch; None: no caching.
    """
    if initially_robust is not None and version == "standard":
        raise ValueError("expected initially_robust with version quick only, got it with standard")
    device = next(model.parameters()).device
    ((x, y),) = iterate_batches(images, len(images), device)
    results, warnings = {}, dict[str, None]()
    broken_by, margin = torch.full((len(y),), -1), torch.full((len(y),), math.nan)
    x_adv: dict[int, Tensor] = {}
    with attack_runner(
        model, x, y, threat, classes=classes, seed=seed, keep_examples=keep_examples, workers=workers
    ) as runner:
        start = time.monotonic()
        robust = _is_correct(model, x, y, batch_size)
        clean = fraction(robust)
        if initially_robust is not None:
            robust &= initially_robust.cpu()
        for place, name in enumerate(VERSIONS[version]):
            survivors = robust.nonzero().flatten()
            parts = survivors.split(batch_size) if len(survivors) else ()
            batches = [AttackBatch(name, number, points) for number, points in enumerate(parts)]
            batch_results = _batch_results(runner, batches, cache, bars)
            for batch, result in zip(batches, batch_results, strict=True):
                robust[batch.points], margin[batch.points] = result.robust, result.margin
                broken = batch.points[~result.robust]
                broken_by[broken] = place
                x_adv |= zip(broken[broken < keep_examples].tolist(), result.x_adv, strict=True)
                warnings |= dict.fromkeys(result.warnings)
            results[name] = AttackResult(fraction(robust), sum(result.seconds for result in batch_results))
        seconds = time.monotonic() - start
    return AutoAttackResult(robust, clean, results, broken_by, margin, seconds, list(warnings), x_adv)


def _is_correct(model: nn.Module, x: Tensor, y: Tensor, batch_size: int) -> Tensor:
    """Return (N,) bool on the CPU: correct in every process, as devices may round differently."""
    with preserve_modes(model), full_float32(), torch.no_grad():
        model.eval()
        correct = torch.cat([model(part).argmax(1) for part in x.split(batch_size)]) == y
    return distributed.all_reduce_min(correct.byte()).bool().cpu()


def _batch_results(
    runner: AttackRunner, batches: list[AttackBatch], cache: AttackCache | None, bars: Progress | None
) -> list[BatchResult]:
    """Return the result of each batch, in order: cached, or computed by this process or another."""
    cached = distributed.rank_zero_call(lambda: [None if cache is None else cache.load(batch) for batch in batches])
    results = {batch.batch_index: result for batch, result in zip(batches, cached, strict=True) if result is not None}
    remaining = [batch for batch in batches if batch.batch_index not in results]
    mine = remaining[distributed.rank() :: distributed.world_size()]
    with _count_forwards(bars, mine) as on_progress:
        for batch, result in runner.results(mine, on_progress):
            results[batch.batch_index] = result
            if cache is not None:
                cache.save(batch, result)
    for others in distributed.all_gather_object(results):
        results |= others
    return [results[batch.batch_index] for batch in batches]


@contextmanager
def _count_forwards(bars: Progress | None, batches: list[AttackBatch]) -> Iterator[ProgressCallback]:
    """Yield a callback that advances the attack's progress bar."""
    if bars is None or not batches:
        yield lambda passes: None
        return
    name = batches[0].attack
    task = bars.add_task(f"AutoAttack {name}", total=FORWARD_PASSES[name] * len(batches))
    yield lambda passes: bars.advance(task, passes)
    bars.remove_task(task)
