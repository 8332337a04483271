"""Data for the panel of one of our entries: attacks, facts, checks, recipe, adversarial examples as PNG data URIs."""

from __future__ import annotations

import base64
import io
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

    crowded_out: whether images and curves are left out for lack of room.
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
    crowded_out: bool = False

    @property
    def size(self) -> int:
        """Characters of images and curves."""
        paths = [path for *_, path in self.training.curves] if self.training else []
        return sum(map(len, paths)) + sum(len(pair.clean) + len(pair.adversarial) for pair in self.pairs)


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
    return [
        ExamplePair(index=int(arrays[index][k]), **names[k], clean=_png(x[k]), adversarial=_png(drawn[k]))
        for k in range(len(x))
    ]


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
