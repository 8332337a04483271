"""Choose the memory layout of a network's weights: channels_last where it is faster and correct.

On CPUs limited to AVX2, oneDNN's channels_last kernel for the weight gradient of some 1x1 convolutions writes out of
bounds: wrong gradients, a corrupted heap or a hang (uxlfoundation/oneDNN issue 6035). Networks with such a convolution
get contiguous layout there. `benchmarks/conv_layouts.py` measures which convolutions are affected.
"""

from __future__ import annotations

import os
import platform
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rb_smooth.components.batchnorm import preserve_modes
from rb_smooth.components.models import Normalized
from rb_smooth.core.console import log_debug
from rb_smooth.core.errors import UserError

InstructionSet = Literal["SSE4.1", "AVX", "AVX2", "AVX-512", "unknown"]
ChannelsLastOption = bool | Literal["auto"]

_X86 = ("SSE4.1", "AVX", "AVX2", "AVX-512")
"""Oldest to newest; oneDNN uses the newest that the CPU supports and ONEDNN_MAX_CPU_ISA allows."""

_MAX_AFFECTED_CHANNELS = 7
"""Largest number of input channels for which the AVX2 kernel is wrong: below one vector of eight
(benchmarks/conv-layouts.json).

Grouped convolutions were correct in that benchmark; to be safe they are judged by the channels of a group.
"""


class Convolution(NamedTuple):
    """A 2D convolution of a forward pass. channels: input channels per group. channels_last: the layout it ran in."""

    channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    channels_last: bool

    def __str__(self) -> str:
        kernel, stride = ("x".join(map(str, each)) for each in (self.kernel, self.stride))
        return f"{kernel} convolution of {self.channels} input channels with stride {stride}"


def choose_memory_format(
    model: nn.Module, shape: tuple[int, int, int], device: torch.device, requested: ChannelsLastOption = "auto"
) -> torch.memory_format:
    """Choose the layout of `model` for images of `shape` (C, H, W): channels_last unless a convolution is wrong in it.

    requested: `train.channels_last`. Raises UserError if it is True and a convolution is wrong in channels_last on this
    CPU, and if the network itself runs such a convolution in channels_last.
    """
    if device.type != "cpu":
        return torch.channels_last if requested else torch.contiguous_format
    instructions = instruction_set()
    if instructions == "unknown" and requested == "auto":
        log_debug("contiguous memory layout: channels_last is untested on this kind of CPU")
        return torch.contiguous_format
    wrong = [each for each in find_convolutions(model, shape) if is_wrong_in_channels_last(each, instructions)]
    if any(each.channels_last for each in wrong):
        raise UserError(
            f"expected convolutions that oneDNN computes correctly on this CPU ({instructions}), got a {wrong[0]} that "
            "the network runs in channels_last; set ONEDNN_MAX_CPU_ISA=AVX, or use another device"
        )
    if wrong and requested is True:
        raise UserError(
            f"expected train.channels_last=auto or false on this CPU ({instructions}), got true; in channels_last "
            f"oneDNN computes wrong weight gradients for this network's {wrong[0]}; use auto"
        )
    if wrong and requested:
        log_debug(f"contiguous memory layout: oneDNN is wrong in channels_last on {instructions} for a {wrong[0]}")
    return torch.contiguous_format if wrong or not requested else torch.channels_last


def is_wrong_in_channels_last(convolution: Convolution, instructions: InstructionSet) -> bool:
    """Whether oneDNN computes this convolution's weight gradient wrongly in channels_last with these instructions."""
    return (
        instructions == "AVX2"
        and set(convolution.kernel) == {1}
        and max(convolution.stride) > 1
        and convolution.channels <= _MAX_AFFECTED_CHANNELS
    )


def instruction_set() -> InstructionSet:
    """The newest vector instructions that oneDNN uses: the CPU's, limited by ONEDNN_MAX_CPU_ISA."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "unknown"
    # torch >= 2.6 has private functions only; `torch.backends.cpu` reports what ATEN_CPU_CAPABILITY allows instead.
    has_avx2, has_avx512 = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx2", "avx512"))
    if has_avx2 is None or has_avx512 is None:
        return "unknown"
    cpu: InstructionSet = "AVX-512" if has_avx512() else "AVX2" if has_avx2() else "AVX"
    limit = _isa_limit(os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "")
    return min(cpu, limit, key=_X86.index)


def _isa_limit(name: str) -> InstructionSet:
    """The newest instructions that a value of ONEDNN_MAX_CPU_ISA allows; oneDNN ignores unknown values."""
    limits: dict[str, InstructionSet] = {"SSE41": "SSE4.1", "AVX": "AVX"}
    limits |= dict.fromkeys(("AVX2", "AVX2_VNNI", "AVX2_VNNI_2"), "AVX2")
    return limits.get(name.upper(), "AVX-512")


def find_convolutions(model: nn.Module, shape: tuple[int, int, int]) -> list[Convolution]:
    """List the 2D convolutions of a forward pass of one image of `shape` (C, H, W), modules and functions alike.

    Uses the model's current layout; does not change the model.
    """
    recorder = _Recorder()
    image = torch.zeros(1, *shape, device=next(model.parameters()).device)
    with preserve_modes(model), torch.no_grad(), recorder:
        model.eval()(image)
    return recorder.found


def lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    """Convert the weights of `model` to `layout`, in place; a contiguous `Normalized` converts its inputs too."""
    model.to(memory_format=layout)
    if isinstance(model, Normalized):
        model.plain_inputs = layout is torch.contiguous_format


class _Recorder(TorchDispatchMode):
    """Records the convolutions that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Convolution] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.convolution.default and args[1].ndim == 4:
            x, weight, stride = args[0], args[1], args[3]
            kernel = tuple(weight.shape[2:])
            steps = tuple(stride) * (len(kernel) // len(stride))
            last = any(_is_channels_last(each) for each in (x, weight))
            self.found.append(Convolution(weight.shape[1], kernel, steps, last))
        return function(*args, **(kwargs or {}))


def _is_channels_last(tensor: Tensor) -> bool:
    """Whether torch treats a 4D tensor as channels_last, by c10's rule; one-channel tensors can match both layouts."""
    least = 0
    for dimension in (1, 3, 2, 0):
        stride, size = tensor.stride(dimension), tensor.size(dimension)
        if size == 0 or stride < least or (dimension == 1 and stride == 0):
            return False
        if dimension == 0 and least == tensor.stride(1):
            return False
        least = stride * max(size, 1)
    return True
