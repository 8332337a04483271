"""Set up a run's network: initial weights, precision, compilation."""

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
from rb_smooth.core.determinism import INIT, derive_seed
from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.core.input_files import regular_file
from rb_smooth.data.splits import DataSplits

_COMPILER = "inductor"

Compiled = bool | Literal["reduce-overhead"]


class ComputeConfig(NamedTuple):
    """Precision and compilation of a run's network, resolved for its device."""

    precision: Literal["fp32", "bf16"]
    compiled: Compiled


def build_network(recipe: Recipe, data: DataSplits) -> Normalized:
    """Build the recipe's network with random weights, drawn from the recipe's seed, on the CPU. Seeds torch."""
    torch.manual_seed(derive_seed(recipe.train.seed, INIT))
    net, source, classes = recipe.stage("model"), data.source, len(data.source.classes)
    standardise = recipe.data.standardise and zoo_model(net, classes) is None  # RobustBench's models normalise
    moments = source.normalisation if standardise else ()
    return build_model(net.name, net.options, data.shape, classes, *moments)


def choose_compute_config(
    train: Train, model: nn.Module, shape: tuple[int, int, int], images: int, device: torch.device
) -> ComputeConfig:
    """Resolve `auto` in `train.precision` and `train.compile`, for minibatches of `images` images of `shape` (C, H, W).

    The precision depends on recipe, data and device, not on the number of processes: a run may resume on any number.
    """
    gpu = device.type == "cuda"
    use_bf16 = computes_in_bf16(device) and (gpu or is_large(model, shape, images))
    return ComputeConfig(
        precision=("bf16" if use_bf16 else "fp32") if train.precision == "auto" else train.precision,
        compiled=_auto_compile(gpu) if train.compile == "auto" else train.compile,
    )


def _auto_compile(gpu: bool) -> Compiled:
    """CUDA graphs on one GPU, because launching the kernels takes longer than running them; none on CPUs.

    A step of 128 images takes 0.35 to 0.42 of the time of a compiled step without graphs (benchmarks/gpu.json, H200).
    CUDA graphs are untested with DistributedDataParallel, so several processes compile without them.
    """
    return "reduce-overhead" if gpu and distributed.world_size() == 1 else gpu


def computes_in_bf16(device: torch.device) -> bool:
    """Whether `device` has bfloat16 instructions; without them bf16 is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Every CPU with AMX has AVX512_BF16 too. torch >= 2.6 can tell, but by no public name.
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and native is not None and native()


def compile_and_wrap(
    model: nn.Module, device: torch.device, compiled: Compiled, layout: torch.memory_format = torch.channels_last
) -> nn.Module:
    """Compile `model` and wrap it in DistributedDataParallel, for the training step.

    torch compiles twice: with parameters that need no gradient, for the attack, and with parameters that do, for the
    update. Evaluation uses the uncompiled `model`: it has many batch sizes, and AutoAttack reports a compiled model as
    a dynamic defence.

    layout: of `model`. The compiler may not replace plain layout by channels_last, as it does on CPUs.
    """
    if compiled:
        if compiled is True and layout is torch.contiguous_format and _COMPILER == "inductor":
            settings: dict[str, Any] = {"options": {"layout_optimization": False}}
        else:
            settings = {"mode": None if compiled is True else compiled}
        model = cast(nn.Module, torch.compile(model, backend=_COMPILER, dynamic=False, **settings))
    if compiled == "reduce-overhead":
        model = CloneOutputs(model)
    return distributed.wrap_ddp(model, device)


class CloneOutputs(nn.Module):
    """Clone the outputs of a network in CUDA graphs, whose next pass overwrites them.

    TRADES needs it: every step of its attack compares with the prediction for x. Gradients need no copy, as each is
    read before the next pass. No pass needs marking as a new step: torch detects it by the backward pass before it.
    """

    def __init__(self, graphed: nn.Module) -> None:
        super().__init__()
        self.graphed = graphed

    def forward(self, x: Tensor) -> Tensor:
        return self.graphed(x).clone()


def is_compile_error(error: RuntimeError) -> bool:
    """Whether `error` comes from torch.compile and not from the network."""
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import; eager training does not need it

    return isinstance(error, TorchDynamoException)


class ZooModel(NamedTuple):
    """A model of RobustBench's zoo. folder: `model_dir` of RobustBench's loader, with the downloaded weights."""

    name: str
    dataset: str
    threat: str
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / self.dataset / self.threat / f"{self.name}.pt"

    def load(self) -> nn.Module:
        """Load the model in eval mode on the CPU: images (B, C, H, W) in [0, 1] -> logits (B, classes).

        Downloads nothing. Raises UserError if the name is unknown, or the file is missing or damaged.
        """
        if self.name not in (known := robustbench.zoo_table(self.dataset, self.threat)):
            raise UserError(
                f"expected a model of RobustBench's for {self.dataset} {self.threat}, {did_you_mean(self.name, known)}"
            )
        call = f"robustbench.load_model({self.name!r}, {str(self.folder)!r}, {self.dataset!r}, {self.threat!r})"
        if not self.path.exists():
            raise UserError(
                f"expected the weights of {self.name} in {self.path}, got no file; download them with {call}, "
                "or set their folder: --zoo-dir, or --set model.zoo_dir=… of a recipe"
            )
        regular_file(self.path)
        load = robustbench.import_robustbench().load_model
        try:
            model: nn.Module = load(self.name, str(self.folder), dataset=self.dataset, threat_model=self.threat)
        except (pickle.UnpicklingError, EOFError):
            raise UserError(
                f"expected the weights of {self.name} in {self.path}, got a damaged or foreign file (such as the "
                f"web page of a failed download); delete it and download them again with {call}, or with a browser"
            ) from None
        return model.eval()


def zoo_model(net: Stage, classes: int) -> ZooModel | None:
    """The RobustBench model that a recipe's `model:` names; None if it names an architecture."""
    if net.name != "robustbench":
        return None
    options = default_options("model", net.name) | dict(net.options)
    return ZooModel(options["id"], robustbench.zoo_dataset(classes), options["threat"], Path(options["zoo_dir"]))


def initial_weights_file(recipe: Recipe, classes: int) -> Path | None:
    """File of the weights from which training starts; None if they are random."""
    if recipe.train.start is not None:
        return Path(recipe.train.start)
    published = zoo_model(recipe.stage("model"), classes)
    return None if published is None else published.path


def load_initial_weights(model: Normalized, recipe: Recipe, classes: int) -> None:
    """Load `initial_weights_file`, if there is one, into `model`. Raises UserError if it is missing or does not fit."""
    if recipe.train.start is not None:
        load_checkpoint(model, Path(recipe.train.start))
    elif (published := zoo_model(recipe.stage("model"), classes)) is not None:
        model.net.load_state_dict(published.load().state_dict())
