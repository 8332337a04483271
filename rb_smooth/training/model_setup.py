"""The network of a run: which weights it starts from, in which precision it computes, and in which form the training
step sees it.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from rb_smooth.components.checkpoints import load_checkpoint
from rb_smooth.components.flops import is_large
from rb_smooth.components.models import Normalized
from rb_smooth.config.registry import build_model, default_options
from rb_smooth.config.schema import Recipe, Stage, Train
from rb_smooth.core import distributed, robustbench
from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.data.splits import DataSplits

_COMPILER = "inductor"

Compiled = bool | Literal["reduce-overhead"]


class ComputeConfig(NamedTuple):
    """How a run's network computes: what `train.precision` and `compile` come to where it runs."""

    precision: Literal["fp32", "bf16"]
    compiled: Compiled


def build_network(recipe: Recipe, data: DataSplits, starts_training: bool) -> Normalized:
    """The network at its start: drawn at random, or with the weights that the recipe names."""
    net, source, classes = recipe.stage("model"), data.source, len(data.source.classes)
    standardise = recipe.data.standardise and zoo_model(net, classes) is None  # published models do it themselves
    moments = (source.mean, source.std) if standardise else ()
    model = build_model(net.name, net.options, data.shape, classes, *moments)
    if starts_training:
        load_initial_weights(model, recipe, classes)
    if recipe.train.sync_bn:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place, within `model`; same names in its state
    return model


def choose_compute_config(
    train: Train, model: nn.Module, shape: tuple[int, int, int], images: int, device: torch.device
) -> ComputeConfig:
    """What `train` asks for, `auto` resolved for minibatches of `images` images of `shape` (C, H, W) on `device`.

    It follows from recipe, data and device alone, not from the number of processes: any number may go on from another.
    """
    gpu = device.type == "cuda"
    by_halves = computes_in_bf16(device) and (gpu or is_large(model, shape, images))
    return ComputeConfig(
        precision=("bf16" if by_halves else "fp32") if train.precision == "auto" else train.precision,
        compiled=_auto_config(gpu) if train.compile == "auto" else train.compile,
    )


def _auto_config(gpu: bool) -> Compiled:
    """On a GPU in CUDA graphs: a pass is so short that launching its kernels one by one takes longer than they do.

    A step of 128 images takes 0.35 to 0.42 of the time that compiling alone gives (benchmarks/gpu.json, H200). Graphs
    beside the gradient exchange of several processes have not been seen to work: these do without.
    """
    return "reduce-overhead" if gpu and distributed.world_size() == 1 else gpu


def computes_in_bf16(device: torch.device) -> bool:
    """Whether `device` has instructions for bfloat16; without them it is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Every CPU with AMX has AVX512_BF16 too. torch >= 2.6 can tell, but by no public name.
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and native is not None and native()


def compile_and_wrap(
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
        model = CloneOutputs(model)
    return distributed.wrap_ddp(model, device)


class CloneOutputs(nn.Module):
    """A network in CUDA graphs whose outputs outlast its next pass, which writes where the graph's own outputs lie.

    TRADES needs it: all its attack's steps compare with the prediction for x. Gradients need no copy: each is read
    before the next pass. Nor does a pass need marking as a new step: torch sees it by the backward pass before it.
    """

    def __init__(self, graphed: nn.Module) -> None:
        super().__init__()
        self.graphed = graphed

    def forward(self, x: Tensor) -> Tensor:
        return self.graphed(x).clone()


def is_compile_error(error: RuntimeError) -> bool:
    """Whether it is torch.compile that failed, and not the network."""
    from torch._dynamo.exc import TorchDynamoException  # a second's import, which eager training can spare

    return isinstance(error, TorchDynamoException)


class ZooModel(NamedTuple):
    """A model of RobustBench's own. folder: the `model_dir` of its loader, to which the user has downloaded weights."""

    name: str
    dataset: str
    threat: str
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / self.dataset / self.threat / f"{self.name}.pt"

    def load(self) -> nn.Module:
        """The model, in eval mode on the CPU: images (B, C, H, W) in [0, 1] -> logits (B, classes).

        Raises UserError, and touches no network, for an unknown name and where there is no file, or one of another
        kind.
        """
        if self.name not in (known := robustbench.zoo_table(self.dataset, self.threat)):
            raise UserError(
                f"expected a model of RobustBench's for {self.dataset} {self.threat}, {did_you_mean(self.name, known)}"
            )
        call = f"robustbench.load_model({self.name!r}, {str(self.folder)!r}, {self.dataset!r}, {self.threat!r})"
        if not self.path.exists():
            raise UserError(
                f"expected the weights of {self.name} in {self.path}, got nothing there; download them with {call}, "
                "or say where they are: --zoo-dir, or --set model.zoo_dir=… of a recipe"
            )
        load = robustbench.import_robustbench().load_model
        try:
            model: nn.Module = load(self.name, str(self.folder), dataset=self.dataset, threat_model=self.threat)
        except (pickle.UnpicklingError, EOFError):
            raise UserError(
                f"expected the weights of {self.name} in {self.path}, got a damaged or foreign file (a web page, where "
                f"a download was refused); delete it and download them again with {call}, or with a browser"
            ) from None
        return model.eval()


def zoo_model(net: Stage, classes: int) -> ZooModel | None:
    """The published model that a recipe's `model:` names; None if it names an architecture."""
    if net.name != "robustbench":
        return None
    options = default_options("model", net.name) | dict(net.options)
    return ZooModel(options["id"], robustbench.zoo_dataset(classes), options["threat"], Path(options["zoo_dir"]))


def initial_weights_file(recipe: Recipe, classes: int) -> Path | None:
    """The weights from which the recipe's training starts; None: it starts at random."""
    if recipe.train.start is not None:
        return Path(recipe.train.start)
    published = zoo_model(recipe.stage("model"), classes)
    return None if published is None else published.path


def load_initial_weights(model: Normalized, recipe: Recipe, classes: int) -> None:
    """Give `model` these weights; nothing where there are none. Raises UserError if they are missing or another's."""
    if recipe.train.start is not None:
        load_checkpoint(model, Path(recipe.train.start))
    elif (published := zoo_model(recipe.stage("model"), classes)) is not None:
        model.net.load_state_dict(published.load().state_dict())
