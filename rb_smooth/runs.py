"""A run is a folder: recipe.yaml (resolved), log.csv, resume.pt, best.pt, last.pt, score.json. It may be moved."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from rb_smooth import cookbook, files, notation
from rb_smooth.refusal import Refused


@dataclass(frozen=True)
class Run:
    """One run folder. Reading its state costs no torch."""

    path: Path

    @property
    def is_trained(self) -> bool:
        return (self.path / "last.pt").exists()  # written last

    @property
    def score(self) -> dict[str, Any] | None:
        """The evaluation's result, once there is one."""
        path = self.path / "score.json"
        return files.read_json(path) if path.exists() else None

    @property
    def identity(self) -> str:
        """A name of this run that survives moving it, by which its entry in a leaderboard is its own."""
        return str(self.header["run"])

    @property
    def header(self) -> cookbook.Sections:
        return notation.parse((self.path / "recipe.yaml").read_text(encoding="utf-8"), str(self.path / "recipe.yaml"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Held while a process works here; a second one is refused at once."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise Refused(
                f"expected {self.path} to be free, got another process working there; wait for it, or change --seed"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def begin(self, dataset: str, method: str, sections: cookbook.Sections) -> None:
        """Write recipe.yaml; if one is there, it must say the same in everything that training sees."""
        path = self.path / "recipe.yaml"
        identity = uuid.uuid4().hex
        if path.exists():
            found = self.header
            identity = found["run"]
            if differences := _differences(found, sections):
                raise Refused(
                    f"expected {self.path} to hold this recipe, got another ({differences}); use --fresh or another "
                    "--runs"
                )
        files.write_text(path, notation.dump({"name": f"{dataset}/{method}", "run": identity, **sections}))

    def discard(self) -> None:
        """Forget what was trained and scored here; the run keeps its identity."""
        for name in ("log.csv", "resume.pt", "best.pt", "last.pt", "score.json"):
            (self.path / name).unlink(missing_ok=True)
        if (self.path / "recipe.yaml").exists():
            header = self.header
            files.write_text(self.path / "recipe.yaml", notation.dump({key: header[key] for key in ("name", "run")}))

    def write_log(self, rows: list[dict[str, Any]]) -> None:
        """log.csv, one row per epoch, whole each time: a resumed run cannot repeat or lose a row."""
        text = io.StringIO()
        if rows:
            writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        files.write_text(self.path / "log.csv", text.getvalue())

    def save(self, name: str, value: Any) -> None:
        files.save_tensors(self.path / f"{name}.pt", value)

    def load(self, name: str, device: Any = "cpu") -> Any:
        """The tensors saved under `name`, on `device`, or None if there are none."""
        path = self.path / f"{name}.pt"
        return files.load_tensors(path, device) if path.exists() else None


def place(runs: Path, dataset: str, method: str, sections: cookbook.Sections) -> Run:
    """The folder of these settings: other settings, other folder."""
    return Run(runs / dataset / f"{method}-s{sections['train']['seed']}{variant(dataset, method, sections, '-')}")


def variant(dataset: str, method: str, sections: cookbook.Sections, separator: str) -> str:
    """Six hex digits behind `separator` where the recipe is not the shipped one; else nothing."""
    own = cookbook.digest(sections)
    try:
        shipped = cookbook.digest(cookbook.resolve(dataset, method)[1])
    except Refused:  # a user's own file
        shipped = ""
    return "" if own == shipped else f"{separator}{own}"


def _differences(found: cookbook.Sections, wanted: cookbook.Sections) -> str:
    """`optimizer.lr: 0.1 there, 0.2 here`: the first keys, of those that training sees, in which two recipes differ."""
    pairs = []
    for section in cookbook.SECTIONS:
        there, here = found.get(section), wanted[section]
        if section == "evaluate" or there is None or there == here:
            continue
        if isinstance(there, dict) and isinstance(here, dict):
            keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
            pairs += [f"{section}.{key}: {there.get(key)} there, {here.get(key)} here" for key in keys]
        else:
            pairs.append(section)
    return "; ".join(pairs[:3])
