"""Per-example results: write and read points.csv, collect and verify adversarial examples.

Reading does not import torch.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rb_smooth.core.errors import UserError
from rb_smooth.core.input_files import read_text
from rb_smooth.core.robustbench import ATTACKS

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from rb_smooth.core.threat import Threat
    from rb_smooth.data.images import Images
    from rb_smooth.evaluation.autoattack import AutoAttackResult
    from rb_smooth.evaluation.checks.verdicts import Check


HEADER = ["index", "label", "clean_prediction", "broken_by", "margin"]
CLEAN, PGD = "clean", "pgd-20"
"""Values of `broken_by` beside the names of attacks: misclassified without attack; broken by PGD-20 (`quick` only)."""


class PerExampleResults(NamedTuple):
    """Columns of points.csv, one item per point in file order. broken_by: "" if no attack succeeded."""

    label: list[int]
    clean_prediction: list[int]
    broken_by: list[str]

    @property
    def is_correct(self) -> list[bool]:
        """Whether each point is classified correctly without attack."""
        return [label == prediction for label, prediction in zip(self.label, self.clean_prediction, strict=True)]

    @property
    def is_robust(self) -> list[bool]:
        """Whether no attack broke the point."""
        return [not attack for attack in self.broken_by]


def parse_points_csv(path: Path, score: dict[str, Any]) -> PerExampleResults:
    """Read points.csv.

    Raises UserError, naming file and line, for a damaged file, and for a file that contradicts `score`.
    """
    from rb_smooth.evaluation import stored

    try:
        text = read_text(path)
        header, *rows = list(csv.reader(io.StringIO(text), strict=True)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _damaged_error(path, str(error)) from None
    if header != HEADER:
        raise _damaged_error(path, f"the header {','.join(header)!r}")
    try:
        parsed = stored.POINTS.validate_python(rows)
    except ValueError as error:
        number = error.errors()[0]["loc"][0]  # type: ignore[attr-defined]
        found = (
            f"{','.join(rows[number])[:100]!r}" if len(rows[number]) == len(HEADER) else f"{len(rows[number])} cells"
        )
        raise _damaged_error(path, f"{found} in line {number + 2}") from None
    results = PerExampleResults(*([row[column] for row in parsed] for column in (1, 2, 3)))
    if len(parsed) != score["n"]:
        raise _damaged_error(path, f"{len(parsed)} points, of an entry of {score['n']}")
    if abs((robust := sum(results.is_robust)) - score["autoattack"] * score["n"]) > 0.5:
        raise _damaged_error(path, f"{robust} robust points, of an entry with {score['autoattack']:.2%}")
    return results


def counts_by_attack(results: PerExampleResults) -> dict[str, int]:
    """Count the points that each attack broke; `clean`: misclassified without attack. Zero counts are left out."""
    counted = Counter(attack for attack in results.broken_by if attack)
    return {attack: counted[attack] for attack in (CLEAN, PGD, *ATTACKS) if attack in counted}


def _damaged_error(path: Path, problem: str) -> UserError:
    return UserError(
        f"expected the entry's test points in {path}, got {problem}; restore it, or evaluate the entry again"
    )


_BALL_TOLERANCE = 1e-6
"""Tolerance of the ball and of [0, 1] for float32 rounding."""


@dataclass(frozen=True)
class Examples:
    """Adversarial examples of K test points.

    index, label, predictions: (K,) int64. x: (K, C, H, W) uint8. x_adv: (K, C, H, W) float32 in [0, 1].
    """

    index: np.ndarray
    label: np.ndarray
    clean_prediction: np.ndarray
    adversarial_prediction: np.ndarray
    x: np.ndarray
    x_adv: np.ndarray


def collect_examples(model: nn.Module, points: Images, predictions: Tensor, x_adv: dict[int, Tensor]) -> Examples:
    """Collect the adversarial examples `x_adv` (by point index) and classify them again as stored.

    predictions: (N,) int64, the clean predictions of all points.
    """
    import torch

    from rb_smooth.core.determinism import full_float32

    index = torch.tensor(sorted(x_adv), dtype=torch.int64)
    clean = points[index]
    adversarial = torch.stack([x_adv[i] for i in index.tolist()]) if x_adv else torch.zeros(0, *points.shape)
    device = next(model.parameters()).device
    with torch.no_grad(), full_float32():
        parts = [model(part.to(device)).argmax(1).cpu() for part in adversarial.split(500) if len(part)]
    adversarial_predictions = torch.cat([torch.zeros(0, dtype=torch.int64), *parts])
    arrays = (index, clean.y, predictions.cpu()[index], adversarial_predictions, clean.x, adversarial)
    return Examples(*(array.cpu().numpy() for array in arrays))


def is_outside_ball(x_adv: np.ndarray, x: np.ndarray, threat: Threat) -> np.ndarray:
    """Return (K,) bool: whether x_adv (K, C, H, W) is farther than eps from x or outside [0, 1], in float64."""
    import numpy as np

    delta, pixels = x_adv.astype(np.float64) - x, (1, 2, 3)
    distance = np.abs(delta).max(pixels) if threat.norm == "Linf" else np.sqrt((delta**2).sum(pixels))
    outside: np.ndarray = (distance > threat.eps + _BALL_TOLERANCE) | (
        np.abs(x_adv - 0.5).max(pixels) > 0.5 + _BALL_TOLERANCE
    )
    return outside


def verify_examples(examples: Examples, threat: Threat) -> Check:
    """Check that every stored adversarial example is in the ball, in [0, 1], and misclassified, in float32."""
    from rb_smooth.evaluation.checks.verdicts import Check

    outside = is_outside_ball(examples.x_adv, examples.x / 255, threat)
    wrong = outside | (examples.adversarial_prediction == examples.label)
    found = f"{len(wrong) - wrong.sum()} of {len(wrong)} kept are in the ball, in [0, 1] and misclassified"
    verdict = "skipped" if not len(wrong) else "unreliable" if wrong.any() else "passed"
    return Check("adversarial examples", verdict, found)  # type: ignore[arg-type]


def points_csv(points: Images, predictions: Tensor, result: AutoAttackResult, version: str) -> str:
    """Format points.csv, one row per point: clean prediction, the attack that broke it, and the margin.

    predictions: (N,) int64, without attack.
    """
    from rb_smooth.evaluation.autoattack import VERSIONS

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    columns = (points.y, predictions, result.robust, result.broken_by, result.margin)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for index, (label, prediction, robust, attack, margin) in enumerate(rows):
        before_autoattack = PGD if version != "standard" and prediction == label else CLEAN
        broken_by = "" if robust else VERSIONS[version][attack] if attack >= 0 else before_autoattack
        writer.writerow((index, label, prediction, broken_by, "" if math.isnan(margin) else f"{margin:.6g}"))
    return text.getvalue()
