"""AutoAttack as published, and a quick upper bound of it, unit by unit."""

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
from rb_smooth.evaluation.attack_cache import AttackBatch, AttackCache, BatchResult
from rb_smooth.evaluation.attack_workers import AttackRunner, ProgressCallback, attack_runner

VERSIONS = {"standard": robustbench.ATTACKS, "quick": robustbench.ATTACKS[:2]}
"""The attacks of each version, in order. `quick` leaves at least as many points standing: an upper bound."""

FORWARD_PASSES = {"apgd-ce": 103, "apgd-t": 920, "fab-t": 1829, "square": 5004}
"""Forward passes of each attack over a batch of which no point breaks, and one to see so: the most there can be."""

BACKWARD_PASSES = {"apgd-ce": 101, "apgd-t": 909, "fab-t": 900, "square": 0}
"""Backward passes, to the input, that go with them."""


@dataclass(frozen=True)
class AttackResult:
    """robust: the share of all points that are still classified rightly after this attack and those before it.

    seconds: of computing, added up over its batches, whichever process attacked them and whenever.
    """

    robust: float
    seconds: float


@dataclass(frozen=True)
class AutoAttackResult:
    """robust: (N,) bool, True where no attack succeeded. clean: the share classified rightly without any.

    broken_by: (N,) int64, the place in `attacks` of the attack that succeeded; -1 where none did or none was made.
    margin: (N,) float32, logit of the right class minus the highest other one after the last attack made; NaN where
    none was. seconds: from when the attackers were ready to the end. warnings: what AutoAttack itself said.
    x_adv: by place, (C, H, W) float32: the adversarial example of each kept point that an attack broke.
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
    store: AttackCache | None = None,
    bars: Progress | None = None,
) -> AutoAttackResult:
    """Each attack of `version` in turn, on the points that are still robust.

    Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
    arXiv 2003.01690. The attacks are pyautoattack's; the loop over survivors is ours, so that its units, an attack's
    batches, can be counted, dealt and kept. At equal batch size and seed the flags of `standard` equal pyautoattack's
    own bit for bit, for any number of workers and of processes (of which each takes some of an attack's batches), and
    however often it was stopped.

    initially_robust: (N,) bool, False for points that another attack is known to break; they count as broken,
    unattacked.
              Not for `standard`, whose protocol knows no other attack.
    keep_examples: of how many of the points, the first ones, adversarial examples are kept.
    workers:  processes that attack at a time, on the model's device; 1: this one.
    store:    where findings are kept as they come, and looked up first; None: nowhere.
    """
    if initially_robust is not None and version == "standard":
        raise ValueError("expected standing points with version quick only, got them with standard")
    device = next(model.parameters()).device
    ((x, y),) = iterate_batches(images, len(images), device)
    results, warnings = {}, dict[str, None]()
    broken_by, margin = torch.full((len(y),), -1), torch.full((len(y),), math.nan)
    x_adv: dict[int, Tensor] = {}
    with attack_runner(
        model, x, y, threat, classes=classes, seed=seed, keep_examples=keep_examples, workers=workers
    ) as runner:
        begun = time.monotonic()
        robust = _is_correct(model, x, y, batch_size)
        clean = _fraction(robust)
        if initially_robust is not None:
            robust &= initially_robust.cpu()
        for place, name in enumerate(VERSIONS[version]):
            survivors = robust.nonzero().flatten()
            batches = [
                AttackBatch(name, number, index)
                for number, index in enumerate(survivors.split(batch_size))
                if len(index)
            ]
            findings = _batch_results(runner, batches, store, bars)
            for batch, result in zip(batches, findings, strict=True):
                robust[batch.points], margin[batch.points] = result.robust, result.margin
                broken = batch.points[~result.robust]
                broken_by[broken] = place
                x_adv |= zip(broken[broken < keep_examples].tolist(), result.x_adv, strict=True)
                warnings |= dict.fromkeys(result.warnings)
            results[name] = AttackResult(_fraction(robust), sum(result.seconds for result in findings))
        seconds = time.monotonic() - begun
    return AutoAttackResult(robust, clean, results, broken_by, margin, seconds, list(warnings), x_adv)


def _is_correct(model: nn.Module, x: Tensor, y: Tensor, batch_size: int) -> Tensor:
    """(N,) bool, on the CPU: what the model classifies rightly; on which all agree, whatever their devices."""
    with preserve_modes(model), full_float32(), torch.no_grad():
        model.eval()
        right = torch.cat([model(part).argmax(1) for part in x.split(batch_size)]) == y
    return distributed.all_reduce_min(right.byte()).bool().cpu()


def _batch_results(
    runner: AttackRunner, batches: list[AttackBatch], store: AttackCache | None, bars: Progress | None
) -> list[BatchResult]:
    """What each unit found, in order: kept from before, or attacked now, by this process or another."""
    kept = distributed.rank_zero_call(lambda: [None if store is None else store.load(batch) for batch in batches])
    found = {batch.batch_index: result for batch, result in zip(batches, kept, strict=True) if result is not None}
    ahead = [batch for batch in batches if batch.batch_index not in found][
        distributed.rank() :: distributed.world_size()
    ]
    with _count_forwards(bars, ahead) as on_progress:
        for batch, result in runner.results(ahead, on_progress):
            found[batch.batch_index] = result
            if store is not None:
                store.save(batch, result)
    for others in distributed.all_gather_object(found):
        found |= others
    return [found[batch.batch_index] for batch in batches]


@contextmanager
def _count_forwards(bars: Progress | None, batches: list[AttackBatch]) -> Iterator[ProgressCallback]:
    """Inside, forward passes move the attack's bar."""
    if bars is None or not batches:
        yield lambda passes: None
        return
    name = batches[0].attack
    task = bars.add_task(f"AutoAttack {name}", total=FORWARD_PASSES[name] * len(batches))
    yield lambda passes: bars.advance(task, passes)
    bars.remove_task(task)


def _fraction(flags: Tensor) -> float:
    return flags.double().mean().item()
