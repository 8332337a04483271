"""A run's log for TensorBoard, where it is installed: `tensorboard --logdir runs`."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rb_smooth.logs import Row

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_SETS = ("train", "val", "test")


class Scalars:
    """The event file of one process in a run's tensorboard/ folder; nothing at all where tensorboard is missing.

    The log is the truth. A process that takes the run up writes all of it into a file of its own, which begins by
    telling TensorBoard to forget what it read in those before: no point is lost or there twice, whatever moment a
    process was killed at. Removing those files instead would leave a TensorBoard that is open stuck in them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: SummaryWriter | None = None
        self.written = 0

    def write(self, rows: Sequence[Row]) -> None:
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
    return f"{prefix}/{rest}" if prefix in _SETS else column


def _seconds_ago(rows: Sequence[Row]) -> list[float]:
    """How long before the last row's end each row's epoch ended, in seconds of training."""
    ages = [0.0]
    for row in reversed(rows[1:]):
        ages.append(ages[-1] + row["seconds"])
    return ages[::-1]
