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

from rb_smooth.core.errors import Refused

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


class Outcomes(NamedTuple):
    """One item for each point, in the order of the file. broken_by: "" where the point stood."""

    label: list[int]
    clean_prediction: list[int]
    broken_by: list[str]

    @property
    def right(self) -> list[bool]:
        """Who is classified rightly unattacked."""
        return [label == given for label, given in zip(self.label, self.clean_prediction, strict=True)]

    @property
    def stood(self) -> list[bool]:
        """Who withstood everything."""
        return [not attack for attack in self.broken_by]


def parse_outcomes(path: Path, score: dict[str, Any]) -> Outcomes:
    """What a points.csv says.

    Raises Refused, naming file and line, for a damaged file, and for one of another evaluation than the score's.
    """
    try:
        text = path.read_text(encoding="utf-8")
        header, *rows = list(csv.reader(io.StringIO(text), strict=True)) or [[]]
    except (UnicodeDecodeError, IsADirectoryError, csv.Error) as error:
        raise _damaged(path, str(error)) from None
    if header != HEADER:
        raise _damaged(path, f"the header {','.join(header)!r}")
    parsed = [_row(path, number, cells) for number, cells in enumerate(rows, start=2)]
    found = Outcomes(*map(list, zip(*parsed, strict=True))) if parsed else Outcomes([], [], [])
    if len(parsed) != score["n"]:
        raise _damaged(path, f"{len(parsed)} points, of an entry of {score['n']}")
    if abs(sum(found.stood) - score["autoattack"] * score["n"]) > 0.5:
        raise _damaged(path, f"{sum(found.stood)} points that stood, of an entry with {score['autoattack']:.2%}")
    return found


def tally(found: Outcomes) -> dict[str, int]:
    """How many points each attack broke; `clean`: how many were misclassified before any. Those that occur."""
    counted = Counter(attack for attack in found.broken_by if attack)
    return {attack: counted[attack] for attack in (CLEAN, PGD, *ATTACKS) if attack in counted}


def _row(path: Path, number: int, cells: list[str]) -> tuple[int, int, str]:
    if len(cells) != len(HEADER):
        raise _damaged(path, f"{len(cells)} cells in line {number}")
    try:
        index, label, given = map(int, cells[:3])
        numbers = index >= 0 and label >= 0 and given >= 0 and (not cells[4] or not math.isnan(float(cells[4])))
    except ValueError:
        numbers = False
    if not numbers or cells[3] not in ("", CLEAN, PGD, *ATTACKS):
        raise _damaged(path, f"{','.join(cells)!r} in line {number}")
    return label, given, cells[3]


def _damaged(path: Path, found: str) -> Refused:
    return Refused(f"expected the entry's test points in {path}, got {found}; restore it, or evaluate the entry again")


_OUTSIDE = 1e-6
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


def gathered_examples(model: nn.Module, points: Images, given: Tensor, x_adv: dict[int, Tensor]) -> Examples:
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


def verified(kept: Examples, threat: Threat) -> Check:
    """Whether every adversarial example that was kept is one: in the ball, in [0, 1], and misclassified, in float32."""
    import numpy as np

    from rb_smooth.evaluation.checks.verdicts import Check

    moved = kept.x_adv.astype(np.float64) - kept.x / 255
    pixels = (1, 2, 3)
    length = np.abs(moved).max(pixels) if threat.norm == "Linf" else np.sqrt((moved**2).sum(pixels))
    outside = (length > threat.eps + _OUTSIDE) | (np.abs(kept.x_adv - 0.5).max(pixels) > 0.5 + _OUTSIDE)
    wrong = outside | (kept.adversarial_prediction == kept.label)
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
