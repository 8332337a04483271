"""Write curves.png and TensorBoard scalars while a run trains."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rb_smooth.core.console import console
from rb_smooth.core.errors import first_line
from rb_smooth.training.run_folder.curves import draw_curves
from rb_smooth.training.run_folder.log import LogRow
from rb_smooth.training.run_folder.run import Run

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


DRAWN_EVERY_S = 30.0
"""Seconds between two drawings; each takes about half a second."""


class RunReporter:
    """Context manager of a process that trains `run`: on exit its curves show every finished epoch."""

    def __init__(self, run: Run, epochs: int) -> None:
        self.run, self.epochs = run, epochs
        self.scalars = TensorBoardWriter(run.path / "tensorboard")
        self.rows: Sequence[LogRow] = ()
        self.drawn, self.drawn_at = 0, time.monotonic()
        self._failed: set[str] = set()

    def update(self, rows: Sequence[LogRow]) -> None:
        """Show the complete log `rows`, after every epoch and after resuming."""
        self.rows = list(rows)
        self._try_once("tensorboard/", lambda: self.scalars.write(self.rows))
        if len(rows) == self.epochs or time.monotonic() - self.drawn_at > DRAWN_EVERY_S:
            self._draw()

    def __enter__(self) -> RunReporter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            return  # a second Ctrl-C must not wait
        if self.drawn < len(self.rows):
            self._draw()
        self._try_once("tensorboard/", self.scalars.close)

    def _draw(self) -> None:
        path = self.run.path
        name = f"{path.parent.name}/{path.name}"
        self._try_once("curves.png", lambda: draw_curves({name: self.rows}, path / "curves.png"))
        self.drawn, self.drawn_at = len(self.rows), time.monotonic()

    def _try_once(self, what: str, write: Callable[[], None]) -> None:
        """Report the first failure of `what`, and do not write it again."""
        if what in self._failed:
            return
        try:
            write()
        except Exception as error:
            self._failed.add(what)
            console.print(f"not written: {self.run.path / what} ({first_line(error)}); training continues")


_IMAGE_SETS = ("train", "val", "test")


class TensorBoardWriter:
    """Write a run's log to its tensorboard/ folder; does nothing if tensorboard is not installed.

    Each process writes the complete log to its own event file, which purges earlier points: after a kill no point is
    missing or doubled. Deleting earlier event files instead would stall an open TensorBoard.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: SummaryWriter | None = None
        self.written = 0

    def write(self, rows: Sequence[LogRow]) -> None:
        """Write the new rows of the log to disk, at the number of completed epochs."""
        if importlib.util.find_spec("tensorboard") is None:
            return
        writer = self.writer = self.writer or self._open()
        for row in rows[self.written :]:
            for column, value in row.items():
                if column not in ("epoch", "best") and value is not None:
                    writer.add_scalar(_tag(column), value, row["epoch"] + 1)
        self.written = len(rows)
        writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def _open(self) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder), purge_step=0)


_TAGS = {"train_robust": "train/robust_in_minibatches", "train_pgd20": "train/robust_deployed"}
"""Robust accuracy on training images at w' + v and at w, which only together are clear (see log.py)."""


def _tag(column: str) -> str:
    """`val/w_clean` for val_w_clean: TensorBoard groups tags by the part before the slash."""
    if column in _TAGS:
        return _TAGS[column]
    prefix, _, rest = column.partition("_")
    return f"{prefix}/{rest}" if prefix in _IMAGE_SETS else column
