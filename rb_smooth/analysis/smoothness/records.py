"""Stored measurements of smoothness, and their values by method and seed. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import filelock

from rb_smooth.core import files
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import number_text

Record = dict[str, Any]
"""One network under one loss: the fields of `metrics.record_key`, and under `found` those of `smoothness_metrics`."""

LOSSES = ("standard", "L2", "Linf")


def read_records(path: Path) -> list[Record]:
    """Read the records in `path`. Raises UserError if the file is missing or another one."""
    records = files.read_json(path)
    try:
        valid = all(
            {"name", "method", "under", "seed", "settings"} <= each.keys() and "probes" in each["found"]
            for each in records["records"]
        )
    except (TypeError, KeyError, AttributeError):
        valid = False
    if not valid:
        raise UserError(f"expected measurements of smoothness in {path}, got other JSON; choose another --out")
    return list(records["records"])


def append_record(path: Path, record: Record, provenance: dict[str, Any]) -> None:
    """Append `record` to `path`, safely for concurrent processes. provenance: versions and commit of the code."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.parent / f".{path.name}.lock"):
        stored = read_records(path) if path.exists() else []
        files.write_json(path, {**provenance, "records": [*stored, record]})


def is_same_measurement(one: Record, other: Record) -> bool:
    """Whether two records have the same weights, loss and settings."""
    keys = ("name", "weights_sha256", "under", "threat", "settings")
    return all(json.dumps(one[key]) == json.dumps(other[key]) for key in keys)  # in JSON, tuples equal lists


def group_by_method(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """Records by (method, loss_name), methods in the order of `records`, losses from standard to Linf by eps."""
    methods = list(dict.fromkeys(_method(record) for record in records))

    def order(record: Record) -> tuple[int, int, float]:
        eps = record["threat"]["eps"] if record["threat"] else 0.0
        return methods.index(_method(record)), LOSSES.index(record["under"]), eps

    groups: dict[tuple[str, str], list[Record]] = {}
    for record in sorted(records, key=order):
        groups.setdefault((_method(record), loss_name(record)), []).append(record)
    return groups


def loss_name(record: Record) -> str:
    """`L2 0.8`, `Linf 8/255` or `standard`."""
    threat = record["threat"]
    return "standard" if threat is None else f"{threat['norm']} {number_text(threat['eps'])}"


def lipschitz(record: Record, direction: str, radius: float, *, relative: bool = False) -> float:
    """Mean of ||g1 - g2|| / ||w1 - w2|| over the probes of one direction and radius; relative: times ||w|| / ||g||."""
    found = record["found"]
    value = fmean(probe["lipschitz"] for probe in _probes(record, direction, radius))
    return value * found["weights"] / found["gradient"] if relative else value


def attack_displacement(record: Record, direction: str, radius: float) -> float:
    """Mean displacement of the attacks over the probes of one direction and radius, as a share of the diameter."""
    return fmean(probe["moved"] for probe in _probes(record, direction, radius))


def pair_by_seed(one: Sequence[Record], other: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Pairs of records with equal seeds, in ascending order of seeds."""
    others = {record["seed"]: record for record in other}
    ordered = sorted(one, key=lambda record: record["seed"])
    return [(record, others[record["seed"]]) for record in ordered if record["seed"] in others]


def common_radii(records: Sequence[Record]) -> list[float]:
    """The radii probed in all of `records`, ascending."""
    common = set.intersection(*({probe["radius"] for probe in record["found"]["probes"]} for record in records))
    return sorted(common)


def _method(record: Record) -> str:
    """`at`; `at (last)` for checkpoints other than the best."""
    return record["method"] if record["which"] == "best" else f"{record['method']} ({record['which']})"


def _probes(record: Record, direction: str, radius: float) -> list[dict[str, Any]]:
    return [p for p in record["found"]["probes"] if (p["direction"], p["radius"]) == (direction, radius)]
