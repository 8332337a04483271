"""On-disk cache of AutoAttack results, one file per attack and batch.

Every attack call reseeds, so the result of one attack on one batch depends on nothing else: batches can run in any
order, in any process, and in several sessions.
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
    """One attack on one batch.

    batch_index: number of the batch within this attack. points: (B,) int64 indices of test points, on the CPU.
    """

    attack: str
    batch_index: int
    points: Tensor


class BatchResult(NamedTuple):
    """Result of one attack on one batch; tensors are on the CPU.

    robust: (B,) bool, still classified correctly. margin: (B,) float32, logit of the correct class minus the largest
    other logit at the adversarial example. seconds: computing time. warnings: AutoAttack's. x_adv: (K, C, H, W)
    float32 adversarial examples of the broken points among those to save.
    """

    robust: Tensor
    margin: Tensor
    seconds: float
    warnings: list[str]
    x_adv: Tensor


class AttackCache:
    """Batch results of one evaluation, in a folder of its own, one file per attack and batch.

    cache_key: everything else that results depend on (weights, points, threat, seed, protocol), as JSON values.
    Its hash names the folder, so different evaluations never share results.
    """

    def __init__(self, parent: Path, cache_key: dict[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(cache_key, sort_keys=True).encode()).hexdigest()
        self.path = parent / f"autoattack-{digest[:12]}"
        self.cache_key = cache_key

    def open(self) -> None:
        """Create the folder and write the key to binding.json."""
        if not (self.path / "binding.json").exists():
            files.write_json(self.path / "binding.json", self.cache_key)

    def save(self, batch: AttackBatch, result: BatchResult) -> None:
        """Write one result atomically. Do nothing if the folder is missing, as on a machine without the shared disk."""
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
        """Return the saved result of exactly this batch; None if absent or damaged."""
        path = self._file(batch)
        if not path.exists():
            return None
        try:
            saved = files.read_json(path)
            result = BatchResult(
                torch.tensor(saved["robust"], dtype=torch.bool),
                torch.tensor(saved["margin"]),
                float(saved["seconds"]),
                [str(each) for each in saved["warnings"]],
                _decode_tensor(saved["x_adv"]),
            )
            sizes = {len(result.robust), len(result.margin), len(batch.points)}
            matches = saved["points"] == batch.points.tolist() and len(sizes) == 1
        except (UserError, KeyError, TypeError, ValueError):
            return None
        return result if matches else None

    def _file(self, batch: AttackBatch) -> Path:
        return self.path / f"{batch.attack}-{batch.batch_index}.json"


def _decode_tensor(array: dict[str, Any]) -> Tensor:
    """Decode base64 float32 values, a fifth of the size of decimal text."""
    flat = np.frombuffer(base64.b64decode(array["float32"], validate=True), "<f4")
    return torch.from_numpy(flat.astype(np.float32)).reshape(array["shape"])
