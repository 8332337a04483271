"""Models measured from Python: any torch module on any points, and entries of a board by another protocol."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rb_smooth.components.batchnorm import modes_kept
from rb_smooth.components.flops import choose_threads
from rb_smooth.config.schema import protocol, source_of
from rb_smooth.core.errors import Refused
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import AnyImages, Images, as_images
from rb_smooth.evaluation.evaluator import assess
from rb_smooth.evaluation.score import Score

Points = str | Mapping[str, Any] | tuple[Any, Any]
"""A data set by its name, a recipe's `data:` section such as {"name": "folder", "root": …}, or (x, y)."""


def measured_module(
    model: nn.Module, points: Points, changes: Mapping[str, Any], data_dir: Path, workers: int
) -> Score:
    """`model` where it is, images (B, C, H, W) in [0, 1] -> logits (B, classes), left in the modes in which it came.

    changes: keys of a recipe's `evaluate:`, of which eps is needed. Raises Refused for points, a ball or a model that
    cannot be measured. Nothing is kept.
    """
    if not list(model.parameters()):
        raise Refused("expected a module with parameters, got one without; its device could not be told")
    if "eps" not in changes:
        raise Refused("expected eps, the radius of the ball where pixels are in [0, 1], got none; say eps=8/255")
    images: AnyImages
    if isinstance(points, tuple):
        images, classes = as_images(*points), None
        changes = {"n_examples": len(images), **changes}
    else:
        source = source_of({"name": points} if isinstance(points, str) else points, data_dir)
        images, classes = source.test, len(source.classes)
    asked = protocol(changes)
    assert asked.eps is not None
    threat = Threat(asked.norm or "Linf", asked.eps, asked.step_size or asked.eps / 4)
    chosen = images[: asked.n_examples].loaded()
    with modes_kept(model), tempfile.TemporaryDirectory(prefix="evaluation-") as folder:
        answered = _classes(model, chosen)
        choose_threads(model, chosen.shape, asked.batch_size)
        measured = assess(
            model,
            chosen,
            threat,
            asked,
            classes=classes or answered,
            weights_sha256="",  # nothing is found again
            parent=Path(folder),
            workers=workers,
        )
    return Score.of(measured)


def _classes(model: nn.Module, points: Images) -> int:
    """How many logits the model answers with. It is foreign code, and may raise anything."""
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            logits = model.eval()(points.x[:1].to(device).float() / 255)
        told = f"{type(logits).__name__} of shape {tuple(logits.shape)}"
    except Exception as error:
        logits, told = None, f"{type(error).__name__} ({str(error).splitlines()[0] if str(error) else 'no message'})"
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        size = "x".join(map(str, points.shape))
        raise Refused(f"expected a model that answers {size} images with logits (B, classes), got {told}; wrap it")
    return logits.shape[1]
