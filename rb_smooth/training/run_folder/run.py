"""The folder of a run: recipe.yaml, log.csv, curves.png, resume.pt, best.pt, last.pt, autoattack-*/, score.json.

A crash leaves crash.txt, until the run resumes. The folder may be moved.
"""

from __future__ import annotations

import csv
import io
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import filelock

from rb_smooth.config import yaml
from rb_smooth.config.overrides import ResolvedRecipe
from rb_smooth.config.sections import SECTIONS, Sections, differing_settings, result_config, short_hash
from rb_smooth.core import crashes, files, input_files
from rb_smooth.core.errors import UserError, first_line
from rb_smooth.training.run_folder import resume

if TYPE_CHECKING:
    from torch import nn


Progress = Literal["new", "begun", "trained"]

_POLL_SECONDS = 0.2
"""Seconds to wait for a lock; `is_in_use` holds it for less."""


@dataclass(frozen=True)
class Run:
    """A run in the folder `path`; its files are read without torch.

    is_trained, progress ("new", "begun", "trained") and is_in_use: its state. header: content of recipe.yaml.
    recipe: the recipe in it. score: its last evaluation, or None. All raise UserError for a damaged file.
    """

    path: Path
    requested: ResolvedRecipe | None = field(default=None, compare=False, repr=False)
    """The recipe for which `run_path` made it, whose hash is known."""

    @property
    def is_trained(self) -> bool:
        """Whether training is complete, and best.pt and last.pt final."""
        return (self.path / "last.pt").exists()  # written last

    @property
    def progress(self) -> Progress:
        """How far training is, which decides which inputs it still needs."""
        begun: Progress = "begun" if resume.state_files(self.path) else "new"
        return "trained" if self.is_trained else begun

    def is_finished(self, sections: Sections) -> bool:
        """Whether the run has this recipe, is trained, and is evaluated by these `evaluate` settings."""
        if not self.is_trained or (score := self.score) is None:
            return False
        trained = {**sections, "evaluate": self.header.get("evaluate")}
        return self.is_ready(trained) and score["asked"] == sections["evaluate"]

    def is_ready(self, sections: Sections) -> bool:
        """Whether the run has this recipe, `evaluate` included, and is trained; it may lack a score."""
        return self.is_trained and result_config(self.recipe.sections) == result_config(sections)

    @property
    def score(self) -> dict[str, Any] | None:
        """Content of score.json, or None. Raises UserError if the file is damaged."""
        path = self.path / "score.json"
        if not path.exists():
            return None
        from rb_smooth.evaluation import stored

        fix = "delete it and repeat the command"
        return stored.check_stored(files.read_json(path), stored.SCORE, "an evaluation", path, fix)

    @property
    def training(self) -> dict[str, Any]:
        """Content of training.json. Raises UserError if it is missing or damaged."""
        from rb_smooth.evaluation import stored

        path = self.path / "training.json"
        return stored.check_stored(files.read_json(path), stored.TRAINING, "a training's record", path)

    def set_score(self, score: dict[str, Any]) -> None:
        """Write score.json; the previous score is archived beside it."""
        self._archive_score()
        files.write_json(self.path / "score.json", score)

    def restore_score(self, requested: dict[str, Any]) -> bool:
        """Make score.json the evaluation of the settings `requested`; False if there is none."""
        if (score := self.score) is not None and score["asked"] == requested:
            return True
        archived = self._archived_score(requested)
        if not archived.exists():
            return False
        self._archive_score()
        archived.rename(self.path / "score.json")
        return True

    def _archive_score(self) -> None:
        if (score := self.score) is not None:
            (self.path / "score.json").replace(self._archived_score(score["asked"]))

    def _archived_score(self, requested: dict[str, Any]) -> Path:
        return self.path / f"score-{short_hash(requested)}.json"

    @property
    def identity(self) -> str:
        """ID of this run, independent of its path, which connects it with its leaderboard entry."""
        return str(self.header["run"])

    @property
    def header(self) -> Sections:
        """Content of recipe.yaml. Raises UserError if it is missing or damaged."""
        path = self.path / "recipe.yaml"
        try:
            header = yaml.parse_yaml(input_files.read_text(path), str(path))
        except (FileNotFoundError, UnicodeDecodeError, UserError):
            raise UserError(
                f"expected the run's recipe in {path}, got no readable one; restore it, or use --fresh"
            ) from None
        from rb_smooth.evaluation import stored

        return stored.check_stored(header, stored.RUN_HEADER, "the run's recipe", path, "restore it, or use --fresh")

    @property
    def recipe(self) -> ResolvedRecipe:
        """The recipe in recipe.yaml. Raises UserError if it is damaged, or lacks sections, as after `discard`."""
        header = self.header
        dataset, _, method = header["name"].partition("/")
        found = ResolvedRecipe(dataset, method, {key: header[key] for key in SECTIONS if key in header})
        if not {"data", "model", "train", "evaluate"} <= found.sections.keys():
            raise UserError(f"expected a whole recipe in {self.path / 'recipe.yaml'}, got a part of one; restore it")
        return self.requested if self.requested == found else found

    @property
    def crash_file(self) -> Path:
        """File with the trace of a crashed process of this run."""
        return self.path / "crash.txt"

    @property
    def crash(self) -> str | None:
        """Name of the signal by which the last process of this run crashed; None if it did not."""
        return crashes.read_signal(self.crash_file)

    def record_crash(self, signal_name: str) -> None:
        """Record the crash of a process of this run, unless it wrote a trace itself."""
        if self.crash is None:
            files.write_text(self.crash_file, crashes.make_trace(signal_name))

    @property
    def is_in_use(self) -> bool:
        """Whether a process holds the run's lock; False without permission."""
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
        """Hold the run's lock, and delete an earlier crash's trace. Raises UserError if another process holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path / ".lock", timeout=_POLL_SECONDS)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise UserError(
                f"expected {self.path} to be free, got another process working on it; wait for it, or change --seed"
            ) from None
        try:
            for pattern in ("", "autoattack-*/"):
                for leftover in self.path.glob(pattern + files.TEMPORARY):  # of a process killed while writing
                    leftover.unlink()
            self.crash_file.unlink(missing_ok=True)
            yield
        finally:
            if self.crash is None:  # the file is empty
                self.crash_file.unlink(missing_ok=True)
            lock.release()

    def begin(self, recipe: ResolvedRecipe) -> None:
        """Write recipe.yaml. Raises UserError if the existing one differs in settings of training."""
        path = self.path / "recipe.yaml"
        identity = uuid.uuid4().hex
        if path.exists():
            found = self.header
            identity = found["run"]
            if differences := differing_settings(found, recipe.sections):
                raise UserError(
                    f"expected {self.path} to hold this recipe, got another ({differences}); use --fresh or another "
                    "--runs"
                )
        content = {"name": f"{recipe.dataset}/{recipe.method}", "run": identity, **recipe.sections}
        files.write_text(path, yaml.dump_sections(content))

    def discard(self) -> None:
        """Delete all results of the run, but not its identity, if recipe.yaml is readable."""
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
        for pattern in ("log.csv", "curves.png", "*.pt", "score*.json", "training.json", files.TEMPORARY):
            for path in self.path.glob(pattern):
                path.unlink()

    def write_log(self, rows: list[dict[str, Any]]) -> None:
        """Write the complete log.csv, one row per epoch, so that a resumed run repeats and loses no row.

        Values of some epochs only (of an optimizer in one stage) are empty cells in the other rows.
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
        """Save tensors as `name`.pt."""
        files.save_tensors(self.path / f"{name}.pt", value)

    def load(self, name: str) -> Any:
        """Load tensors from `name`.pt to the CPU; None if there is no such file."""
        path = self.path / f"{name}.pt"
        return files.load_tensors(path) if path.exists() else None

    def load_into(self, model: nn.Module, name: str) -> None:
        """Load the weights in `name`.pt into `model`. Raises UserError if they are missing or do not fit."""
        try:
            model.load_state_dict(self.load(name))
        except (TypeError, RuntimeError, AttributeError) as error:
            raise UserError(
                f"expected this run's weights in {self.path / name}.pt, got others or none ({first_line(error)}); "
                "restore them, or begin again with --fresh"
            ) from None


def run_path(runs: Path, recipe: ResolvedRecipe) -> Run:
    """The run of this recipe; one with other settings has another folder."""
    name = f"{recipe.method}-s{recipe.sections['train']['seed']}{recipe.suffix('-')}"
    return Run(runs / recipe.dataset / name, recipe)
