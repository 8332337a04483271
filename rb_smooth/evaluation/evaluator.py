"""Evaluate a model: trust checks, clean and PGD-20 accuracy, AutoAttack, per-example results.

Each evaluation has a folder of its own: the cache of AutoAttack results, then points.csv and examples.npz. An
interrupted evaluation continues from the cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from rb_smooth.config.registry import default_options
from rb_smooth.config.schema import Evaluate
from rb_smooth.core import distributed, files, robustbench
from rb_smooth.core.console import log_info, progress_bars
from rb_smooth.core.determinism import full_float32
from rb_smooth.core.environment import git_commit
from rb_smooth.core.errors import UserError
from rb_smooth.core.statistics import wilson_interval
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images
from rb_smooth.data.splits import fingerprint
from rb_smooth.evaluation.accuracy import PGD_STEPS, fraction, is_correct, measure_accuracy, predict_classes
from rb_smooth.evaluation.attack_cache import AttackCache
from rb_smooth.evaluation.autoattack import AutoAttackResult, run_autoattack
from rb_smooth.evaluation.checks import Check, post_attack_checks, pre_attack_checks, validate_points
from rb_smooth.evaluation.per_example import collect_examples, points_csv, verify_examples
from rb_smooth.evaluation.score import attack_title


class Measurement(NamedTuple):
    """Accuracies of a model in one ball.

    clean, pgd20, autoattack: fractions in [0, 1]. interval: Wilson's 95 % interval of autoattack. seconds: attack time,
    summed over processes. result: AutoAttack's. folder: of the cache. processes: that attacked in parallel.
    """

    clean: float
    pgd20: float
    autoattack: float
    interval: tuple[float, float]
    seconds: float
    result: AutoAttackResult
    folder: Path
    processes: int


def measure(
    model: nn.Module,
    points: Images,
    threat: Threat,
    protocol: Evaluate,
    *,
    classes: int,
    weights_sha256: str,
    parent: Path,
    workers: int = 1,
) -> Measurement:
    """Measure clean, PGD-20 and AutoAttack accuracy; under `quick` only points that PGD-20 left are attacked again.

    Arguments are those of `evaluate_model`.
    """
    with full_float32():
        pgd_robust = is_correct(model, points, threat)
        clean = measure_accuracy(model, points)
    pgd20, title = fraction(pgd_robust), attack_title({"version": protocol.version})
    log_info(f"{len(points)} test points: clean {clean:.1%}, PGD-{PGD_STEPS} {pgd20:.1%}; {title} …")
    workers = min(workers, math.ceil(math.ceil(len(points) / protocol.batch_size) / distributed.world_size()))
    cache = AttackCache(parent, cache_key(model, points, threat, protocol, weights_sha256))
    distributed.rank_zero_call(cache.open)
    with progress_bars() as bars:
        result = run_autoattack(
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
            cache=cache,
            bars=bars,
        )
    robust = fraction(result.robust)
    seconds = sum(attack.seconds for attack in result.attacks.values())
    processes = distributed.world_size() * workers
    interval = wilson_interval(int(result.robust.sum()), len(points))
    return Measurement(clean, pgd20, robust, interval, seconds, result, cache.path, processes)


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
    """Evaluate `model` on `points` with trust checks; return the score as JSON values.

    model: on its device, images (B, C, H, W) in [0, 1] -> logits (B, classes); left in eval mode. weights_sha256:
    identifies cached results. parent: folder in which the evaluation's own folder is created. workers: processes that
    share AutoAttack's batches; with several ranks (`distributed.process_group`), workers of each rank.

    Raises UserError for invalid points or threats, and for a model that fails a check; verdicts "unreliable" are in
    `checks` of the score.
    """
    validate_points(points, threat, classes)
    model.eval()
    checks = distributed.rank_zero_call(lambda: passed_pre_attack_checks(model, points, threat, classes, protocol.seed))
    measured = measure(
        model,
        points,
        threat,
        protocol,
        classes=classes,
        weights_sha256=weights_sha256,
        parent=parent,
        workers=workers,
    )
    predictions = predict_classes(model, points, next(model.parameters()).device)
    examples = collect_examples(model, points, predictions, measured.result.x_adv)
    checks += distributed.rank_zero_call(
        lambda: _run_post_attack_checks(model, points, threat, measured, protocol.seed)
    )
    checks.append(verify_examples(examples, threat))
    folder, result = measured.folder, measured.result
    if distributed.is_rank_zero() and folder.is_dir():
        files.write_text(folder / "points.csv", points_csv(points, predictions, result, protocol.version))
        files.write_arrays(folder / "examples.npz", vars(examples))
    return {
        "clean": measured.clean,
        "pgd20": measured.pgd20,
        "autoattack": measured.autoattack,
        "interval": list(measured.interval),
        "attacks": {name: asdict(attack) for name, attack in result.attacks.items()},
        "warnings": result.warnings,
        "checks": [check._asdict() for check in checks],
        "n": len(points),
        "fingerprint": fingerprint(points),
        "threat": threat._asdict(),
        "version": protocol.version,
        "seed": protocol.seed,
        "batch_size": protocol.batch_size,
        "seconds": measured.seconds,
        "processes": measured.processes,
        "findings": folder.name,
        "commit": git_commit(),
        "backend": robustbench.evaluation_backend(),
        "versions": robustbench.package_versions(),
    }


def network_config(name: str, options: Mapping[str, Any], shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """Return the arguments of `zoo.build_entry_network`, with default options written out in case defaults change."""
    return {
        "name": name,
        "options": default_options("model", name) | dict(options),
        "shape": list(shape),
        "classes": classes,
    }


def passed_pre_attack_checks(model: nn.Module, points: Images, threat: Threat, classes: int, seed: int) -> list[Check]:
    """Run the checks before the attack. Raises UserError if the model fails one: its accuracies mean nothing."""
    with distributed.single_process():
        checks = pre_attack_checks(model, points, threat, classes, seed=seed)
    if failed := "; ".join(f"'{check.name}': {check.found}" for check in checks if check.verdict == "failed"):
        raise UserError(f"expected a model that can be measured, got one that fails {failed}; see docs/trust.md")
    return checks


def _run_post_attack_checks(
    model: nn.Module, points: Images, threat: Threat, measured: Measurement, seed: int
) -> list[Check]:
    with distributed.single_process():
        return post_attack_checks(
            model, points, threat, measured.result, clean=measured.clean, pgd20=measured.pgd20, seed=seed
        )


def cache_key(
    model: nn.Module, points: Images, threat: Threat, protocol: Evaluate, weights_sha256: str
) -> dict[str, Any]:
    """Return everything that AutoAttack's results depend on, with torch's version and the kind of device, as these
    round differently.
    """
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
