"""Models measured from Python: any torch module on any points, and entries of a board by another protocol."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rb_smooth.assessment import assess
from rb_smooth.batchnorm import modes_kept
from rb_smooth.contracts import Threat
from rb_smooth.declaration import protocol, source_of
from rb_smooth.entries import Entry
from rb_smooth.images import AnyImages, Images
from rb_smooth.networks import choose_threads
from rb_smooth.refusal import Refused
from rb_smooth.scores import Score
from rb_smooth.zoo import load_entry

Points = str | Mapping[str, Any] | tuple[Any, Any]
"""A data set by its name, a recipe's `data:` section such as {"name": "folder", "root": …}, or (x, y)."""

_GREY_LEVELS = 1e-3
"""Of how many of 255 levels a pixel may miss a whole one, for rounding in float32."""


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


def measured_entry(
    entry: Entry, changes: Mapping[str, Any], data_dir: Path, device: torch.device, workers: int
) -> Score:
    """The entry's score as it stands if it was measured so; else by the changed protocol, from its stored weights.

    What is found is kept in <leaderboard>/.evaluations, so that the same call goes on where it was stopped.
    """
    score = entry.own["score"]
    own = {key: score[key] for key in ("version", "seed", "batch_size")} | {"n_examples": score["n"]} | score["threat"]
    if all(own.get(key, changes[key]) == changes[key] for key in changes):
        return Score.of(score)
    if "eps" in changes:
        own["step_size"] = changes["eps"] / 4
    elif changes.get("norm", own["norm"]) != own["norm"]:
        raise Refused(f"expected eps with norm {changes['norm']}, got none: {entry.name}'s is of another; say both")
    asked = protocol({**own, **changes})
    points = source_of(entry.own["recipe"]["data"], data_dir).test[: asked.n_examples].loaded()
    model, sha256 = load_entry(entry), str(entry.own["weights_sha256"])
    choose_threads(model, points.shape, asked.batch_size)
    measured = assess(
        model.to(device),
        points,
        Threat(asked.norm, asked.eps, asked.step_size),  # type: ignore[arg-type]
        asked,
        classes=entry.own["model"]["classes"],
        weights_sha256=sha256,
        parent=entry.leaderboard / ".evaluations" / sha256[:16],
        workers=workers,
    )
    return Score.of(measured)


def as_images(x: Any, y: Any) -> Images:
    """x: (N, C, H, W), uint8 or in [0, 1]; y: (N,), whole numbers; tensors or arrays. Raises Refused for anything else.

    Pixels must be whole grey levels, k/255: points are known again by them, and an attack starts from them.
    """
    try:
        x, y = torch.as_tensor(x).cpu(), torch.as_tensor(y).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise Refused(f"expected points (x, y) as tensors, got {str(error).splitlines()[0]}; correct them") from None
    if x.ndim != 4 or y.ndim != 1 or not len(x) == len(y) > 0 or y.is_floating_point():
        raise Refused(
            f"expected x (N, C, H, W) and whole y (N,), N > 0, got {tuple(x.shape)} and {tuple(y.shape)} of {y.dtype}; "
            "correct them"
        )
    if x.dtype != torch.uint8:
        levels = x.double() * 255
        x = levels.round().clamp(0, 255)
        if not (x - levels).abs().le(_GREY_LEVELS).all():
            raise Refused(
                "expected pixels that are k/255, k from 0 to 255, got others; bring (255 * x).round().byte(), and give "
                "the model what it wants inside (Normalized)"
            )
    return Images(x.byte(), y.long())


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
