"""What is shown while a run trains: its curves in a picture, drawn now and then, and its scalars for TensorBoard."""

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
"""Seconds between two drawings, of which each costs about half a second."""


class RunReporter:
    """Of one process that trains `run`, as a context: however training ends, its curves show every epoch finished."""

    def __init__(self, run: Run, epochs: int) -> None:
        self.run, self.epochs = run, epochs
        self.scalars = TensorBoardWriter(run.path / "tensorboard")
        self.rows: Sequence[LogRow] = ()
        self.drawn, self.drawn_at = 0, time.monotonic()
        self._failed: set[str] = set()

    def update(self, rows: Sequence[LogRow]) -> None:
        """To be called with the whole log after every epoch, and when a run is taken up again."""
        self.rows = list(rows)
        self._try_once("tensorboard/", lambda: self.scalars.write(self.rows))
        if len(rows) == self.epochs or time.monotonic() - self.drawn_at > DRAWN_EVERY_S:
            self._draw()

    def __enter__(self) -> RunReporter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            return  # a second Ctrl-C waits for no picture
        if self.drawn < len(self.rows):
            self._draw()
        self._try_once("tensorboard/", self.scalars.close)

    def _draw(self) -> None:
        path = self.run.path
        name = f"{path.parent.name}/{path.name}"
        self._try_once("curves.png", lambda: draw_curves({name: self.rows}, path / "curves.png"))
        self.drawn, self.drawn_at = len(self.rows), time.monotonic()

    def _try_once(self, what: str, write: Callable[[], None]) -> None:
        """Whatever fails is said once, and not attempted again."""
        if what in self._failed:
            return
        try:
            write()
        except Exception as error:
            self._failed.add(what)
            console.print(f"not written: {self.run.path / what} ({first_line(error)}); training does without")


_IMAGE_SETS = ("train", "val", "test")


class TensorBoardWriter:
    """The event file of one process in a run's tensorboard/ folder; nothing at all where tensorboard is missing.

    The log is the truth. A process that takes the run up writes all of it into a file of its own, which begins by
    telling TensorBoard to forget what it read in those before: no point is lost or there twice, whatever moment a
    process was killed at. Removing those files instead would leave a TensorBoard that is open stuck in them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: SummaryWriter | None = None
        self.written = 0

    def write(self, rows: Sequence[LogRow]) -> None:
        """Add those of a log's rows that are not there yet, at their number of epochs done; they reach the disk."""
        if importlib.util.find_spec("tensorboard") is None:
            return
        writer = self.writer = self.writer or self._open()
        ages = _seconds_ago(rows)
        for row, age in list(zip(rows, ages, strict=True))[self.written :]:
            for column, value in row.items():
                if column not in ("epoch", "best") and value is not None:
                    writer.add_scalar(_tag(column), value, row["epoch"] + 1, walltime=time.time() - age)
        self.written = len(rows)
        writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def _open(self) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder), purge_step=0)


def _tag(column: str) -> str:
    """`val/w_clean` for val_w_clean: TensorBoard groups by what stands before the slash."""
    prefix, _, rest = column.partition("_")
    return f"{prefix}/{rest}" if prefix in _IMAGE_SETS else column


def _seconds_ago(rows: Sequence[LogRow]) -> list[float]:
    """How long before the last row's end each row's epoch ended, in seconds of training."""
    ages = [0.0]
    for row in reversed(rows[1:]):
        ages.append(ages[-1] + row["seconds"])
    return ages[::-1]
