"""What RobustBench's new-model issue asks for, of one entry, filled in: a folder to attach or to send.

    <Name>/README.md  issue.md  registry.py  evaluation.log  recipe.yaml  points.csv  SHA256SUMS
    <Name>/model_info/<dataset>/<threat>/<Name>.json      RobustBench's own fields, without our block
    <Name>/models/<dataset>/<threat>/<Name>.pt            the weights, where RobustBench's load_model looks for them

The issue also says what is not true of RobustBench's rules. Nothing here is sent anywhere, and it costs no torch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from rb_smooth import files
from rb_smooth.board import letters
from rb_smooth.board.blueprint import architecture_source
from rb_smooth.board.neighbours import architecture_title
from rb_smooth.entries import Entry, check_name
from rb_smooth.notation import dump
from rb_smooth.refusal import Refused

_SUMS = "SHA256SUMS"


def pack(entry: Entry, out: Path) -> Path:
    """Make <out>/<Name>/, whole or not at all; a bundle that is there is replaced.

    Raises Refused if weights are missing or are not those that were measured, if points.csv is damaged, and if another
    thing lies where the bundle would.
    """
    for name in (entry.dataset, entry.threat, entry.name):  # they become paths, and words of registry.py
        check_name(name)
    target = out / entry.name
    entry.measured_weights()
    if target.exists() and not (target / _SUMS).exists():
        raise Refused(f"expected {target} to be free or a bundle, got something else; move it away, or say --out")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{entry.name}.") as temporary:
        folder = Path(temporary) / "new"
        _fill(entry, folder)
        if target.exists():
            target.rename(Path(temporary) / "old")
        folder.rename(target)
    return target


def curated(entry: Entry) -> dict[str, object]:
    """The entry's JSON in RobustBench's form: without our block, without empty values, architecture in its spelling."""
    kept = {key: value for key, value in entry.info.items() if key != "rb_smooth" and value is not None}
    return kept | {"architecture": architecture_title(entry)}


def _fill(entry: Entry, folder: Path) -> None:
    place = Path(entry.dataset) / entry.threat
    weights = folder / "models" / place / f"{entry.name}.pt"
    texts = {
        "README.md": letters.readme(entry),
        "issue.md": letters.issue(entry),
        "registry.py": letters.registry_module(entry, architecture_source(entry.own["model"])),
        "evaluation.log": letters.evaluation_log(entry),
        "recipe.yaml": dump(entry.own["recipe"]),
    }
    for name, text in texts.items():
        files.write_text(folder / name, text)
    files.write_json(folder / "model_info" / place / f"{entry.name}.json", curated(entry))
    _link(entry.weights, weights)
    if entry.points.exists():
        _link(entry.points, folder / "points.csv")
    listed = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{files.sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in listed)
    files.write_text(folder / _SUMS, sums)


def _link(source: Path, target: Path) -> None:
    """The same file under a second name, which costs no space; a copy where disks do not allow it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)
