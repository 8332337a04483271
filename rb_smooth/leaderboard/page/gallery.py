"""An entry's adversarial examples as PNG data URIs, pixel for pixel."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rb_smooth.core import files
from rb_smooth.core.errors import UserError

MAX_PAIRS = 8
"""Pairs shown per entry."""

_MAX_IMAGE_SIZE = 64
"""Pixels of a side; of larger images every k-th pixel is taken."""

FIELDS = ("index", "label", "clean_prediction", "adversarial_prediction")


@dataclass(frozen=True)
class ExamplePair:
    """A test image and its adversarial example, as data URIs, with label and predictions."""

    index: int
    label: int
    clean_prediction: int
    adversarial_prediction: int
    clean: str
    adversarial: str


def read_pairs(path: Path) -> list[ExamplePair]:
    """The first MAX_PAIRS pairs of an examples.npz; empty if there is no file. Raises UserError if it is damaged."""
    if not path.exists():
        return []
    arrays = files.read_arrays(path)
    if not _is_displayable(arrays):
        raise UserError(
            f"expected pairs of images in {path}, got arrays of other shapes or types; restore or delete it"
        )
    x, x_adv = arrays["x"][:MAX_PAIRS], arrays["x_adv"][:MAX_PAIRS]
    drawn = np.clip(np.rint(255 * x_adv.astype(np.float64)), 0, 255).astype(np.uint8)
    numbers = [{name: int(arrays[name][k]) for name in FIELDS} for k in range(len(x))]
    return [ExamplePair(**numbers[k], clean=_png(x[k]), adversarial=_png(drawn[k])) for k in range(len(x))]


def _is_displayable(arrays: dict[str, Any]) -> bool:
    if not {*FIELDS, "x", "x_adv"} <= arrays.keys():
        return False
    x, x_adv, numbers = arrays["x"], arrays["x_adv"], [arrays[name] for name in FIELDS]
    same = all(array.shape == x.shape[:1] and array.dtype.kind in "iu" for array in numbers)
    kinds = x.dtype == np.uint8 and x_adv.dtype.kind == "f" and bool(np.isfinite(x_adv).all())
    return x.ndim == 4 and x.shape == x_adv.shape and x.shape[1] in (1, 3) and min(x.shape[2:]) > 0 and same and kinds


def _png(image: np.ndarray) -> str:
    """(C, H, W) uint8, C 1 or 3 -> a data URI."""
    from PIL import Image

    step = -(-max(image.shape[1:]) // _MAX_IMAGE_SIZE)
    pixels = np.ascontiguousarray(image[:, ::step, ::step].transpose(1, 2, 0))
    picture = Image.fromarray(pixels[:, :, 0] if len(image) == 1 else pixels)
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
