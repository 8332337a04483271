"""Typed, immutable recipes. `validate.check_recipe` makes one from sections; `Recipe.build` builds its components.

The docstring below a key is its reference, shown by `recipe keys` (reference.py): (unit) description. Source: origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from rb_smooth.config import registry
from rb_smooth.config.option_types import Count, CountOrNone, Epochs, Seed, SplitSeed, convert_section
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import counted

if TYPE_CHECKING:
    from rb_smooth.core.threat import Threat
    from rb_smooth.data.datasets import RawDataset


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Extra(_Section):
    """`data.extra:` generated or unlabelled images, mixed into every minibatch."""

    file: str
    """(path of an .npz) It holds `image` (N, H, W, C) uint8 and, where labels are given, `label` (N,). Source: the form
    in which such images are published."""
    share: float = Field(gt=0, lt=1)
    """(share, in whole images) How much of every minibatch is from the file. Source: ours."""
    labels: Literal["given", "pseudo"] = "given"
    """Those in the file, or, pseudo, what `labeller` takes the images for. Source: ours."""
    labeller: str | None = None
    """(a finished run's folder) Its best weights label the images where `labels` is pseudo. Source: ours."""


class Data(BaseModel):
    """`data:` what every data set takes; further keys are the options of the one that `name` names."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    name: str
    """(a data set) Which one; it decides the board that entries stand on. Source: ours."""
    batch_size: Count
    """(images) In a minibatch, of all processes together. Source: the AWP authors' code, 128; inferred for Kanai et
    al."""
    augment: tuple[Any, ...] = ()
    """(list of names, or {name: …, options}) What each minibatch of training goes through, in this order. Source: the
    AWP authors' code, other ones for each data set; inferred for Kanai et al."""
    standardise: bool = True
    """Whether the model subtracts the data's mean and divides by their standard deviation; inputs stay in [0, 1].
    Source: Kanai et al., appendix E; not for TRADES, their appendix F.2."""
    extra: Extra | None = None
    """(keys of `data.extra`) Generated or unlabelled images, mixed into every minibatch. Source: ours."""
    validation: CountOrNone = 0
    """(images) Held out of the training set, stratified, to choose the best epoch on. Source: ours; both papers choose
    on the test set."""
    split_seed: SplitSeed = 0
    """Seed of the choice of `validation` and `train_examples`: equal for every seed and method. Source: ours."""
    train_examples: Count | None = None
    """(images) Train on a stratified part of this size; default: on all images. Source: ours."""

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @property
    def augmentations(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and options of each: `flip`, or `{name: crop, border: zero}`."""
        listed = [{"name": each} if isinstance(each, str) else each for each in self.augment]
        for each in listed:
            if not isinstance(each, dict) or not isinstance(each.get("name"), str):
                raise UserError(
                    f"expected data.augment to list `flip` or `{{name: crop, …}}`, got {each!r}; correct it"
                )
        return [(each["name"], {key: each[key] for key in each if key != "name"}) for each in listed]


def load_raw_dataset(section: Mapping[str, Any], data_dir: Path) -> RawDataset:
    """Load the data set of a `data:` section; keys of `Data` are optional and ignored.

    One of another package is never `official`, since the verification of its files is unknown.
    """
    options = {key: value for key, value in section.items() if key not in Data.model_fields}
    source: RawDataset = registry.build_component("data", section["name"], options, data_dir)
    return source if registry.package_of("data", section["name"]) is None else replace(source, official=False)


class Train(_Section):
    """`train:` how long, from which seed, and how the best epoch is chosen."""

    epochs: Epochs
    """(epochs) Passes over the training images, whatever the optimizer. Source: the AWP authors' code, 200; inferred
    for Kanai et al."""
    seed: Seed = 0
    """For initialisation, shuffling, augmentation, attacks' starts and noise. Source: ours."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of forward and backward passes; weights, their gradients and the optimizer's state are always fp32.
    auto: bf16 on GPUs that support it, and on such CPUs for networks of at least 1 GFLOP per minibatch; else fp32.
    Source: ours."""
    channels_last: bool | Literal["auto"] = "auto"
    """Memory layout of the weights. auto: channels_last, which is faster, unless oneDNN's kernels are known to be wrong
    for one of the network's convolutions on this CPU; true: an error in that case. Source: ours
    (benchmarks/precision.json, benchmarks/conv-layouts.json)."""
    compile: bool | Literal["auto", "reduce-overhead"] = "auto"
    """Compile the passes of the attack, and those of training, with torch.compile; auto: on a GPU, for one process with
    CUDA graphs. reduce-overhead: with CUDA graphs. Source: ours."""
    select: Literal["validation", "test"] = "validation"
    """Images on which the best epoch is chosen, by PGD-20 accuracy (clean accuracy for `standard`); test: no images are
    held out of training. Source: ours; both papers choose on the test set."""
    select_rule: Literal["maximum", "mean3", "mean121", "latest"] = "maximum"
    """The best epoch. maximum: the first with the highest accuracy. mean3, mean121: of the mean with both neighbours
    (mean121: weights 1, 2, 1). latest: the latest within a standard error of the maximum. Source: ours."""
    recalibrate: int = Field(16, ge=0, le=10_000)
    """(minibatches) The last training minibatches, from which BatchNorm's statistics are computed before every
    evaluation; 0: not recomputed. Source: ours; the Entropy-SGD authors' code uses an epoch."""
    keep: tuple[CountOrNone, ...] = ()
    """(list of epochs) Store the deployed weights after so many epochs, as `epoch-<n>.pt`; 0: initial. Source: ours."""
    log_test: CountOrNone = 0
    """(images) Log the accuracy on the first test images every epoch; nothing is chosen by it. Source: ours."""
    scaled_from: Epochs | None = None
    """(epochs) The recipe's original length; set by `--epochs`, not by hand. Source: ours."""
    sync_bn: bool = False
    """BatchNorm normalises over the minibatch of all processes; GPUs only. Source: torch's SyncBatchNorm."""
    start: str | None = None
    """(path of a checkpoint) Initial weights, in any common form; default: random ones. Source: ours."""


class Evaluate(_Section):
    """`evaluate:` the final attack; norm, eps and step_size default to the objective's."""

    attack: Literal["autoattack"] = "autoattack"
    """Attack after clean accuracy and PGD-20. Source: Croce and Hein, arXiv 2003.01690."""
    version: Literal["standard", "quick"] = "standard"
    """standard: AutoAttack. quick: its first two attacks, APGD-CE and APGD-T, on the points that PGD-20 did not break;
    an upper bound of AutoAttack's accuracy, labelled so and not ranked with it. Source: Croce and Hein, arXiv
    2003.01690; quick is ours."""
    n_examples: Count = 10_000
    """(images) Test points, the first ones. Source: RobustBench."""
    batch_size: Count = 250
    """(images) Points per attack batch; part of the protocol, since each batch has one random stream. Source:
    AutoAttack's own."""
    seed: Seed = 0
    """For the attacks' random numbers. Source: ours."""
    keep_adversarial: CountOrNone = 12
    """(images) Store the adversarial examples of the first test points. Source: ours."""
    norm: Literal["Linf", "L2"] | None = None
    """Norm of the threat model; default: the objective's. Source: ours."""
    eps: PositiveFloat | None = None
    """(pixels from 0 to 1) Its radius; default: the objective's. Source: ours; RobustBench ranks at 8/255 in
    Linf and at 0.5 in L2."""
    step_size: PositiveFloat | None = None
    """(pixels from 0 to 1) For PGD-20, not for AutoAttack; default: the objective's. Source: Kanai et al., appendix
    E: the same as in training."""


def parse_protocol(keys: Mapping[str, Any]) -> Evaluate:
    """An `Evaluate` of these keys, with defaults for the others. Raises UserError for invalid keys."""
    return convert_section(Evaluate, keys, "evaluate")


@dataclass(frozen=True)
class Stage:
    """A component with its options, active from epoch `from_epoch` on (from 0)."""

    kind: str
    name: str
    options: Mapping[str, Any]
    from_epoch: int = 0

    @cached_property
    def checked(self) -> dict[str, Any]:
        """`options` in the types that the constructor takes. Raises UserError for an invalid name or option."""
        return registry.check_options(self.kind, self.name, self.options)

    def build(self, *args: Any, **injected: Any) -> Any:
        """Build the component with `args` and those of `injected` that it takes. Raises UserError."""
        return registry.construct_component(self.kind, self.name, self.checked, *args, **injected)


@dataclass(frozen=True)
class Recipe:
    """A validated recipe. `sections` holds the resolved plain values, for storage; the other fields are typed."""

    dataset: str
    method: str
    sections: Mapping[str, Any]
    data: Data
    train: Train
    evaluate: Evaluate
    stages: Mapping[str, tuple[Stage, ...]]

    @property
    def title(self) -> str:
        """`at+ensgd`, or `at+ensgd (30 epochs, selected on test)`: the method with its deviations."""
        net = self.stage("model")
        notes = [] if self.train.scaled_from is None else [counted(self.train.epochs, "epoch")]
        notes += [f"from {net.options['id']}"] if net.name == "robustbench" and self.train.start is None else []
        notes += ["selected on test"] if self.train.select == "test" else []
        notes += [f"selected by {self.train.select_rule}"] if self.train.select_rule != "maximum" else []
        return f"{self.method} ({', '.join(notes)})" if notes else self.method

    @property
    def stages_text(self) -> str:
        """`optimizer: sgd, entropy_sgd from epoch 5` for each section with stages; empty if none has."""
        return "; ".join(
            f"{kind}: {', '.join(s.name + (f' from epoch {s.from_epoch}' if s.from_epoch else '') for s in stages)}"
            for kind, stages in self.stages.items()
            if len(stages) > 1
        )

    @property
    def packages(self) -> dict[str, str]:
        """Packages of the components that are not built in: {"perturbation.sam": "rb-smooth-sam 0.1"}."""
        named = [(kind, stage.name) for kind, stages in self.stages.items() for stage in stages]
        named += [("data", self.data.name), *(("augmentation", name) for name, _ in self.data.augmentations)]
        return registry.packages_of(named)

    def stage(self, kind: str, epoch: int = 0) -> Stage:
        """The stage of section `kind` that is active at `epoch`."""
        return [stage for stage in self.stages[kind] if stage.from_epoch <= epoch][-1]

    def build(self, kind: str, *args: Any, epoch: int = 0, **injected: Any) -> Any:
        """Build the component of section `kind` at `epoch`, with `args` and those of `injected` that it takes."""
        return self.stage(kind, epoch).build(*args, **injected)

    @cached_property
    def augmentations(self) -> tuple[Stage, ...]:
        return tuple(Stage("augmentation", name, options) for name, options in self.data.augmentations)

    @cached_property
    def trained_threat(self) -> Threat | None:
        """Threat model of the last objective, used to select the best epoch; None for standard training."""
        threat: Threat | None = self.build("objective", epoch=self.train.epochs - 1).threat
        return threat

    @cached_property
    def threat(self) -> Threat:
        """Threat model of the evaluation: `evaluate`, with defaults from the last objective.

        Raises UserError if neither defines it completely.
        """
        from rb_smooth.core.threat import Threat

        trained, asked = self.trained_threat, self.evaluate
        if trained is None or asked.norm not in (None, trained.norm):
            if asked.norm is None or asked.eps is None or asked.step_size is None:
                raise UserError(
                    "expected evaluate.norm, eps and step_size for training without a threat model or with another "
                    "norm, got only some; set all three"
                )
            threat = Threat(asked.norm, asked.eps, asked.step_size)
        else:
            eps = trained.eps if asked.eps is None else asked.eps
            threat = Threat(trained.norm, eps, trained.step_size if asked.step_size is None else asked.step_size)
        try:
            return threat.check()
        except ValueError as error:
            raise UserError(f"evaluate: {error}; correct it") from None
