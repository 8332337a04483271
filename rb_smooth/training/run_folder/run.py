"""A run is a folder: recipe.yaml, log.csv, curves.png, resume.pt, best.pt, last.pt, autoattack-*/, score.json.

After a crash crash.txt is there too, until the run is taken up again. The folder may be moved.
"""

from __future__ import annotations

import csv
import io
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import filelock

from rb_smooth.config import resolver, yaml
from rb_smooth.config.sections import SECTIONS, Sections, config_hash, result_config, short_hash
from rb_smooth.core import crashes, files
from rb_smooth.core.errors import UserError, first_line
from rb_smooth.training.run_folder import resume

if TYPE_CHECKING:
    from torch import nn


Progress = Literal["new", "begun", "trained"]

_POLL_SECONDS = 0.2
"""Seconds that a lock is waited for: whoever only looks whether a run is in use holds it for less."""


@dataclass(frozen=True)
class Run:
    """One run: its folder at `path`, and what the files there say. Reading them costs no torch.

    is_trained, progress ("new", "begun", "trained") and is_in_use say how far it is; header is its recipe, resolved;
    score what its last evaluation found, None before one. All raise UserError for a file that is damaged.
    """

    path: Path

    @property
    def is_trained(self) -> bool:
        """Whether best.pt and last.pt are what training came to."""
        return (self.path / "last.pt").exists()  # written last

    @property
    def progress(self) -> Progress:
        """How far training has come: what of its inputs it still needs depends on it."""
        begun: Progress = "begun" if resume.state_files(self.path) else "new"
        return "trained" if self.is_trained else begun

    def is_finished(self, sections: Sections) -> bool:
        """Whether the run holds this very recipe, trained, and its score answers what `evaluate` asks."""
        if not self.is_trained or (score := self.score) is None:
            return False
        trained = {**sections, "evaluate": self.header["evaluate"]}
        return self.is_ready(trained) and score["asked"] == sections["evaluate"]

    def is_ready(self, sections: Sections) -> bool:
        """Whether the run holds this very recipe, trained, `evaluate` included: measured or not."""
        return self.is_trained and result_config({key: self.header[key] for key in SECTIONS}) == result_config(sections)

    @property
    def score(self) -> dict[str, Any] | None:
        """The evaluation's result, once there is one. Raises UserError if the file is damaged."""
        path = self.path / "score.json"
        if not path.exists():
            return None
        score = files.read_json(path)
        if not isinstance(score, dict) or not {"asked", "n", "last", "interval", "model", "title"} <= score.keys():
            raise UserError(f"expected an evaluation in {path}, got other JSON; delete it and repeat the command")
        return score

    def set_score(self, score: dict[str, Any]) -> None:
        """Write score.json; an evaluation of other settings that was there is kept beside it."""
        self._archive_score()
        files.write_json(self.path / "score.json", score)

    def restore_score(self, requested: dict[str, Any]) -> bool:
        """Whether score.json is, or can be made again, the evaluation that answers `requested`."""
        if (score := self.score) is not None and score["asked"] == requested:
            return True
        kept = self._archived_score(requested)
        if not kept.exists():
            return False
        self._archive_score()
        kept.rename(self.path / "score.json")
        return True

    def _archive_score(self) -> None:
        if (score := self.score) is not None:
            (self.path / "score.json").replace(self._archived_score(score["asked"]))

    def _archived_score(self, requested: dict[str, Any]) -> Path:
        return self.path / f"score-{short_hash(requested)}.json"

    @property
    def identity(self) -> str:
        """A name of this run that survives moving it, by which its entry in a leaderboard is its own."""
        return str(self.header["run"])

    @property
    def header(self) -> Sections:
        """What recipe.yaml says. Raises UserError if it is missing or damaged."""
        path = self.path / "recipe.yaml"
        try:
            header = yaml.parse_yaml(path.read_text(encoding="utf-8"), str(path))
        except (FileNotFoundError, UnicodeDecodeError, IsADirectoryError, UserError):
            header = None
        if not isinstance(header, dict) or not {"name", "run"} <= header.keys():
            raise UserError(
                f"expected the run's recipe in {path}, got none or a damaged one; restore it, or use --fresh"
            )
        return header

    @property
    def crash_file(self) -> Path:
        """Where a process that crashes while it works here leaves its trace."""
        return self.path / "crash.txt"

    @property
    def crash(self) -> str | None:
        """The name of the signal by which the last process that worked here crashed; None if it did not crash."""
        return crashes.read_signal(self.crash_file)

    def record_crash(self, signal_name: str) -> None:
        """Write down that a process which worked here crashed, unless it left a trace itself."""
        if self.crash is None:
            files.write_text(self.crash_file, crashes.make_trace(signal_name))

    @property
    def is_in_use(self) -> bool:
        """Whether a process works here now; False where one may not look."""
        lock = self.path / ".lock"
        try:
            if lock.exists():
                with filelock.FileLock(lock, timeout=0):
                    pass
        except filelock.Timeout:
            return True
        except OSError:
            pass
        return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Held while a process works here; a second one is refused. The trace of a crash before is removed."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path / ".lock", timeout=_POLL_SECONDS)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise UserError(
                f"expected {self.path} to be free, got another process working there; wait for it, or change --seed"
            ) from None
        try:
            for leftover in self.path.glob(".*.pt.*"):  # of a process that was killed while it wrote
                leftover.unlink()
            self.crash_file.unlink(missing_ok=True)
            yield
        finally:
            if self.crash is None:  # the file is empty
                self.crash_file.unlink(missing_ok=True)
            lock.release()

    def begin(self, dataset: str, method: str, sections: Sections) -> None:
        """Write recipe.yaml; if one is there, it must say the same in everything that training sees."""
        path = self.path / "recipe.yaml"
        identity = uuid.uuid4().hex
        if path.exists():
            found = self.header
            identity = found["run"]
            if differences := _differences(found, sections):
                raise UserError(
                    f"expected {self.path} to hold this recipe, got another ({differences}); use --fresh or another "
                    "--runs"
                )
        files.write_text(path, yaml.dump_sections({"name": f"{dataset}/{method}", "run": identity, **sections}))

    def discard(self) -> None:
        """Forget what was trained and scored here; the run keeps its identity, if it can still be read."""
        try:
            header = self.header
        except UserError:
            (self.path / "recipe.yaml").unlink(missing_ok=True)
        else:
            files.write_text(
                self.path / "recipe.yaml", yaml.dump_sections({key: header[key] for key in ("name", "run")})
            )
        for folder in (self.path / "tensorboard", *self.path.glob("autoattack-*")):
            shutil.rmtree(folder, ignore_errors=True)
        for pattern in ("log.csv", "curves.png", "*.pt", "score*.json", "training.json", ".*.pt.*"):
            for path in self.path.glob(pattern):
                path.unlink()

    def write_log(self, rows: list[dict[str, Any]]) -> None:
        """log.csv, one row per epoch, whole each time: a resumed run cannot repeat or lose a row.

        A figure that only some epochs have (of an optimizer in force for a stage) is a column, empty elsewhere.
        """
        text = io.StringIO()
        if rows:
            writer = csv.DictWriter(
                text, fieldnames=list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(rows)
        files.write_text(self.path / "log.csv", text.getvalue())

    def save(self, name: str, value: Any) -> None:
        """Keep tensors under `name`, for `load`."""
        files.save_tensors(self.path / f"{name}.pt", value)

    def load(self, name: str) -> Any:
        """The tensors saved under `name`, on the CPU, or None if there are none."""
        path = self.path / f"{name}.pt"
        return files.load_tensors(path) if path.exists() else None

    def load_into(self, model: nn.Module, name: str) -> None:
        """Give `model` the weights saved under `name`. Raises UserError if they are missing or another model's."""
        try:
            model.load_state_dict(self.load(name))
        except (TypeError, RuntimeError, AttributeError) as error:
            raise UserError(
                f"expected this run's weights in {self.path / name}.pt, got others or none ({first_line(error)}); "
                "restore them, or begin again with --fresh"
            ) from None


def run_path(runs: Path, dataset: str, method: str, sections: Sections) -> Run:
    """The folder of these settings: other settings, other folder."""
    return Run(runs / dataset / f"{method}-s{sections['train']['seed']}{config_suffix(dataset, method, sections, '-')}")


def config_suffix(dataset: str, method: str, sections: Sections, separator: str) -> str:
    """Six hex digits behind `separator` where the recipe is not the shipped one; else nothing."""
    own = config_hash(sections)
    try:
        shipped = config_hash(resolver.resolve_method(dataset, method, shipped_only=True)[1])
    except UserError:  # not one of ours
        shipped = ""
    return "" if own == shipped else f"{separator}{own}"


def _differences(stored: Sections, requested: Sections) -> str:
    """`optimizer.lr: 0.1 there, 0.2 here`: the first keys, of those that training sees, in which two recipes differ."""
    pairs, stored, requested = [], result_config(stored), result_config(requested)
    for section in SECTIONS:
        there, here = stored.get(section), requested[section]
        if section == "evaluate" or there is None or there == here:
            continue
        if isinstance(there, dict) and isinstance(here, dict):
            keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
            pairs += [f"{section}.{key}: {there.get(key)} there, {here.get(key)} here" for key in keys]
        else:
            pairs.append(section)
    return "; ".join(pairs[:3])
