"""The network of a run: how it starts, in which precision it computes, and in which form the training step sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import torch
from torch import nn

from rb_smooth import processes
from rb_smooth.checkpoints import start_from
from rb_smooth.declaration import Recipe
from rb_smooth.models import Normalized
from rb_smooth.registry import build_model
from rb_smooth.splits import Dataset

_COMPILER = "inductor"


def new_network(recipe: Recipe, data: Dataset, begins: bool) -> Normalized:
    """The network at its start: drawn at random, or from the checkpoint that the recipe names."""
    net, source = recipe.stage("model"), data.source
    moments = (source.mean, source.std) if recipe.data.standardise else ()
    model = build_model(net.name, net.options, data.shape, len(source.classes), *moments)
    if begins and recipe.train.start is not None:
        start_from(model, Path(recipe.train.start))
    if recipe.train.sync_bn:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place, within `model`; same names in its state
    return model


def trained_form(model: nn.Module, device: torch.device, compiled: bool) -> nn.Module:
    """`model` as the training step calls it: compiled, and its gradients averaged over the processes.

    torch compiles it once with the parameters frozen, for crafting, and once with them free, for training: a compiled
    backward pass would otherwise compute gradients of weights that nobody wants. Evaluation uses `model` itself, which
    sees too many batch sizes to compile for, and which AutoAttack takes for a dynamic defence if it is compiled.
    """
    if compiled:
        model = cast(nn.Module, torch.compile(model, backend=_COMPILER, dynamic=False))
    return processes.replicated(model, device)


def comes_from_compiling(error: RuntimeError) -> bool:
    """Whether it is torch.compile that failed, and not the network."""
    from torch._dynamo.exc import TorchDynamoException  # a second's import, which eager training can spare

    return isinstance(error, TorchDynamoException)


def resolved(wish: bool | Literal["auto"], device: torch.device) -> bool:
    """What `auto` means for channels_last and compile: on a GPU they pay, on a CPU often not."""
    return device.type == "cuda" if wish == "auto" else wish


def chosen_precision(recipe: Recipe, device: torch.device) -> str:
    """ "bf16" or "fp32"; `auto` is bf16 on GPUs that compute in it natively."""
    if recipe.train.precision != "auto":
        return recipe.train.precision
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"
