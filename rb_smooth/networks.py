"""The network of a run: how it starts, in which precision it computes, and in which form the training step sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rb_smooth import processes
from rb_smooth.batchnorm import modes_kept
from rb_smooth.declaration import Recipe, Train
from rb_smooth.models import Normalized
from rb_smooth.pretrained import give_start, zoo_model
from rb_smooth.registry import build_model
from rb_smooth.splits import Dataset

_COMPILER = "inductor"

_LARGE_FLOP = 1e9
"""FLOPs of a minibatch's forward pass below which a CPU gains little by bfloat16, and nothing by a second thread.

A step's time in bf16 and channels_last over fp32's: 0.85 at 0.1e9 FLOPs, 0.74 at 1.6e9, 0.55 at 18e9, in medians
(benchmarks/precision.json).
"""

THREADS = torch.get_num_threads()
"""torch's own number, before a small net gives them up: another one of the same command may want them."""

Compiled = bool | Literal["reduce-overhead"]


class Form(NamedTuple):
    """How a run's network computes: what `train.precision` and `compile` come to where it runs."""

    precision: Literal["fp32", "bf16"]
    compiled: Compiled


def new_network(recipe: Recipe, data: Dataset, begins: bool) -> Normalized:
    """The network at its start: drawn at random, or with the weights that the recipe names (`pretrained`)."""
    net, source, classes = recipe.stage("model"), data.source, len(data.source.classes)
    standardise = recipe.data.standardise and zoo_model(net, classes) is None  # published models do it themselves
    moments = (source.mean, source.std) if standardise else ()
    model = build_model(net.name, net.options, data.shape, classes, *moments)
    if begins:
        give_start(model, recipe, classes)
    if recipe.train.sync_bn:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place, within `model`; same names in its state
    return model


def chosen_form(train: Train, model: nn.Module, shape: tuple[int, int, int], images: int, device: torch.device) -> Form:
    """What `train` asks for, `auto` resolved for minibatches of `images` images of `shape` (C, H, W) on `device`.

    It follows from recipe, data and device alone, not from the number of processes: any number may go on from another.
    """
    gpu = device.type == "cuda"
    by_halves = computes_in_bf16(device) and (gpu or is_large(model, shape, images))
    return Form(
        precision=("bf16" if by_halves else "fp32") if train.precision == "auto" else train.precision,
        compiled=_best_form(gpu) if train.compile == "auto" else train.compile,
    )


def _best_form(gpu: bool) -> Compiled:
    """On a GPU in CUDA graphs: a pass is so short that launching its kernels one by one takes longer than they do.

    A step of 128 images takes 0.35 to 0.42 of the time that compiling alone gives (benchmarks/gpu.json, H200). Graphs
    beside the gradient exchange of several processes have not been seen to work: these do without.
    """
    return "reduce-overhead" if gpu and processes.size() == 1 else gpu


def computes_in_bf16(device: torch.device) -> bool:
    """Whether `device` has instructions for bfloat16; without them it is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Every CPU with AMX has AVX512_BF16 too. torch >= 2.6 can tell, but by no public name.
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and native is not None and native()


def is_large(model: nn.Module, shape: tuple[int, int, int], images: int) -> bool:
    """Whether a forward pass of a minibatch is work enough for a CPU's second thread and for its bfloat16."""
    return forward_flop(model, shape) * images >= _LARGE_FLOP


def choose_threads(model: nn.Module, shape: tuple[int, int, int], images: int) -> bool:
    """One CPU thread for a net so small that a second gains nothing, and loses much by waiting on a busy machine; for
    a larger one torch's own number, which is the machine's. images: in a minibatch. Returns whether the net is large.
    """
    large = is_large(model, shape, images)
    torch.set_num_threads(THREADS if large else 1)
    return large


def forward_flop(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """FLOPs of the forward pass of one image of `shape` (C, H, W), counted by torch. Leaves `model` as found."""
    image = torch.zeros(1, *shape, device=next(model.parameters()).device)
    with modes_kept(model), torch.no_grad():
        return counted_flop(lambda: model.eval()(image))


def counted_flop(work: Callable[[], object]) -> int:
    """FLOPs of `work`'s convolutions and matrix products, forward and backward, as torch counts them."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    with counter:
        work()
    return counter.get_total_flops()


class _NoModules:
    """In the place of the counter's module tracker, whose hooks an attack's autograd.grad to its input breaks."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...


def trained_form(
    model: nn.Module, device: torch.device, compiled: Compiled, layout: torch.memory_format = torch.channels_last
) -> nn.Module:
    """`model` as the training step calls it: compiled, and its gradients averaged over the processes.

    torch compiles it once with the parameters frozen, for crafting, and once with them free, for training: a compiled
    backward pass would otherwise compute gradients of weights that nobody wants. Evaluation uses `model` itself, which
    sees too many batch sizes to compile for, and which AutoAttack takes for a dynamic defence if it is compiled.

    layout: of `model`. Where it is plain, the compiler must not choose channels_last by itself, as it does on CPUs.
    """
    if compiled:
        if compiled is True and layout is torch.contiguous_format and _COMPILER == "inductor":
            form: dict[str, Any] = {"options": {"layout_optimization": False}}
        else:
            form = {"mode": None if compiled is True else compiled}
        model = cast(nn.Module, torch.compile(model, backend=_COMPILER, dynamic=False, **form))
    if compiled == "reduce-overhead":
        model = OutputsKept(model)
    return processes.replicated(model, device)


class OutputsKept(nn.Module):
    """A network in CUDA graphs whose outputs outlast its next pass, which writes where the graph's own outputs lie.

    TRADES needs it: all its attack's steps compare with the prediction for x. Gradients need no copy: each is read
    before the next pass. Nor does a pass need marking as a new step: torch sees it by the backward pass before it.
    """

    def __init__(self, graphed: nn.Module) -> None:
        super().__init__()
        self.graphed = graphed

    def forward(self, x: Tensor) -> Tensor:
        return self.graphed(x).clone()


def comes_from_compiling(error: RuntimeError) -> bool:
    """Whether it is torch.compile that failed, and not the network."""
    from torch._dynamo.exc import TorchDynamoException  # a second's import, which eager training can spare

    return isinstance(error, TorchDynamoException)
