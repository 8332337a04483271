"""Audit a claimed robust accuracy: of any model in Python, of a checkpoint on the command line; writes a report.

<folder>/report.md, report.html   the result with attacks, checks and adversarial examples, to hand in with a review
<folder>/audit.json               the same as values
<folder>/points.csv               the attacked test points, and which attack broke each
<folder>/examples.npz             adversarial examples: index, label, predictions, x (uint8), x_adv (float32 in [0, 1])
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from rb_smooth.components.batchnorm import preserve_modes
from rb_smooth.components.checkpoints import export_state_dict
from rb_smooth.components.flops import choose_threads
from rb_smooth.config.schema import load_raw_dataset
from rb_smooth.core import files
from rb_smooth.core.console import log_info, show_output
from rb_smooth.core.errors import UserError
from rb_smooth.core.threat import Threat
from rb_smooth.evaluation.attack_cache import AttackCache
from rb_smooth.evaluation.custom_model import Model, Points, as_module, count_logits, load_points
from rb_smooth.evaluation.evaluator import cache_key
from rb_smooth.evaluation.sequential_audit import Audit, audit_model
from rb_smooth.leaderboard.external import ExternalModel, build_external
from rb_smooth.leaderboard.reports.audit_report import write_report


def audit(
    model: Model,
    points: Points,
    *,
    eps: float,
    claimed: float,
    norm: Literal["Linf", "L2"] = "Linf",
    limit: int | None = 1000,
    seed: int = 0,
    batch_size: int = 250,
    report: str | Path | None = None,
    data_dir: str | Path = "data",
    workers: int = 1,
    verbose: bool = True,
) -> Audit:
    """Test whether `model` has the `claimed` robust accuracy, with attacks of growing cost on growing random samples.

    model:   a torch or TorchScript module, or any function: images (B, C, H, W) in [0, 1] -> logits (B, classes).
    points:  the whole test set: a data set's name, a `data` section, (x, y), a DataLoader, a Dataset, or pairs.
    eps:     radius of the ball, for pixels in [0, 1]. norm: of the ball.
    claimed: the claimed robust accuracy, in (0, 1].
    limit:   largest number of points to attack; None: the whole test set.
    report:  folder to write the report to; None: none is written.

    The sample grows in fixed steps (50, 100, 200, 500, …). After each attack on it the claim is tested; it is refuted
    if Clopper and Pearson's upper bound, with the error of 5 % divided among the steps, is below the claim. Otherwise
    the result is "consistent", which proves nothing. Raises UserError for invalid arguments, and for a model on which
    accuracies mean nothing (docs/trust.md).
    """
    module = as_module(model)
    images, classes = load_points(points, Path(data_dir))
    threat = Threat(norm, float(eps), float(eps) / 4)
    with show_output(verbose), preserve_modes(module):
        n_logits = count_logits(module, images[:1].load())
        choose_threads(module, images.shape, batch_size)
        result = audit_model(
            module,
            images,
            threat,
            float(claimed),
            classes=classes or n_logits,
            limit=limit,
            seed=seed,
            batch_size=batch_size,
            workers=workers,
        )
    if report is not None:
        write_report(result, Path(report), {"model": type(model).__name__})
    return result


def audit_checkpoint(
    external: ExternalModel,
    claimed: float,
    folder: Path,
    *,
    limit: int | None,
    data_dir: Path,
    device: torch.device,
    workers: int = 1,
) -> Audit:
    """Audit the claim of a checkpoint and write the report to `folder`. After an interruption the same call resumes.

    `external.architecture` is a recipe's model, or a user's own code, `my_module.py:Net`, which is executed.
    """
    source = load_raw_dataset(external.data, data_dir)
    protocol = external.protocol
    model = build_external(external, source)
    choose_threads(model, source.test.shape, protocol.batch_size)
    weights = folder / ".weights.pt"
    files.save_tensors(weights, export_state_dict(model))
    sha256 = files.sha256(weights)
    weights.unlink()
    sample = source.test[:1].load()
    key = cache_key(model, sample, external.threat, protocol, sha256) | {"audit": len(source.test)}
    cache = AttackCache(folder / ".cache", key)
    cache.open()
    result = audit_model(
        model.to(device),
        source.test,
        external.threat,
        claimed,
        classes=len(source.classes),
        limit=limit,
        seed=protocol.seed,
        batch_size=protocol.batch_size,
        workers=workers,
        cache=cache,
    )
    write_report(
        result,
        folder,
        {
            "checkpoint": external.checkpoint.name,
            "SHA-256 of the checkpoint": files.sha256(external.checkpoint),
            "network": Path(external.architecture).name + (f" {external.options}" if external.options else ""),
            "normalisation": "mean and standard deviation of the data" if external.standardise else "the file's own",
            "test set": f"{source.board}{'' if source.official else ' (not the official files)'}",
        },
        source.classes,
    )
    return result


_IN_CHILD = "RB_SMOOTH_AUDIT_CHILD"
"""Environment variable of the child process that executes foreign code."""


def needs_child(network: str | None) -> bool:
    """Whether the network is foreign code, and this process is not the child that may execute it."""
    return network is not None and _IN_CHILD not in os.environ


def run_in_child(network: str, arguments: Sequence[str]) -> int:
    """Repeat the command with `arguments` in a child process, which executes the network's code; return its exit code.

    The child is no sandbox. Raises UserError if a signal ended it.
    """
    log_info(f"executing the code of {network} in a child process, with your rights; read it first")
    command: list[Any] = [sys.executable, "-m", "rb_smooth.leaderboard", *arguments]
    code = subprocess.run(command, env=os.environ | {_IN_CHILD: "1"}, check=False).returncode
    if code < 0:
        raise UserError(f"expected {network} to be executed, got a process that signal {-code} ended; run it by itself")
    return code
