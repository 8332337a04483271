"""Minibatches decoded ahead of training by worker processes: no more of them in memory than are on their way.

Workers decode and nothing else. What makes a minibatch, and how it is augmented, is not theirs to know, so their number
changes nothing but the time.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rb_smooth.core import environment
from rb_smooth.core.errors import UserError
from rb_smooth.data.images import AnyImages, ImageFiles, Images

_STOP_TIMEOUT_S = 30
"""Seconds that a worker stays for training's last step after it was told to stop."""


class Prefetcher:
    """Rows of an order of images, in memory. A row that follows the one before was decoded meanwhile.

    Any other row is decoded when it is asked for, and no process is started for it.
    """

    def __init__(self, images: AnyImages) -> None:
        self.images = images
        self._order: Tensor | None = None
        self._next = 0
        self._ahead: Iterator[Tensor | UserError] | None = None

    def take(self, order: Tensor, row: int) -> Images:
        """`images[order[row]]` in memory. order: (rows, images of each) int64; the same object as long as it lasts.

        Raises UserError, naming the file, for a damaged image.
        """
        images, follows = self.images, order is self._order and row == self._next
        if not follows:
            self.close()
        self._order, self._next = order, row + 1
        if not follows or isinstance(images, Images) or images.workers == 0:
            return images[order[row]].load()
        if self._ahead is None:
            self._ahead = _batches_ahead(images, order[row:])
        x, y = next(self._ahead), images.y[order[row]]
        if isinstance(x, UserError):
            raise x
        return Images(x.to(images.device, non_blocking=True), y.to(images.device, non_blocking=True))

    def close(self) -> None:
        """End the workers, if there are any."""
        self._order = self._ahead = None  # a loader ends its workers when nobody holds it


def default_workers() -> int:
    """One less than this process's part of the cores that it may use, and at most 8."""
    return max(min(8, environment.usable_cores() // environment.LOCAL_WORLD_SIZE - 1), 0)


def _batches_ahead(files: ImageFiles, order: Tensor) -> Iterator[Tensor | UserError]:
    loader = DataLoader(
        _RowDataset(files, order),
        batch_size=None,  # an item is a minibatch already
        num_workers=files.workers,
        pin_memory=files.device.type == "cuda",
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # else it would draw from training's
    )
    return iter(loader)


class _RowDataset(Dataset[Tensor | UserError]):
    def __init__(self, files: ImageFiles, order: Tensor) -> None:
        self.files, self.order = files, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, row: int) -> Tensor | UserError:
        """A refusal is handed over: raised here, it would arrive with a worker's traceback."""
        try:
            return self.files[self.order[row]].decode()
        except UserError as refused:
            return refused


def _ignore_signals(worker: int) -> None:
    """Ctrl-C and SIGTERM reach the whole group; training finishes its step, and then ends its workers.

    SIGTERM must act in the end: it is also how Python ends, at its exit, the workers that nobody ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_STOP_TIMEOUT_S))
