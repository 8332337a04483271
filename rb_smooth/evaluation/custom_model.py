"""Evaluate any model on any test points: torch modules and callables; data sets, loaders and arrays."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from rb_smooth.components.batchnorm import preserve_modes
from rb_smooth.components.flops import choose_threads
from rb_smooth.config.schema import load_raw_dataset, parse_protocol
from rb_smooth.core.errors import UserError, first_line
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import AnyImages, Images, as_images
from rb_smooth.evaluation.evaluator import evaluate_model
from rb_smooth.evaluation.score import Score

Points = str | Mapping[str, Any] | tuple[Any, Any] | Iterable[Any]
"""A data set's name, a recipe's `data:` section such as {"name": "folder", "root": …}, (x, y), a DataLoader, a Dataset,
or a list of pairs (image, label).
"""

Model = nn.Module | Callable[[Tensor], Tensor]
"""A torch module, a TorchScript module, or any function: images (B, C, H, W) in [0, 1] -> logits (B, classes)."""


class CallableModel(nn.Module):
    """Any function from images to logits as a module on `device`, with the mode of a module inside it.

    function: also a TorchScript module; it is no submodule, since it has neither hooks nor plain parameters.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], device: torch.device) -> None:
        super().__init__()
        self._hidden = (function,)
        self.placement = nn.Parameter(torch.zeros(1, device=device))

    def forward(self, x: Tensor) -> Tensor:
        return self._hidden[0](x)

    def train(self, mode: bool = True) -> CallableModel:
        if isinstance(self._hidden[0], nn.Module):
            self._hidden[0].train(mode)
        return super().train(mode)


def as_module(model: Model, device: torch.device | None = None) -> nn.Module:
    """Return `model` as a module with a device: its parameters', or `device` (default: the CPU) if it has none."""
    if not callable(model):
        raise UserError(f"expected a torch module or a function of images, got {type(model).__name__}; pass the model")
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    if isinstance(model, nn.Module) and not isinstance(model, torch.jit.ScriptModule) and list(model.parameters()):
        return model
    return CallableModel(model, tensors[0].device if tensors else device or torch.device("cpu"))


def load_points(points: Points, data_dir: Path) -> tuple[AnyImages, int | None]:
    """Return test points and the number of classes; None if only the labels are known.

    Raises UserError for anything that `Points` does not name, and for pixels that are not multiples of 1/255.
    """
    if isinstance(points, (str, Mapping)):
        source = load_raw_dataset({"name": points} if isinstance(points, str) else points, data_dir)
        return source.test, len(source.classes)
    if isinstance(points, tuple) and len(points) == 2:
        return as_images(*points), None
    if not isinstance(points, (DataLoader, Dataset, list)):
        raise UserError(
            f"expected points as a data set's name, (x, y), a DataLoader, a Dataset or a list of pairs, got "
            f"{type(points).__name__}; pass one of these"
        )
    pairs: Any = points if not isinstance(points, Dataset) else (points[i] for i in range(len(points)))
    try:
        images, labels = zip(*((x, y) for x, y, *_ in pairs), strict=True)
        if isinstance(points, DataLoader):
            return as_images(torch.cat([*images]), torch.cat([torch.as_tensor(label) for label in labels])), None
        return as_images(torch.stack([_as_image(image) for image in images]), [int(label) for label in labels]), None
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"expected {type(points).__name__} to give images of one size with labels, got {first_line(error)}; "
            "pass (x, y)"
        ) from None


def _as_image(image: Any) -> Tensor:
    """Convert a tensor (C, H, W), or a Pillow image."""
    if isinstance(image, Tensor):
        return image
    pixels = np.array(image)
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def evaluate_module(model: Model, points: Points, changes: Mapping[str, Any], data_dir: Path, workers: int) -> Score:
    """Evaluate `model` on its own device: images (B, C, H, W) in [0, 1] -> logits (B, classes).

    changes: keys of a recipe's `evaluate:` section; eps is required. Nothing is stored; the model's modes are restored.
    Raises UserError for invalid points or threats, and for a model that fails the trust checks.
    """
    model = as_module(model)
    if "eps" not in changes:
        raise UserError("expected eps, the radius of the ball where pixels are in [0, 1], got none; say eps=8/255")
    images, classes = load_points(points, data_dir)
    if classes is None:
        changes = {"n_examples": len(images), **changes}
    protocol = parse_protocol(changes)
    assert protocol.eps is not None
    threat = Threat(protocol.norm or "Linf", protocol.eps, protocol.step_size or protocol.eps / 4)
    selected = images[: protocol.n_examples].load()
    with preserve_modes(model), tempfile.TemporaryDirectory(prefix="evaluation-") as folder:
        n_logits = count_logits(model, selected)
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


def count_logits(model: nn.Module, points: Images) -> int:
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
