"""A model measured in full: trust checks, clean accuracy, PGD-20, AutoAttack, and what became of every point.

The findings lie in a folder of their own, which no other evaluation shares: AutoAttack's units as they come, then
points.csv and examples.npz. An evaluation that was stopped goes on from there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rb_smooth.config.registry import defaults
from rb_smooth.config.schema import Evaluate
from rb_smooth.core import distributed, files, robustbench
from rb_smooth.core.console import progress_bars, remark
from rb_smooth.core.determinism import full_float32
from rb_smooth.core.environment import commit
from rb_smooth.core.errors import Refused
from rb_smooth.core.statistics import interval
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images
from rb_smooth.data.splits import fingerprint
from rb_smooth.evaluation.accuracy import PGD_STEPS, accuracy, correct, likeliest, share
from rb_smooth.evaluation.attack_cache import UnitStore
from rb_smooth.evaluation.autoattack import AutoAttackResult, autoattack
from rb_smooth.evaluation.checks import Check, after_attack, before_attack, check_points
from rb_smooth.evaluation.per_example import gathered_examples, points_csv, verified
from rb_smooth.evaluation.score import attack_title


def assess(
    model: nn.Module,
    points: Images,
    threat: Threat,
    asked: Evaluate,
    *,
    classes: int,
    weights_sha256: str,
    parent: Path,
    workers: int = 1,
) -> dict[str, Any]:
    """Everything that a score says of `model` on `points`, as plain values; see leaderboard/entries.py for where they
    go.

    model: on its device, images (B, C, H, W) in [0, 1] -> logits (B, classes); left in eval mode. weights_sha256: by
    which findings are known again. parent: where the folder of findings is made. workers: processes among which
    AutoAttack's batches are dealt; of several processes (`distributed.joined`) each deals its own.

    Raises Refused for points or a ball that cannot be meant, and for a model that cannot be measured (checks);
    doubts that only cast a shadow on the figures stand in `checks`.
    """
    check_points(points, threat, classes)
    model.eval()
    checks = distributed.from_first(lambda: _checked_before(model, points, threat, classes, asked.seed))
    with full_float32():
        withstood = correct(model, points, threat)
        clean = accuracy(model, points)
    pgd20 = share(withstood)
    remark(f"{len(points)} test points: clean {clean:.1%}, PGD-{PGD_STEPS} {pgd20:.1%}; {_titled(asked)} …")
    workers = min(workers, math.ceil(math.ceil(len(points) / asked.batch_size) / distributed.size()))
    store = UnitStore(parent, binding(model, points, threat, asked, weights_sha256))
    result = attacked(model, points, threat, asked, withstood, classes=classes, store=store, workers=workers)
    given = likeliest(model, points, next(model.parameters()).device)
    kept = gathered_examples(model, points, given, result.x_adv)
    checks += distributed.from_first(lambda: _checked_after(model, points, threat, result, clean, pgd20, asked.seed))
    checks.append(verified(kept, threat))
    if distributed.is_first() and store.path.is_dir():
        files.write_text(store.path / "points.csv", points_csv(points, given, result, asked.version))
        files.write_arrays(store.path / "examples.npz", vars(kept))
    robust = share(result.robust)
    return {
        "clean": clean,
        "pgd20": pgd20,
        "autoattack": robust,
        "interval": list(interval(robust, len(points))),
        "attacks": {name: asdict(attack) for name, attack in result.attacks.items()},
        "warnings": result.warnings,
        "checks": [check._asdict() for check in checks],
        "n": len(points),
        "fingerprint": fingerprint(points),
        "threat": threat._asdict(),
        "version": asked.version,
        "seed": asked.seed,
        "batch_size": asked.batch_size,
        "seconds": sum(attack.seconds for attack in result.attacks.values()),
        "processes": distributed.size() * workers,
        "findings": store.path.name,
        "commit": commit(),
        "backend": robustbench.our_attacks(),
        "versions": robustbench.versions(),
    }


def attacked(
    model: nn.Module,
    points: Images,
    threat: Threat,
    asked: Evaluate,
    withstood: Tensor,
    *,
    classes: int,
    store: UnitStore,
    workers: int = 1,
) -> AutoAttackResult:
    """The attacks of `asked.version`, as it asks, on all points; under `quick` on those that `withstood` PGD-20."""
    distributed.from_first(store.open)
    with progress_bars() as bars:
        return autoattack(
            model,
            points,
            threat,
            classes=classes,
            batch_size=asked.batch_size,
            seed=asked.seed,
            version=asked.version,
            standing=None if asked.version == "standard" else withstood,
            kept=asked.keep_adversarial,
            workers=workers,
            store=store,
            bars=bars,
        )


def network(name: str, options: Mapping[str, Any], shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """What `zoo.build` makes the network of; all options are written out, whatever becomes of their defaults."""
    return {"name": name, "options": defaults("model", name) | dict(options), "shape": list(shape), "classes": classes}


def _checked_before(model: nn.Module, points: Images, threat: Threat, classes: int, seed: int) -> list[Check]:
    with distributed.alone():
        checks = before_attack(model, points, threat, classes, seed=seed)
    if refused := [check for check in checks if check.verdict == "refused"]:
        raise Refused(f"expected a model that can be measured, got one that fails {_told(refused)}; see docs/trust.md")
    return checks


def _checked_after(
    model: nn.Module, points: Images, threat: Threat, result: AutoAttackResult, clean: float, pgd20: float, seed: int
) -> list[Check]:
    with distributed.alone():
        return after_attack(model, points, threat, result, clean=clean, pgd20=pgd20, seed=seed)


def _told(checks: Iterable[Check]) -> str:
    return "; ".join(f"'{check.name}': {check.found}" for check in checks)


def _titled(asked: Evaluate) -> str:
    return attack_title({"version": asked.version})


def binding(model: nn.Module, points: Images, threat: Threat, asked: Evaluate, weights_sha256: str) -> dict[str, Any]:
    """Everything that AutoAttack's findings depend on; torch and the kind of device, since each rounds in its way."""
    return {
        "weights": weights_sha256,
        "points": fingerprint(points),
        "n": len(points),
        "threat": threat._asdict(),
        "version": asked.version,
        "batch_size": asked.batch_size,
        "seed": asked.seed,
        "kept": asked.keep_adversarial,
        "backend": robustbench.our_attacks(),
        "torch": torch.__version__,
        "device": next(model.parameters()).device.type,
    }
