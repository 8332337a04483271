"""What an evaluation leaves of single points: points.csv, written and read back, and adversarial examples.

Reading costs no torch.
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

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from rb_smooth.core.threat import Threat
    from rb_smooth.data.images import Images
    from rb_smooth.evaluation.autoattack import AutoAttackResult
    from rb_smooth.evaluation.checks.verdicts import Check


HEADER = ["index", "label", "clean_prediction", "broken_by", "margin"]
CLEAN, PGD = "clean", "pgd-20"
"""What `broken_by` says beside AutoAttack's own names: misclassified unattacked, broken by the PGD of the selection."""

ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")


class PerExampleResults(NamedTuple):
    """One item for each point, in the order of the file. broken_by: "" where the point stood."""

    label: list[int]
    clean_prediction: list[int]
    broken_by: list[str]

    @property
    def is_correct(self) -> list[bool]:
        """Who is classified rightly unattacked."""
        return [label == given for label, given in zip(self.label, self.clean_prediction, strict=True)]

    @property
    def is_robust(self) -> list[bool]:
        """Who withstood everything."""
        return [not attack for attack in self.broken_by]


def parse_points_csv(path: Path, score: dict[str, Any]) -> PerExampleResults:
    """What a points.csv says.

    Raises UserError, naming file and line, for a damaged file, and for one of another evaluation than the score's.
    """
    try:
        text = path.read_text(encoding="utf-8")
        header, *rows = list(csv.reader(io.StringIO(text), strict=True)) or [[]]
    except (UnicodeDecodeError, IsADirectoryError, csv.Error) as error:
        raise _damaged_error(path, str(error)) from None
    if header != HEADER:
        raise _damaged_error(path, f"the header {','.join(header)!r}")
    parsed = [_parse_row(path, number, cells) for number, cells in enumerate(rows, start=2)]
    found = PerExampleResults(*map(list, zip(*parsed, strict=True))) if parsed else PerExampleResults([], [], [])
    if len(parsed) != score["n"]:
        raise _damaged_error(path, f"{len(parsed)} points, of an entry of {score['n']}")
    if abs(sum(found.is_robust) - score["autoattack"] * score["n"]) > 0.5:
        raise _damaged_error(
            path, f"{sum(found.is_robust)} points that stood, of an entry with {score['autoattack']:.2%}"
        )
    return found


def counts_by_attack(results: PerExampleResults) -> dict[str, int]:
    """How many points each attack broke; `clean`: how many were misclassified before any. Those that occur."""
    counted = Counter(attack for attack in results.broken_by if attack)
    return {attack: counted[attack] for attack in (CLEAN, PGD, *ATTACKS) if attack in counted}


def _parse_row(path: Path, number: int, cells: list[str]) -> tuple[int, int, str]:
    if len(cells) != len(HEADER):
        raise _damaged_error(path, f"{len(cells)} cells in line {number}")
    try:
        index, label, given = map(int, cells[:3])
        numbers = index >= 0 and label >= 0 and given >= 0 and (not cells[4] or not math.isnan(float(cells[4])))
    except ValueError:
        numbers = False
    if not numbers or cells[3] not in ("", CLEAN, PGD, *ATTACKS):
        raise _damaged_error(path, f"{','.join(cells)!r} in line {number}")
    return label, given, cells[3]


def _damaged_error(path: Path, problem: str) -> UserError:
    return UserError(
        f"expected the entry's test points in {path}, got {problem}; restore it, or evaluate the entry again"
    )


_BALL_TOLERANCE = 1e-6
"""What float32 may add to eps, and to [0, 1], before an adversarial example counts as outside."""


@dataclass(frozen=True)
class Examples:
    """Test points that an attack broke: index, label and predictions (K,) int64, x
    (K, C, H, W) uint8, x_adv (K, C, H, W) float32 in [0, 1].
    """

    index: np.ndarray
    label: np.ndarray
    clean_prediction: np.ndarray
    adversarial_prediction: np.ndarray
    x: np.ndarray
    x_adv: np.ndarray


def collect_examples(model: nn.Module, points: Images, given: Tensor, x_adv: dict[int, Tensor]) -> Examples:
    """Those of the kept points that the model gets wrong under attack, predicted anew from what is kept."""
    import torch

    from rb_smooth.core.determinism import full_float32

    index = torch.tensor(sorted(x_adv), dtype=torch.int64)
    chosen = points[index]
    adversarial = torch.stack([x_adv[i] for i in index.tolist()]) if x_adv else torch.zeros(0, *points.shape)
    device = next(model.parameters()).device
    with torch.no_grad(), full_float32():
        parts = [model(part.to(device)).argmax(1).cpu() for part in adversarial.split(500) if len(part)]
    predicted = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)
    arrays = (index, chosen.y, given.cpu()[index], predicted, chosen.x, adversarial)
    return Examples(*(array.cpu().numpy() for array in arrays))


def verify_examples(examples: Examples, threat: Threat) -> Check:
    """Whether every adversarial example that was kept is one: in the ball, in [0, 1], and misclassified, in float32."""
    import numpy as np

    from rb_smooth.evaluation.checks.verdicts import Check

    moved = examples.x_adv.astype(np.float64) - examples.x / 255
    pixels = (1, 2, 3)
    length = np.abs(moved).max(pixels) if threat.norm == "Linf" else np.sqrt((moved**2).sum(pixels))
    outside = (length > threat.eps + _BALL_TOLERANCE) | (
        np.abs(examples.x_adv - 0.5).max(pixels) > 0.5 + _BALL_TOLERANCE
    )
    wrong = outside | (examples.adversarial_prediction == examples.label)
    found = f"{len(wrong) - wrong.sum()} of {len(wrong)} kept are in the ball, in [0, 1] and misclassified"
    verdict = "skipped" if not len(wrong) else "unreliable" if wrong.any() else "passed"
    return Check("adversarial examples", verdict, found)  # type: ignore[arg-type]


def points_csv(points: Images, given: Tensor, result: AutoAttackResult, version: str) -> str:
    """One row for each point: what it was taken for, what broke it, and by how much it stood or fell."""
    from rb_smooth.evaluation.autoattack import VERSIONS

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("index", "label", "clean_prediction", "broken_by", "margin"))
    columns = (points.y, given, result.robust, result.broken_by, result.margin)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for index, (label, prediction, robust, place, margin) in enumerate(rows):
        unattacked = "pgd-20" if version != "standard" and prediction == label else "clean"
        broken_by = "" if robust else VERSIONS[version][place] if place >= 0 else unattacked
        writer.writerow((index, label, prediction, broken_by, "" if math.isnan(margin) else f"{margin:.6g}"))
    return text.getvalue()
