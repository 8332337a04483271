"""The units of an AutoAttack evaluation: one attack on one batch. What each found is kept until it is asked for again.

A unit's result depends on nothing but the unit: each call of an attack reseeds. So units can be carried out in any
order, by any process, and on different days.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rb_smooth.core import files
from rb_smooth.core.errors import Refused


class Unit(NamedTuple):
    """One attack on one batch. number: which batch of this attack; points: (B,) int64, their places, on the CPU."""

    attack: str
    number: int
    points: Tensor


class Finding(NamedTuple):
    """What a unit found, on the CPU. robust: (B,) bool, who is still classified rightly. margin: (B,) float32, at the
    adversarial example, the right class's logit minus the highest other. seconds: of computing. warnings: AutoAttack's.
    x_adv: (K, C, H, W) float32, the adversarial examples of those that broke, as far as they were to be kept.
    """

    robust: Tensor
    margin: Tensor
    seconds: float
    warnings: list[str]
    x_adv: Tensor


class UnitStore:
    """Findings of one evaluation, one small file for each unit, in a folder of their own.

    binding: everything that a finding depends on beside its unit (weights, points, ball, seed, protocol), as plain
    values. Another binding is another folder, so that no finding ever answers for another evaluation's.
    """

    def __init__(self, parent: Path, binding: dict[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(binding, sort_keys=True).encode()).hexdigest()
        self.path = parent / f"autoattack-{digest[:12]}"
        self.binding = binding

    def open(self) -> None:
        """Make the folder, and say in it what its findings are of."""
        if not (self.path / "binding.json").exists():
            files.write_json(self.path / "binding.json", self.binding)

    def keep(self, unit: Unit, finding: Finding) -> None:
        """Whole or not at all; nothing where the folder is not there (of several machines, one without this disk)."""
        if self.path.is_dir():
            value = {
                "points": unit.points.tolist(),
                "robust": finding.robust.tolist(),
                "margin": finding.margin.tolist(),
                "seconds": finding.seconds,
                "warnings": finding.warnings,
                "x_adv": {
                    "shape": list(finding.x_adv.shape),
                    "float32": base64.b64encode(finding.x_adv.numpy().astype("<f4").tobytes()).decode(),
                },
            }
            files.write_text(self._file(unit), json.dumps(value))

    def find(self, unit: Unit) -> Finding | None:
        """What was kept of this very unit; None if nothing was, or if the file is damaged."""
        path = self._file(unit)
        if not path.exists():
            return None
        try:
            kept = files.read_json(path)
            finding = Finding(
                torch.tensor(kept["robust"], dtype=torch.bool),
                torch.tensor(kept["margin"]),
                float(kept["seconds"]),
                [str(each) for each in kept["warnings"]],
                _tensor(kept["x_adv"]),
            )
            whole = kept["points"] == unit.points.tolist() and len(finding.robust) == len(finding.margin) == len(
                unit.points
            )
        except (Refused, KeyError, TypeError, ValueError):
            return None
        return finding if whole else None

    def _file(self, unit: Unit) -> Path:
        return self.path / f"{unit.attack}-{unit.number}.json"


def _tensor(kept: dict[str, Any]) -> Tensor:
    """Numbers that were kept as they lie in memory: as text, they would be five times as long."""
    flat = np.frombuffer(base64.b64decode(kept["float32"], validate=True), "<f4")
    return torch.from_numpy(flat.astype(np.float32)).reshape(kept["shape"])
