"""Evaluate any torch module on any test points."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rb_smooth.components.batchnorm import preserve_modes
from rb_smooth.components.flops import choose_threads
from rb_smooth.config.schema import load_raw_dataset, parse_protocol
from rb_smooth.core.errors import UserError, first_line
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import AnyImages, Images, as_images
from rb_smooth.evaluation.evaluator import evaluate_model
from rb_smooth.evaluation.score import Score

Points = str | Mapping[str, Any] | tuple[Any, Any]
"""A data set's name, a recipe's `data:` section such as {"name": "folder", "root": …}, or (x, y)."""


def evaluate_module(
    model: nn.Module, points: Points, changes: Mapping[str, Any], data_dir: Path, workers: int
) -> Score:
    """Evaluate `model` on its own device: images (B, C, H, W) in [0, 1] -> logits (B, classes).

    changes: keys of a recipe's `evaluate:` section; eps is required. Nothing is stored; the model's modes are restored.
    Raises UserError for invalid points or threats, and for a model that fails the trust checks.
    """
    if not list(model.parameters()):
        raise UserError("expected a module with parameters, which have a device, got none; add or register them")
    if "eps" not in changes:
        raise UserError("expected eps, the radius of the ball where pixels are in [0, 1], got none; say eps=8/255")
    images: AnyImages
    if isinstance(points, tuple):
        images, classes = as_images(*points), None
        changes = {"n_examples": len(images), **changes}
    else:
        source = load_raw_dataset({"name": points} if isinstance(points, str) else points, data_dir)
        images, classes = source.test, len(source.classes)
    protocol = parse_protocol(changes)
    assert protocol.eps is not None
    threat = Threat(protocol.norm or "Linf", protocol.eps, protocol.step_size or protocol.eps / 4)
    selected = images[: protocol.n_examples].load()
    with preserve_modes(model), tempfile.TemporaryDirectory(prefix="evaluation-") as folder:
        n_logits = _count_classes(model, selected)
        choose_threads(model, selected.shape, protocol.batch_size)
        score = evaluate_model(
            model,
            selected,
            threat,
            protocol,
            classes=classes or n_logits,
            weights_sha256="",  # the cache is temporary
            parent=Path(folder),
            workers=workers,
        )
    return Score.of(score)


def _count_classes(model: nn.Module, points: Images) -> int:
    """Return the number of logits. Foreign code may raise any exception; it becomes a UserError."""
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            logits = model.eval()(points.x[:1].to(device).float() / 255)
        answer = f"{type(logits).__name__} of shape {tuple(logits.shape)}"
    except Exception as error:
        logits, answer = None, f"{type(error).__name__} ({first_line(error)})"
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        size = "x".join(map(str, points.shape))
        raise UserError(f"expected a model that maps {size} images to logits (B, classes), got {answer}; wrap it")
    return logits.shape[1]
