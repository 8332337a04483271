"""What an evaluation leaves of single points: points.csv, and adversarial examples that were looked at once more."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rb_smooth.contracts import Threat
from rb_smooth.exactness import full_float32
from rb_smooth.images import Images
from rb_smooth.protocols import VERSIONS, AutoAttackResult
from rb_smooth.trust import Check

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
