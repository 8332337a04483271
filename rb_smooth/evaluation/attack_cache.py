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
from rb_smooth.core.errors import UserError


class AttackBatch(NamedTuple):
    """One attack on one batch. batch_index: which batch of this attack; points: (B,) int64, their places, on the
    CPU.
    """

    attack: str
    batch_index: int
    points: Tensor


class BatchResult(NamedTuple):
    """What a unit found, on the CPU. robust: (B,) bool, who is still classified rightly. margin: (B,) float32, at the
    adversarial example, the right class's logit minus the highest other. seconds: of computing. warnings: AutoAttack's.
    x_adv: (K, C, H, W) float32, the adversarial examples of those that broke, as far as they were to be kept.
    """

    robust: Tensor
    margin: Tensor
    seconds: float
    warnings: list[str]
    x_adv: Tensor


class AttackCache:
    """Findings of one evaluation, one small file for each unit, in a folder of their own.

    binding: everything that a finding depends on beside its unit (weights, points, ball, seed, protocol), as plain
    values. Another binding is another folder, so that no finding ever answers for another evaluation's.
    """

    def __init__(self, parent: Path, cache_key: dict[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(cache_key, sort_keys=True).encode()).hexdigest()
        self.path = parent / f"autoattack-{digest[:12]}"
        self.cache_key = cache_key

    def open(self) -> None:
        """Make the folder, and say in it what its findings are of."""
        if not (self.path / "binding.json").exists():
            files.write_json(self.path / "binding.json", self.cache_key)

    def save(self, batch: AttackBatch, result: BatchResult) -> None:
        """Whole or not at all; nothing where the folder is not there (of several machines, one without this disk)."""
        if self.path.is_dir():
            value = {
                "points": batch.points.tolist(),
                "robust": result.robust.tolist(),
                "margin": result.margin.tolist(),
                "seconds": result.seconds,
                "warnings": result.warnings,
                "x_adv": {
                    "shape": list(result.x_adv.shape),
                    "float32": base64.b64encode(result.x_adv.numpy().astype("<f4").tobytes()).decode(),
                },
            }
            files.write_text(self._file(batch), json.dumps(value))

    def load(self, batch: AttackBatch) -> BatchResult | None:
        """What was kept of this very unit; None if nothing was, or if the file is damaged."""
        path = self._file(batch)
        if not path.exists():
            return None
        try:
            kept = files.read_json(path)
            result = BatchResult(
                torch.tensor(kept["robust"], dtype=torch.bool),
                torch.tensor(kept["margin"]),
                float(kept["seconds"]),
                [str(each) for each in kept["warnings"]],
                _decode_tensor(kept["x_adv"]),
            )
            whole = kept["points"] == batch.points.tolist() and len(result.robust) == len(result.margin) == len(
                batch.points
            )
        except (UserError, KeyError, TypeError, ValueError):
            return None
        return result if whole else None

    def _file(self, batch: AttackBatch) -> Path:
        return self.path / f"{batch.attack}-{batch.batch_index}.json"


def _decode_tensor(array: dict[str, Any]) -> Tensor:
    """Numbers that were kept as they lie in memory: as text, they would be five times as long."""
    flat = np.frombuffer(base64.b64decode(array["float32"], validate=True), "<f4")
    return torch.from_numpy(flat.astype(np.float32)).reshape(array["shape"])
