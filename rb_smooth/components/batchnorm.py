"""BatchNorm: choose batch or running statistics, protect the running ones, recalibrate them before evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rb_smooth.components.weights import preserve
from rb_smooth.core import distributed
from rb_smooth.core.determinism import preserve_rng

if TYPE_CHECKING:
    from rb_smooth.components.interfaces import Objective


BatchNormMode = Literal["train", "eval"]
Batch = tuple[Tensor, Tensor, Tensor]  # x, x_adv, y


def batchnorm_layers(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers with running statistics."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


def _unfrozen_layers(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers except frozen ones: those in eval mode in a model in train mode."""
    return [layer for layer in batchnorm_layers(model) if layer.training or not model.training]


def running_stats(model: nn.Module) -> list[Tensor]:
    """Return all running means, running variances and batch counts."""
    return [buffer for layer in batchnorm_layers(model) for buffer in layer.buffers(recurse=False)]


@contextmanager
def preserve_modes(model: nn.Module) -> Iterator[None]:
    """Restore each module's train or eval mode on exit, also on an exception."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def batchnorm_mode(model: nn.Module, bn_mode: BatchNormMode) -> Iterator[None]:
    """Inside, the model is in eval mode; BatchNorm uses batch statistics if `bn_mode` is "train".

    Frozen BatchNorm layers (in eval mode in a model in train mode) stay in eval mode.
    """
    unfrozen = _unfrozen_layers(model)
    with preserve_modes(model):
        model.eval()
        for layer in unfrozen:
            layer.train(bn_mode == "train")
        yield


@contextmanager
def frozen_running_stats(model: nn.Module) -> Iterator[None]:
    """Restore the running statistics on exit, bit for bit, also on an exception."""
    with preserve(running_stats(model)):
        yield


def recalibrate(model: nn.Module, objective: Objective, batches: Iterable[Batch]) -> None:
    """Set the running statistics to the mean of the batch statistics over `objective.loss` on `batches`.

    Training collects running statistics at w'; evaluation uses w or an average. This repeats training's forward passes
    at the model's current weights, without gradients. Without batches or BatchNorm nothing changes; frozen layers keep
    their statistics. Modes and random state are restored. With several processes, each with its shard of the
    minibatches, all end with the same statistics.
    """
    batches, norms = list(batches), _unfrozen_layers(model)
    if batches and norms:
        _accumulate_statistics(model, norms, objective, batches)
    if distributed.world_size() > 1:
        _all_reduce_statistics(norms)


def _accumulate_statistics(
    model: nn.Module, norms: list[_BatchNorm], objective: Objective, batches: list[Batch]
) -> None:
    """Set the running statistics to their mean over the objective's forward passes on `batches`."""
    momenta = [layer.momentum for layer in norms]
    with preserve_modes(model), torch.no_grad(), preserve_rng():
        if not model.training:
            model.train()
        for layer in norms:
            layer.reset_running_stats()
            layer.momentum = None  # None: cumulative mean
        try:
            for x, x_adv, y in batches:
                objective.loss(model, x, x_adv, y)
        finally:
            for layer, momentum in zip(norms, momenta, strict=True):
                layer.momentum = momentum


def _all_reduce_statistics(norms: list[_BatchNorm]) -> None:
    """Pool the running statistics of all processes: average E[x] and E[x^2]."""
    for layer in norms:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean = layer.running_mean.double()
        square = layer.running_var.double() + mean**2
        distributed.all_reduce_mean([mean, square])
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(square - mean**2)
