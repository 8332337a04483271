"""What would make the host wait for a GPU, seen on a CPU: operations whose result, or whose size, Python needs."""

from __future__ import annotations

from contextlib import ExitStack
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_READING = {
    *("_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "argwhere", "masked_select"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive", "bincount"),
}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
_COPYING = ("cpu", "numpy", "tolist")  # on a CPU these pass no operation: seen where they are called


class SyncDetector(TorchDispatchMode):
    """Inside, `operations` gathers by name what would wait: .item(), bool(tensor), nonzero, an index that is a mask, ….

    A copy to the GPU from pageable memory would wait too, and is not seen here.
    """

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        sized_by_data = name == "repeat_interleave" and kwargs.get("output_size") is None
        if name in _READING or sized_by_data or (name in _INDEXING and _has_mask(args[1])):
            self.operations.append(name)
        return function(*args, **(kwargs or {}))

    def __enter__(self):
        self.patches = ExitStack()
        for name in _COPYING:
            self.patches.enter_context(mock.patch.object(torch.Tensor, name, self._record(name)))
        return super().__enter__()

    def __exit__(self, *exception):
        self.patches.close()
        return super().__exit__(*exception)

    def _record(self, name):
        real = getattr(torch.Tensor, name)

        def copied(tensor, *args, **kwargs):
            self.operations.append(name)
            return real(tensor, *args, **kwargs)

        return copied


def _has_mask(indices):
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)
