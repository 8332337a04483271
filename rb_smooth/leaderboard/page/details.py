"""Data for the panel of one of our entries: attacks, facts, checks, recipe, adversarial examples as PNG data URIs."""

from __future__ import annotations

import base64
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

import numpy as np

from rb_smooth.config.yaml import dump_sections
from rb_smooth.core import files
from rb_smooth.core.errors import UserError
from rb_smooth.evaluation.per_example import PerExampleResults
from rb_smooth.leaderboard.entries import Entry, read_per_example_results
from rb_smooth.leaderboard.metadata import class_name, class_names
from rb_smooth.leaderboard.page.charts import Chart, training_chart
from rb_smooth.leaderboard.reports.entry_report import AttackStep, attack_steps, facts_by_heading, loading_code
from rb_smooth.training.run_folder.log import read_log

_MAX_CLASSES = 20
"""Classes shown with a bar; of more, the least robust ones."""

MAX_PAIRS = 8
"""Pairs shown per entry."""

_MAX_IMAGE_SIZE = 64
"""Pixels of a side; of larger images every k-th pixel is taken."""

FIELDS = ("index", "label", "clean_prediction", "adversarial_prediction")

_T = TypeVar("_T")


@dataclass(frozen=True)
class ExamplePair:
    """A test image and its adversarial example, as data URIs, with label and predictions."""

    index: int
    label: str
    clean_prediction: str
    adversarial_prediction: str
    clean: str
    adversarial: str


@dataclass(frozen=True)
class ClassShare:
    """robust: the share in [0, 1] of the `n` test points of a class that no attack broke."""

    name: str
    n: int
    robust: float


@dataclass(frozen=True)
class Details:
    """Content of a panel. facts: heading -> name -> value. checks: as in the score. complaints: damaged files, and why.
    loading: empty without weights; commands: empty if there are neither weights nor a recipe.
    """

    steps: list[AttackStep]
    classes: list[ClassShare]
    facts: dict[str, dict[str, str]]
    checks: list[dict[str, str]]
    recipe: str
    loading: str
    commands: str
    warnings: list[str]
    training: Chart | None
    pairs: list[ExamplePair]
    complaints: list[str]


def read_details(entry: Entry) -> Details:
    """Details from the entry and its files."""
    complaints: list[str] = []

    def read_or_report(read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except (UserError, OSError) as error:
            complaints.append(f"left out: {error}")
            return None

    results = read_or_report(lambda: read_per_example_results(entry))
    log = read_or_report(lambda: read_log(entry.curves) if entry.curves.exists() else None) or []
    pairs = read_or_report(lambda: read_pairs(entry.examples, class_names(entry))) or []
    score, board = entry.own["score"], entry.leaderboard
    shown = replace(entry, leaderboard=Path(board.name)) if board.is_absolute() else entry  # shows no local paths
    where = f"{quote(entry.name)} --dataset {quote(entry.dataset)} --threat {quote(entry.threat)}"
    where += "" if shown.leaderboard == Path("leaderboard") else f" --leaderboard {quote(str(shown.leaderboard))}"
    has_weights = entry.weights.exists()
    commands = ["verify"] * has_weights + ["reproduce"] * (not entry.is_external)
    return Details(
        steps=attack_steps(score, results),
        classes=_class_shares(results, class_names(entry)) if results else [],
        facts=facts_by_heading(entry, log),
        checks=score.get("checks", []),
        recipe=dump_sections(entry.own["recipe"]).rstrip(),
        loading=loading_code(shown) if has_weights else "",
        commands="\n".join(f"python -m rb_smooth.leaderboard {command} {where}" for command in commands),
        warnings=score.get("warnings", []),
        training=training_chart(log, entry.name) if log else None,
        pairs=pairs,
        complaints=complaints,
    )


def _class_shares(results: PerExampleResults, names: Sequence[str]) -> list[ClassShare]:
    """In order of the labels; of more than _MAX_CLASSES, the least robust ones."""
    points = Counter(results.label)
    robust = Counter(label for label, is_robust in zip(results.label, results.is_robust, strict=True) if is_robust)
    found = [ClassShare(class_name(names, label), n, robust[label] / n) for label, n in sorted(points.items())]
    return found if len(found) <= _MAX_CLASSES else sorted(found, key=lambda each: each.robust)[:_MAX_CLASSES]


def read_pairs(path: Path, class_names: Sequence[str] = ()) -> list[ExamplePair]:
    """The first MAX_PAIRS pairs of an examples.npz; empty if there is no file. Raises UserError if it is damaged.

    class_names: of the labels 0, 1, …; labels without one are shown as numbers.
    """
    if not path.exists():
        return []
    arrays = files.read_arrays(path)
    if not _is_displayable(arrays):
        raise UserError(
            f"expected pairs of images in {path}, got arrays of other shapes or types; restore or delete it"
        )
    x, x_adv = arrays["x"][:MAX_PAIRS], arrays["x_adv"][:MAX_PAIRS]
    drawn = np.clip(np.rint(255 * x_adv.astype(np.float64)), 0, 255).astype(np.uint8)
    index, *labels = FIELDS
    names = [{field: class_name(class_names, int(arrays[field][k])) for field in labels} for k in range(len(x))]
    pictures = zip(_pngs(x), _pngs(drawn), strict=True)
    return [
        ExamplePair(index=int(arrays[index][k]), **names[k], clean=clean, adversarial=adversarial)
        for k, (clean, adversarial) in enumerate(pictures)
    ]


def _is_displayable(arrays: dict[str, Any]) -> bool:
    if not {*FIELDS, "x", "x_adv"} <= arrays.keys():
        return False
    x, x_adv, numbers = arrays["x"], arrays["x_adv"], [arrays[name] for name in FIELDS]
    same = all(array.shape == x.shape[:1] and array.dtype.kind in "iu" for array in numbers)
    kinds = x.dtype == np.uint8 and x_adv.dtype.kind == "f" and bool(np.isfinite(x_adv).all())
    return x.ndim == 4 and x.shape == x_adv.shape and x.shape[1] in (1, 3) and min(x.shape[2:]) > 0 and same and kinds


def _pngs(images: np.ndarray) -> list[str]:
    """(K, C, H, W) uint8, C 1 or 3 -> a data URI each. They are written here: PIL takes several times as long."""
    if not len(images):
        return []
    step = -(-max(images.shape[2:]) // _MAX_IMAGE_SIZE)
    pixels = images[:, :, ::step, ::step].transpose(0, 2, 3, 1)
    k, height, width, channels = pixels.shape
    lines = np.zeros((k, height, 1 + width * channels), np.uint8)
    lines[:, :, 0] = _SUB
    lines[:, :, 1:] = np.diff(pixels, axis=2, prepend=np.uint8(0)).reshape(k, height, -1)
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0))
    contents = (_SIGNATURE + header + _chunk(b"IDAT", zlib.compress(each.tobytes())) + _END for each in lines)
    return [f"data:image/png;base64,{base64.b64encode(content).decode()}" for content in contents]


def _chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


_SIGNATURE, _SUB, _COLOUR_TYPES = b"\x89PNG\r\n\x1a\n", 1, {1: 0, 3: 2}
"""Of PNG: a file's first bytes; the filter of differences from the pixel to the left; colour type by channels."""

_END = _chunk(b"IEND", b"")
