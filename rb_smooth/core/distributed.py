"""Collective operations of the processes of one training job, on torch.distributed.

Every process must call each function at the same point. In a single process each is the identity.
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
"""Timeout of collectives; the batch of an attack or a download may take hours."""

_single_process = False


def world_size() -> int:
    """Number of processes; 1 without torchrun or inside `single_process`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _single_process else 1


def rank() -> int:
    """Rank of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_rank_zero() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


@contextmanager
def process_group() -> Iterator[None]:
    """Initialise the process group of torchrun; raise UserError in the others if a process is lost."""
    if environment.WORLD_SIZE == 1:
        yield
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_TIMEOUT)
    try:
        yield
    except BaseException as error:
        if _is_lost_process_error(error):
            raise UserError(
                "expected every process of this job to go on, got one that ended; repeat the command "
                "to resume from the last save"
            ) from None
        if not torch.cuda.is_available():  # NCCL would wait for the other processes, which may not have failed
            traceback.clear_frames(error.__traceback__)
            _destroy_process_group()
        raise
    _destroy_process_group()


@contextmanager
def single_process() -> Iterator[None]:
    """Context manager: every function here acts as in a single process."""
    global _single_process
    before, _single_process = _single_process, True
    try:
        yield
    finally:
        _single_process = before


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Run the body in rank 0 first, then in local rank 0 of the other machines, then in the rest.

    So errors are printed once and files are downloaded once. If one process fails, the others exit.
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
    """Call `work` in rank 0 and broadcast its result. If it fails, the other processes exit."""
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
    """Enter `context` in rank 0 only."""
    with ExitStack() as stack:

        def enter() -> None:
            stack.enter_context(context)

        rank_zero_call(enter)
        yield


def all_reduce_any(*flags: bool) -> list[bool]:
    """Logical or of each flag over processes, on the CPU."""
    if world_size() == 1:
        return list(flags)
    seen = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(seen, dist.ReduceOp.MAX)
    return [bool(flag) for flag in seen]


def shard(tensor: Tensor) -> Tensor:
    """This process's part of a minibatch (N, ...): every `world_size()`-th image from `rank()` on."""
    return tensor[rank() :: world_size()].contiguous() if world_size() > 1 else tensor


def unshard(part: Tensor) -> Tensor:
    """Undo `shard`: the minibatch on the CPU in rank 0; `part` in the other ranks."""
    if world_size() == 1:
        return part
    parts = gather(part)
    return torch.stack(parts, dim=1).flatten(0, 1) if parts else part


def gather(value: Tensor) -> list[Tensor]:
    """The tensors of all processes by rank, of equal shape, on the CPU, in rank 0; an empty list in the others."""
    value = value.cpu().contiguous()
    if world_size() == 1:
        return [value]
    values = [torch.empty_like(value) for _ in range(world_size())] if is_rank_zero() else None
    dist.gather(value, values)
    return values or []


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum over processes, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def all_reduce_min(tensor: Tensor) -> Tensor:
    """Elementwise minimum over processes, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor, dist.ReduceOp.MIN)
    return tensor


def all_reduce_mean(tensors: Sequence[Tensor]) -> None:
    """Mean over processes, in place and without copies; bitwise equal in all."""
    if world_size() == 1 or not tensors:
        return
    for reduction in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
        reduction.wait()
    torch._foreach_div_(list(tensors), world_size())


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Copy the `tensors` of rank 0 to all processes, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def ranks_that_differ(value: Any) -> list[int]:
    """The ranks whose `value` differs from rank 0's."""
    values = all_gather_object(value)
    return [number for number, each in enumerate(values) if each != values[0]]


def all_gather_object(value: _T) -> list[_T]:
    """The `value` of every process, by rank. Values are pickled."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def abort_all(message: str, error: type[UserError] = UserError) -> NoReturn:
    """Exit all processes for an error that all of them detect; rank 0 prints `message`."""
    if is_rank_zero():
        raise error(message)
    raise SystemExit(USER_ERROR)


def wrap_ddp(model: nn.Module, device: torch.device) -> nn.Module:
    """Wrap `model` in DistributedDataParallel with rank 0's weights; backward() averages gradients over processes.

    Each process has its own BatchNorm statistics (`batchnorm.recalibrate` makes them equal): an objective runs several
    forward passes, and broadcasting buffers between them would invalidate the first one's graph.
    """
    if world_size() == 1:
        return model
    devices = [device] if device.type == "cuda" else None
    with warnings.catch_warnings():  # newer versions of torch deprecate the option and change its meaning
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)


def unwrap_ddp(model: nn.Module) -> nn.Module:
    """The network inside `wrap_ddp`'s result; its backward passes do not communicate."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def _exit_if_any_failed(failed: bool) -> None:
    """Exit if any process failed; the failing one prints its error."""
    if all_reduce_any(failed)[0]:
        raise SystemExit(USER_ERROR)


def _is_lost_process_error(error: BaseException) -> bool:
    """Whether the error is of a lost connection; gloo's errors have no class."""
    named = isinstance(error, RuntimeError) and any(library in str(error) for library in ("gloo", "NCCL"))
    return named or isinstance(error, dist.DistError)


def _destroy_process_group() -> None:
    """Destroy the group after collecting references to it, whose threads would abort at interpreter exit."""
    gc.collect()
    dist.destroy_process_group()
