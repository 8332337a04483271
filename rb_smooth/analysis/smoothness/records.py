"""What smoothness was measured, as a file, and what it says over seeds. Reads and counts only; costs no torch."""

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
"""One network under one loss: `named` of metrics.py, by which it is known again, and under `found` its `measured`."""

LOSSES = ("standard", "L2", "Linf")


def read_records(path: Path) -> list[Record]:
    """The records in `path`. Raises UserError if there are none, or if the file is another's."""
    records = files.read_json(path)
    try:
        whole = all({"name", "method", "under", "seed", "settings"} <= each.keys() for each in records["records"])
        whole = whole and all("probes" in each["found"] for each in records["records"])
    except (TypeError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise UserError(f"expected measurements of smoothness in {path}, got other JSON; choose another --out")
    return list(records["records"])


def append_record(path: Path, record: Record, provenance: dict[str, Any]) -> None:
    """Add `record` to those in `path`, also while other processes add theirs. provenance: of where the numbers come
    from.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.parent / f".{path.name}.lock"):
        kept = read_records(path) if path.exists() else []
        files.write_json(path, {**provenance, "records": [*kept, record]})


def is_same_measurement(one: Record, other: Record) -> bool:
    """Whether two records are of the same weights under the same loss, looked at in the same way."""
    keys = ("name", "weights_sha256", "under", "threat", "settings")
    return all(json.dumps(one[key]) == json.dumps(other[key]) for key in keys)  # to which tuples are lists


def group_by_method(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """Records by (method, ball), methods in the order given, balls as `loss_name` tells them from standard to Linf."""
    methods = list(dict.fromkeys(_method(record) for record in records))

    def place(record: Record) -> tuple[int, int, float]:
        eps = record["threat"]["eps"] if record["threat"] else 0.0
        return methods.index(_method(record)), LOSSES.index(record["under"]), eps

    groups: dict[tuple[str, str], list[Record]] = {}
    for record in sorted(records, key=place):
        groups.setdefault((_method(record), loss_name(record)), []).append(record)
    return groups


def loss_name(record: Record) -> str:
    """`L2 0.8`, `Linf 8/255`, or `standard`: under which loss, of one ball among several."""
    threat = record["threat"]
    return "standard" if threat is None else f"{threat['norm']} {number_text(threat['eps'])}"


def lipschitz(record: Record, direction: str, radius: float, *, relative: bool = False) -> float:
    """Mean over the probes of that kind of ||g1 - g2|| / ||w1 - w2||; relative: times ||w|| / ||g||, without a unit."""
    found = record["found"]
    value = fmean(probe["lipschitz"] for probe in _probes(record, direction, radius))
    return value * found["weights"] / found["gradient"] if relative else value


def attack_displacement(record: Record, direction: str, radius: float) -> float:
    """Mean over the probes of that kind of how far attacks moved, as a share of the ball's diameter."""
    return fmean(probe["moved"] for probe in _probes(record, direction, radius))


def pair_by_seed(one: Sequence[Record], other: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Records of equal seeds, in the order of seeds."""
    others = {record["seed"]: record for record in other}
    ordered = sorted(one, key=lambda record: record["seed"])
    return [(record, others[record["seed"]]) for record in ordered if record["seed"] in others]


def common_radii(records: Sequence[Record]) -> list[float]:
    """The radii at which all of `records` were probed, from small to large."""
    common = set.intersection(*({probe["radius"] for probe in record["found"]["probes"]} for record in records))
    return sorted(common)


def _method(record: Record) -> str:
    """`at`, and of other weights than the best `at (last)`."""
    return record["method"] if record["which"] == "best" else f"{record['method']} ({record['which']})"


def _probes(record: Record, direction: str, radius: float) -> list[dict[str, Any]]:
    return [p for p in record["found"]["probes"] if (p["direction"], p["radius"]) == (direction, radius)]
