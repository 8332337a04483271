"""The network of a run: how it starts, in which precision it computes, and in which form the training step sees it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from rb_smooth import processes
from rb_smooth.checkpoints import start_from
from rb_smooth.declaration import Recipe
from rb_smooth.models import Normalized
from rb_smooth.registry import build_model
from rb_smooth.splits import Dataset


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


def trained_form(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` as the training step calls it: its gradients averaged over the processes."""
    return processes.replicated(model, device)


def chosen_precision(recipe: Recipe, device: torch.device) -> str:
    """ "bf16" or "fp32"; `auto` is bf16 on GPUs that compute in it natively."""
    if recipe.train.precision != "auto":
        return recipe.train.precision
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"
