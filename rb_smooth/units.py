"""The units of an AutoAttack evaluation: one attack on one batch. What each found is kept until it is asked for again.

A unit's result depends on nothing but the unit: each call of an attack reseeds. So units can be carried out in any
order, by any process, and on different days.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rb_smooth import files
from rb_smooth.refusal import Refused


class Unit(NamedTuple):
    """One attack on one batch. number: which batch of this attack; points: (B,) int64, their places, on the CPU."""

    attack: str
    number: int
    points: Tensor


class Finding(NamedTuple):
    """What a unit found, on the CPU. robust: (B,) bool, who is still classified rightly. margin: (B,) float32, at the
    adversarial example, the right class's logit minus the highest other. seconds: of computing. warnings: AutoAttack's.
    """

    robust: Tensor
    margin: Tensor
    seconds: float
    warnings: list[str]


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
            )
            whole = kept["points"] == unit.points.tolist() and len(finding.robust) == len(finding.margin) == len(
                unit.points
            )
        except (Refused, KeyError, TypeError, ValueError):
            return None
        return finding if whole else None

    def _file(self, unit: Unit) -> Path:
        return self.path / f"{unit.attack}-{unit.number}.json"
