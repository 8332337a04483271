"""Decode minibatches of image files ahead of training, in worker processes; two per worker are in memory at a time.

Workers only decode. Shuffling and augmentation stay in the training process, so their number changes no result.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rb_smooth.core import environment
from rb_smooth.core.errors import UserError
from rb_smooth.core.worker_pool import stop_signals
from rb_smooth.data.images import AnyImages, ImageFiles, Images

_STOP_TIMEOUT_S = 30
"""Seconds after SIGTERM for which a worker goes on, so that training can finish its step."""


class Prefetcher:
    """Load minibatches of `images` by index. Consecutive minibatches are decoded ahead by worker processes.

    Any other minibatch is decoded in this process.
    """

    def __init__(self, images: AnyImages) -> None:
        self.images = images
        self._order: Tensor | None = None
        self._next = 0
        self._ahead: Iterator[Tensor | UserError] | None = None

    def take(self, order: Tensor, row: int) -> Images:
        """`images[order[row]]`, decoded. order: (minibatches, images in each) int64, one tensor object per epoch.

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
        """Stop the worker processes, if any."""
        self._order = self._ahead = None  # DataLoader stops its workers when it is garbage-collected


def default_workers() -> int:
    """Usable cores per local process, less one; at most 8."""
    return max(min(8, environment.usable_cores() // environment.LOCAL_WORLD_SIZE - 1), 0)


def _batches_ahead(files: ImageFiles, order: Tensor) -> Iterator[Tensor | UserError]:
    loader = DataLoader(
        _RowDataset(files, order),
        batch_size=None,  # each item is a minibatch
        num_workers=files.workers,
        pin_memory=files.device.type == "cuda",
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # the default would draw from torch's global generator
    )
    return iter(loader)


class _RowDataset(Dataset[Tensor | UserError]):
    def __init__(self, files: ImageFiles, order: Tensor) -> None:
        self.files, self.order = files, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, row: int) -> Tensor | UserError:
        """Return a UserError instead of raising it: DataLoader would add the worker's traceback to its message."""
        try:
            return self.files[self.order[row]].decode()
        except UserError as error:
            return error


def _ignore_signals(worker: int) -> None:
    """Ignore SIGINT and delay `stop_signals`: all reach the whole process group, and training finishes its step first.

    SIGTERM must end the worker eventually: Python stops remaining workers with it at exit.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in stop_signals():
        signal.signal(number, lambda *_: signal.alarm(_STOP_TIMEOUT_S))
