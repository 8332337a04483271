"""Where a run computes: on the CPU, or on a GPU of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rb_smooth import launch
from rb_smooth.refusal import Refused

if TYPE_CHECKING:
    import torch

    from rb_smooth.declaration import Recipe


def existing_device(name: str) -> torch.device:
    """A device that this machine has; a GPU becomes the current one, so that its random state is the one kept.

    Of several processes on this machine each gets a GPU of its own.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if launch.SIZE > 1 and name not in ("cpu", "cuda"):
        raise Refused(f"expected --device auto, cpu or cuda for several processes, got {name}; each has its own GPU")
    if launch.SIZE > 1 and name == "cuda":
        name = f"cuda:{launch.LOCAL_RANK}"
        if torch.cuda.device_count() <= launch.LOCAL_RANK:
            raise Refused(
                f"expected a GPU for each of {launch.LOCAL_SIZE} processes on this machine, got "
                f"{torch.cuda.device_count()}; lower --nproc-per-node"
            )
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("rb_smooth runs on cpu and cuda")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        cause = str(error).splitlines()[0]
        raise Refused(f"expected a device that this machine has, got {name!r} ({cause}); use --device cpu") from None
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        torch.cuda.set_device(device)
    return device


def check_device(recipe: Recipe, device: torch.device) -> None:
    """What a recipe asks of the device and of the number of processes. Raises Refused."""
    if recipe.data.batch_size % launch.SIZE:
        raise Refused(
            f"expected data.batch_size to be a multiple of the {launch.SIZE} processes that share a minibatch, got "
            f"{recipe.data.batch_size}; change one of them"
        )
    if recipe.train.compile == "reduce-overhead" and device.type == "cpu":
        raise Refused(
            "expected a GPU for train.compile=reduce-overhead, as CUDA graphs need one, got cpu; leave it out, or say "
            "true"
        )
    if recipe.train.sync_bn and device.type == "cpu":
        raise Refused("expected a GPU for train.sync_bn, as torch's SyncBatchNorm needs one, got cpu; leave it out")
