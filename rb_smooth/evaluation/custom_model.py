"""Models measured from Python: any torch module on any points, and entries of a board by another protocol."""

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
"""A data set by its name, a recipe's `data:` section such as {"name": "folder", "root": …}, or (x, y)."""


def evaluate_module(
    model: nn.Module, points: Points, changes: Mapping[str, Any], data_dir: Path, workers: int
) -> Score:
    """`model` where it is, images (B, C, H, W) in [0, 1] -> logits (B, classes), left in the modes in which it came.

    changes: keys of a recipe's `evaluate:`, of which eps is needed. Raises UserError for points, a ball or a model that
    cannot be measured. Nothing is kept.
    """
    if not list(model.parameters()):
        raise UserError("expected a module with parameters, got one without; its device could not be told")
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
    chosen = images[: protocol.n_examples].load()
    with preserve_modes(model), tempfile.TemporaryDirectory(prefix="evaluation-") as folder:
        answered = _count_classes(model, chosen)
        choose_threads(model, chosen.shape, protocol.batch_size)
        measured = evaluate_model(
            model,
            chosen,
            threat,
            protocol,
            classes=classes or answered,
            weights_sha256="",  # nothing is found again
            parent=Path(folder),
            workers=workers,
        )
    return Score.of(measured)


def _count_classes(model: nn.Module, points: Images) -> int:
    """How many logits the model answers with. It is foreign code, and may raise anything."""
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            logits = model.eval()(points.x[:1].to(device).float() / 255)
        told = f"{type(logits).__name__} of shape {tuple(logits.shape)}"
    except Exception as error:
        logits, told = None, f"{type(error).__name__} ({first_line(error)})"
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        size = "x".join(map(str, points.shape))
        raise UserError(f"expected a model that answers {size} images with logits (B, classes), got {told}; wrap it")
    return logits.shape[1]
