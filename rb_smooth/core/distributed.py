"""The processes of one training job: what they agree on, share out and add up, on torch.distributed.

Every function here is to be called by all of them, at the same point. Alone, each returns what it is given.
"""

from __future__ import annotations

import gc
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rb_smooth.core import environment
from rb_smooth.core.errors import USER_ERROR, UserError

_T = TypeVar("_T")

_TIMEOUT = timedelta(hours=4)
"""For which one process waits for another: an attack's batch, or a download, may take long."""

_single_process = False


def world_size() -> int:
    """How many processes there are; 1 alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _single_process else 1


def rank() -> int:
    """The number of this one, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_rank_zero() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


@contextmanager
def process_group() -> Iterator[None]:
    """Inside, the processes that torchrun started know each other; one that is lost is a refusal in the others."""
    if environment.WORLD_SIZE == 1:
        yield
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_TIMEOUT)
    try:
        yield
    except BaseException as error:
        if _is_lost_process_error(error):
            raise UserError(
                "expected every process of this job to go on, got one that ended; what was saved is kept, and the same "
                "command goes on from there"
            ) from None
        if not torch.cuda.is_available():  # NCCL would wait for the others, who may know nothing of this error
            traceback.clear_frames(error.__traceback__)
            _destroy_process_group()
        raise
    _destroy_process_group()


@contextmanager
def single_process() -> Iterator[None]:
    """Inside, this process acts as if there were no others."""
    global _single_process
    before, _single_process = _single_process, True
    try:
        yield
    finally:
        _single_process = before


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """First the first process goes through the body, then the first one on each other machine, then the rest.

    So what is wrong is said once, and what is downloaded is downloaded once. Where one fails, the others leave.
    """
    turn = 0 if environment.RANK == 0 else 1 if environment.LOCAL_RANK == 0 else 2
    for _ in range(turn):
        _exit_if_any_failed(False)
    try:
        yield
    except BaseException:
        all_reduce_any(True)
        raise
    for _ in range(turn, 3):
        _exit_if_any_failed(False)


def rank_zero_call(work: Callable[[], _T]) -> _T:
    """What `work` returns in the first process; where it fails there, the others leave."""
    if world_size() == 1:
        return work()
    results: list[Any] = [None]
    if is_rank_zero():
        try:
            results = [work()]
        except BaseException:
            all_reduce_any(True)
            raise
    _exit_if_any_failed(False)
    dist.broadcast_object_list(results, src=0, device=torch.device("cpu"))
    return results[0]


@contextmanager
def rank_zero_context(context: AbstractContextManager[Any]) -> Iterator[None]:
    """`context`, entered in the first process only."""

    with ExitStack() as stack:

        def enter() -> None:
            stack.enter_context(context)

        rank_zero_call(enter)
        yield


def all_reduce_any(*flags: bool) -> list[bool]:
    """Each flag: whether it is up in any process. Waits for no GPU."""
    if world_size() == 1:
        return list(flags)
    seen = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(seen, dist.ReduceOp.MAX)
    return [bool(flag) for flag in seen]


def shard(tensor: Tensor) -> Tensor:
    """This process's part of a minibatch: every size()-th image, so that each has images of every kind in it."""
    return tensor[rank() :: world_size()].contiguous() if world_size() > 1 else tensor


def unshard(part: Tensor) -> Tensor:
    """The minibatch of which each process has the `part` that `shard` gave it, on the CPU; in the first process only
    (else the part).
    """
    if world_size() == 1:
        return part
    parts = gather(part)
    return torch.stack(parts, dim=1).flatten(0, 1) if parts else part


def gather(value: Tensor) -> list[Tensor]:
    """The tensors of equal shape of all processes, in order, on the CPU; in the first process only (else none)."""
    value = value.cpu().contiguous()
    if world_size() == 1:
        return [value]
    values = [torch.empty_like(value) for _ in range(world_size())] if is_rank_zero() else None
    dist.gather(value, values)
    return values or []


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum over processes, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def all_reduce_min(tensor: Tensor) -> Tensor:
    """The least over processes, element by element, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor, dist.ReduceOp.MIN)
    return tensor


def all_reduce_mean(tensors: Sequence[Tensor]) -> None:
    """The mean over processes, in place; the same bits in each. No copy is made."""
    if world_size() == 1 or not tensors:
        return
    for reduction in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
        reduction.wait()
    torch._foreach_div_(list(tensors), world_size())


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Every process's `tensors` := the first one's."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def ranks_that_differ(value: Any) -> list[int]:
    """The ranks whose `value` is not the first process's."""
    values = all_gather_object(value)
    return [number for number, each in enumerate(values) if each != values[0]]


def all_gather_object(value: _T) -> list[_T]:
    """The `value` of every process, in order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def abort_all(message: str) -> NoReturn:
    """Where all processes see the same, the first one says so, and all leave."""
    if is_rank_zero():
        raise UserError(message)
    raise SystemExit(USER_ERROR)


def wrap_ddp(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` so that backward() averages its gradients over the processes; starts as the first one's everywhere.

    BatchNorm's statistics stay each process's own (`batchnorm.recalibrate` makes them one): a pass of the objective is
    several forwards, and moving buffers between them would spoil the first one's graph.
    """
    if world_size() == 1:
        return model
    devices = [device] if device.type == "cuda" else None
    with warnings.catch_warnings():  # newer versions of torch rename the option, and do another thing by its new name
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)


def unwrap_ddp(model: nn.Module) -> nn.Module:
    """This process's own network within what `wrap_ddp` made: backward passes through it tell nobody."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def _exit_if_any_failed(failed: bool) -> None:
    """A point that all processes pass together, or none: what failed is said by the one in which it did."""
    if all_reduce_any(failed)[0]:
        raise SystemExit(USER_ERROR)


def _is_lost_process_error(error: BaseException) -> bool:
    """gloo's own errors have no class of their own."""
    named = isinstance(error, RuntimeError) and any(library in str(error) for library in ("gloo", "NCCL"))
    return named or isinstance(error, dist.DistError)


def _destroy_process_group() -> None:
    """Leave the group. What still held it would keep its threads alive until Python is gone, and they would abort."""
    gc.collect()
    dist.destroy_process_group()
