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

from rb_smooth.config.registry import default_options
from rb_smooth.config.schema import Evaluate
from rb_smooth.core import distributed, files, robustbench
from rb_smooth.core.console import log_info, progress_bars
from rb_smooth.core.determinism import full_float32
from rb_smooth.core.environment import git_commit
from rb_smooth.core.errors import UserError
from rb_smooth.core.statistics import share_interval
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images
from rb_smooth.data.splits import fingerprint
from rb_smooth.evaluation.accuracy import PGD_STEPS, fraction, is_correct, measure_accuracy, predict_classes
from rb_smooth.evaluation.attack_cache import AttackCache
from rb_smooth.evaluation.autoattack import AutoAttackResult, run_autoattack
from rb_smooth.evaluation.checks import Check, post_attack_checks, pre_attack_checks, validate_points
from rb_smooth.evaluation.per_example import collect_examples, points_csv, verify_examples
from rb_smooth.evaluation.score import attack_title


def evaluate_model(
    model: nn.Module,
    points: Images,
    threat: Threat,
    protocol: Evaluate,
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
    AutoAttack's batches are dealt; of several processes (`distributed.process_group`) each deals its own.

    Raises UserError for points or a ball that cannot be meant, and for a model that cannot be measured (checks);
    doubts that only cast a shadow on the figures stand in `checks`.
    """
    validate_points(points, threat, classes)
    model.eval()
    checks = distributed.rank_zero_call(lambda: _run_pre_attack_checks(model, points, threat, classes, protocol.seed))
    with full_float32():
        withstood = is_correct(model, points, threat)
        clean = measure_accuracy(model, points)
    pgd20 = fraction(withstood)
    log_info(f"{len(points)} test points: clean {clean:.1%}, PGD-{PGD_STEPS} {pgd20:.1%}; {_attack_name(protocol)} …")
    workers = min(workers, math.ceil(math.ceil(len(points) / protocol.batch_size) / distributed.world_size()))
    store = AttackCache(parent, cache_key(model, points, threat, protocol, weights_sha256))
    result = run_attacks(model, points, threat, protocol, withstood, classes=classes, store=store, workers=workers)
    given = predict_classes(model, points, next(model.parameters()).device)
    kept = collect_examples(model, points, given, result.x_adv)
    checks += distributed.rank_zero_call(
        lambda: _run_post_attack_checks(model, points, threat, result, clean, pgd20, protocol.seed)
    )
    checks.append(verify_examples(kept, threat))
    if distributed.is_rank_zero() and store.path.is_dir():
        files.write_text(store.path / "points.csv", points_csv(points, given, result, protocol.version))
        files.write_arrays(store.path / "examples.npz", vars(kept))
    robust = fraction(result.robust)
    return {
        "clean": clean,
        "pgd20": pgd20,
        "autoattack": robust,
        "interval": list(share_interval(robust, len(points))),
        "attacks": {name: asdict(attack) for name, attack in result.attacks.items()},
        "warnings": result.warnings,
        "checks": [check._asdict() for check in checks],
        "n": len(points),
        "fingerprint": fingerprint(points),
        "threat": threat._asdict(),
        "version": protocol.version,
        "seed": protocol.seed,
        "batch_size": protocol.batch_size,
        "seconds": sum(attack.seconds for attack in result.attacks.values()),
        "processes": distributed.world_size() * workers,
        "findings": store.path.name,
        "commit": git_commit(),
        "backend": robustbench.evaluation_backend(),
        "versions": robustbench.package_versions(),
    }


def run_attacks(
    model: nn.Module,
    points: Images,
    threat: Threat,
    protocol: Evaluate,
    pgd_robust: Tensor,
    *,
    classes: int,
    store: AttackCache,
    workers: int = 1,
) -> AutoAttackResult:
    """The attacks of `asked.version`, as it asks, on all points; under `quick` on those that `pgd_robust` PGD-20."""
    distributed.rank_zero_call(store.open)
    with progress_bars() as bars:
        return run_autoattack(
            model,
            points,
            threat,
            classes=classes,
            batch_size=protocol.batch_size,
            seed=protocol.seed,
            version=protocol.version,
            initially_robust=None if protocol.version == "standard" else pgd_robust,
            keep_examples=protocol.keep_adversarial,
            workers=workers,
            store=store,
            bars=bars,
        )


def network_config(name: str, options: Mapping[str, Any], shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """What `zoo.build_entry_network` makes the network of; all options are written out, whatever becomes of their
    defaults.
    """
    return {
        "name": name,
        "options": default_options("model", name) | dict(options),
        "shape": list(shape),
        "classes": classes,
    }


def _run_pre_attack_checks(model: nn.Module, points: Images, threat: Threat, classes: int, seed: int) -> list[Check]:
    with distributed.single_process():
        checks = pre_attack_checks(model, points, threat, classes, seed=seed)
    if refused := [check for check in checks if check.verdict == "refused"]:
        raise UserError(
            f"expected a model that can be measured, got one that fails {_print_checks(refused)}; see docs/trust.md"
        )
    return checks


def _run_post_attack_checks(
    model: nn.Module, points: Images, threat: Threat, result: AutoAttackResult, clean: float, pgd20: float, seed: int
) -> list[Check]:
    with distributed.single_process():
        return post_attack_checks(model, points, threat, result, clean=clean, pgd20=pgd20, seed=seed)


def _print_checks(checks: Iterable[Check]) -> str:
    return "; ".join(f"'{check.name}': {check.found}" for check in checks)


def _attack_name(protocol: Evaluate) -> str:
    return attack_title({"version": protocol.version})


def cache_key(
    model: nn.Module, points: Images, threat: Threat, protocol: Evaluate, weights_sha256: str
) -> dict[str, Any]:
    """Everything that AutoAttack's findings depend on; torch and the kind of device, since each rounds in its way."""
    return {
        "weights": weights_sha256,
        "points": fingerprint(points),
        "n": len(points),
        "threat": threat._asdict(),
        "version": protocol.version,
        "batch_size": protocol.batch_size,
        "seed": protocol.seed,
        "kept": protocol.keep_adversarial,
        "backend": robustbench.evaluation_backend(),
        "torch": torch.__version__,
        "device": next(model.parameters()).device.type,
    }
