"""Every decision about BatchNorm: which statistics normalise, what may move the running ones, what is deployed."""

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
    """The BatchNorm layers of `model` that keep running statistics."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


def _unfrozen_layers(model: nn.Module) -> list[_BatchNorm]:
    """Those not frozen by hand: a layer in eval mode within a model in train mode was put there on purpose."""
    return [layer for layer in batchnorm_layers(model) if layer.training or not model.training]


def running_stats(model: nn.Module) -> list[Tensor]:
    """Every running mean, running variance and batch count of `model`."""
    return [buffer for layer in batchnorm_layers(model) for buffer in layer.buffers(recurse=False)]


@contextmanager
def preserve_modes(model: nn.Module) -> Iterator[None]:
    """Each module leaves in the mode, train or eval, in which it came: layers frozen by hand stay frozen."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def batchnorm_mode(model: nn.Module, bn_mode: BatchNormMode) -> Iterator[None]:
    """Inside, the model is in eval mode, its BatchNorm layers normalise by the batch if `bn_mode` is "train".

    Layers frozen by hand (in eval mode within a model in train mode) stay frozen.
    """
    free = _unfrozen_layers(model)
    with preserve_modes(model):
        model.eval()
        for layer in free:
            layer.train(bn_mode == "train")
        yield


@contextmanager
def frozen_running_stats(model: nn.Module) -> Iterator[None]:
    """Whatever is forwarded inside, the running statistics come out bit for bit as they were."""
    with preserve(running_stats(model)):
        yield


def recalibrate(model: nn.Module, objective: Objective, batches: Iterable[Batch]) -> None:
    """Set the running statistics to their plain mean over `objective.loss` on `batches`, without gradient.

    What is deployed is w (or an average), while the running statistics were gathered along the chain w'. The forwards
    are training's, on minibatches that training saw, but at the weights that are deployed. With no batches, or in a
    model without BatchNorm, nothing changes; layers frozen by hand keep their statistics. Modes and the random state
    are left as found. Several processes, each with its share of the minibatches, end with the same statistics.
    """
    batches, norms = list(batches), _unfrozen_layers(model)
    if batches and norms:
        _accumulate_statistics(model, norms, objective, batches)
    if distributed.world_size() > 1:
        _all_reduce_statistics(norms)


def _accumulate_statistics(
    model: nn.Module, norms: list[_BatchNorm], objective: Objective, batches: list[Batch]
) -> None:
    """Running statistics := their plain mean over the objective's forwards on `batches`."""
    momenta = [layer.momentum for layer in norms]
    with preserve_modes(model), torch.no_grad(), preserve_rng():
        if not model.training:
            model.train()
        for layer in norms:
            layer.reset_running_stats()
            layer.momentum = None  # torch's spelling of "cumulative mean"
        try:
            for x, x_adv, y in batches:
                objective.loss(model, x, x_adv, y)
        finally:
            for layer, momentum in zip(norms, momenta, strict=True):
                layer.momentum = momentum


def _all_reduce_statistics(norms: list[_BatchNorm]) -> None:
    """Running statistics := those of all processes' images taken together: the mean of E[x] and of E[x^2]."""
    for layer in norms:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean = layer.running_mean.double()
        square = layer.running_var.double() + mean**2
        distributed.all_reduce_mean([mean, square])
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(square - mean**2)
