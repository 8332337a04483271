"""Validate a recipe's sections, its device and its fit to the data."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from rb_smooth.config.option_types import convert_section
from rb_smooth.config.registry import build_model, check_options, required_options
from rb_smooth.config.schema import Data, Evaluate, Recipe, Stage, Train
from rb_smooth.config.sections import Sections, result_config
from rb_smooth.core import environment, robustbench
from rb_smooth.core.determinism import preserve_rng
from rb_smooth.core.errors import Problems, UserError, first_line
from rb_smooth.core.files import validate_name
from rb_smooth.data.image_spec import ImageSpec, known_image_spec
from rb_smooth.training.recipe_problems import epoch_problems, image_problems

if TYPE_CHECKING:
    import torch

    from rb_smooth.training.run_folder.run import Progress


_OWN_KEYS: dict[str, type[BaseModel]] = {"data": Data, "train": Train, "evaluate": Evaluate}


def check_recipe(dataset: str, method: str, sections: Sections, progress: Progress = "new") -> Recipe:
    """Validate `sections`, before data are read or a GPU is used. Raises UserError with a line for each problem.

    progress: of the run; files that it no longer needs are not checked.
    """
    where, problems = f"recipe {dataset}/{method}", Problems()
    own: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for key, cls in _OWN_KEYS.items():
        with problems.collect():
            own[key] = convert_section(cls, sections[key], f"{where}: {key}")
    stages: dict[str, tuple[Stage, ...]] = {}
    for kind in ("objective", "perturbation", "optimizer", "averaging", "schedule", "model"):
        with problems.collect():
            stages[kind] = _stages(kind, sections[kind], where)
            for stage in stages[kind]:
                _check_component(stage, problems)
    if isinstance(data := own.get("data"), Data):
        with problems.collect():
            options = check_options("data", data.name, data.options, also=Data.model_fields)
        with problems.collect():
            for name, its_options in data.augmentations:
                _check_component(Stage("augmentation", name, its_options), problems)
    problems.raise_any()
    recipe = Recipe(dataset=dataset, method=method, sections=MappingProxyType(sections), stages=stages, **own)
    problems.add(*epoch_problems(recipe, where), *image_problems(recipe, where))
    if progress == "new":
        with problems.collect():  # the name of the entry, which is written last
            validate_name(f"{method}_{recipe.stage('model').name}_s{recipe.train.seed}_123456")
    with problems.collect():
        _ = recipe.threat
    if not problems.messages and (image_spec := known_image_spec(recipe.data.name, options)) is not None:
        with problems.collect():
            check_against_data(recipe, image_spec, progress)
    problems.raise_any()
    return recipe


def _check_component(stage: Stage, problems: Problems) -> None:
    """Build a component. One that cannot be built is tried again with the defaults of the options that it refuses."""
    import torch

    found = Problems()
    with found.collect():
        if stage.kind == "model":
            _ = stage.checked  # raises UserError; built where image shape and classes are known
        else:
            stage.build(*([[torch.zeros(1, requires_grad=True)]] if stage.kind == "optimizer" else []))
    if not found.messages:
        return
    blamed = {word for each in found.messages for word in re.findall(r"\w+", each.partition("; ")[0])}
    problems.add(*(each for each in found.messages if each not in problems.messages))
    blamed -= required_options(stage.kind, stage.name)
    rest = {key: value for key, value in stage.options.items() if key not in blamed}
    if len(rest) < len(stage.options):
        _check_component(replace(stage, options=rest), problems)


def _stages(kind: str, section: Any, where: str) -> tuple[Stage, ...]:
    """Parse a section: one stage, or a list of stages with ascending `from_epoch`, the first 0."""
    if isinstance(section, dict) and "from_epoch" in section:
        raise UserError(f"expected {kind} in {where} to be a list of stages, got one with from_epoch; list them all")
    listed = section if isinstance(section, list) else [section | {"from_epoch": 0}]
    stages = []
    for entry in listed:
        options = dict(entry) if isinstance(entry, dict) else {}
        name, start = options.pop("name", None), options.pop("from_epoch", None)
        if not isinstance(name, str) or type(start) is not int:
            raise UserError(f"expected name and from_epoch in each stage of {kind} in {where}, got {entry!r}; add them")
        stages.append(Stage(kind, name, MappingProxyType(options), start))
    starts = [stage.from_epoch for stage in stages]
    if starts[:1] != [0] or starts != sorted(set(starts)):
        raise UserError(
            f"expected the stages of {kind} in {where} to start at 0 and ascend, got from_epoch {starts}; reorder them"
        )
    return tuple(stages)


def check_against_data(recipe: Recipe, image_spec: ImageSpec, progress: Progress) -> None:
    """Check classes, augmentations, model and extra images against the data's shape and classes. Raises UserError.

    Reads headers and labels, no images.
    """
    from rb_smooth.evaluation.checks import validate_ball

    net = recipe.stage("model")
    _check_classes(recipe, image_spec.classes)
    validate_ball(recipe.threat, image_spec.shape)
    _check_augmentations(recipe, image_spec)
    _check_model(net.name, tuple(net.options.items()), image_spec)
    if recipe.data.extra is not None and progress != "trained":
        _check_extra(recipe, image_spec)


@lru_cache
def _check_model(name: str, options: tuple[tuple[str, Any], ...], image_spec: ImageSpec) -> None:
    """Build the model without weights, on the meta device; with weights if its forward pass reads them."""
    import torch

    arguments = (name, dict(options), image_spec.shape, image_spec.classes)
    try:
        with torch.device("meta"):
            build_model(*arguments)
    except (UserError, RuntimeError):
        with preserve_rng():
            build_model(*arguments)


def _check_classes(recipe: Recipe, classes: int) -> None:
    """Raises UserError for fewer classes than the objective or AutoAttack needs."""
    if classes < 2:
        objective = recipe.stage("objective").name
        raise UserError(f"expected 2 classes or more for objective {objective}, got {classes}; use other data")
    if classes < robustbench.MIN_CLASSES:
        raise UserError(
            f"expected {robustbench.MIN_CLASSES} classes or more, for AutoAttack's targeted attacks, got {classes}; "
            "use other data"
        )


def _check_augmentations(recipe: Recipe, image_spec: ImageSpec) -> None:
    import torch

    blank = torch.zeros(1, *image_spec.shape, dtype=torch.uint8)
    for augmentation in recipe.augmentations:
        try:
            augmentation.build()(blank, torch.Generator())
        except ValueError as error:
            raise UserError(f"augmentation {augmentation.name}: {error}; change data.augment") from None


def _check_extra(recipe: Recipe, image_spec: ImageSpec) -> None:
    from rb_smooth.data.extra_images import check_extra
    from rb_smooth.training.batches import load_best_model
    from rb_smooth.training.run_folder.run import Run

    extra = recipe.data.extra
    assert extra is not None
    if not 0 < round(extra.share * recipe.data.batch_size) < recipe.data.batch_size:
        raise UserError(
            f"expected data.extra.share to leave images of both kinds in a minibatch of {recipe.data.batch_size}, got "
            f"{extra.share}; change it or data.batch_size"
        )
    if (extra.labels == "pseudo") != (extra.labeller is not None):
        raise UserError(
            "expected data.extra.labeller if and only if data.extra.labels is pseudo, got "
            f"labels {extra.labels} and labeller {extra.labeller}; correct one of them"
        )
    if extra.labeller is not None:
        run = Run(Path(extra.labeller))
        load_best_model(run, image_spec)
        ours = result_config({"data": {"name": recipe.data.name, **recipe.data.options}})["data"]
        if (theirs := {key: run.recipe.sections["data"].get(key) for key in ours}) != ours:
            raise UserError(f"expected a labeller trained on {ours}, got one trained on {theirs}; choose another run")
    check_extra(Path(extra.file), image_spec, labelled=extra.labels == "given")


def resolve_device(name: str) -> torch.device:
    """The device called `name`; `auto` prefers a GPU. Raises UserError if the machine lacks it.

    Sets a GPU as torch's current one. Each of several processes on this machine gets its own.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if environment.WORLD_SIZE > 1 and name not in ("cpu", "cuda"):
        raise UserError(f"expected --device auto, cpu or cuda for several processes, got {name}; each has its own GPU")
    if environment.WORLD_SIZE > 1 and name == "cuda":
        name = f"cuda:{environment.LOCAL_RANK}"
        if torch.cuda.device_count() <= environment.LOCAL_RANK:
            raise UserError(
                f"expected a GPU for each of {environment.LOCAL_WORLD_SIZE} processes on this machine, got "
                f"{torch.cuda.device_count()}; lower --nproc-per-node"
            )
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("rb_smooth runs on cpu and cuda")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"expected a device of this machine, got {name!r} ({first_line(error)}); use --device cpu"
        ) from None
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        torch.cuda.set_device(device)
    return device


def check_device(recipe: Recipe, device: torch.device) -> None:
    """Check a recipe against the device and the number of processes. Raises UserError."""
    if recipe.data.batch_size % environment.WORLD_SIZE:
        raise UserError(
            f"expected data.batch_size to be a multiple of the {environment.WORLD_SIZE} processes that share a "
            f"minibatch, got {recipe.data.batch_size}; change one of them"
        )
    if recipe.train.compile == "reduce-overhead" and device.type == "cpu":
        raise UserError(
            "expected a GPU for train.compile=reduce-overhead, as CUDA graphs need one, got cpu; remove it, or set "
            "it to true"
        )
    if recipe.train.sync_bn and device.type == "cpu":
        raise UserError("expected a GPU for train.sync_bn, as torch's SyncBatchNorm needs one, got cpu; remove it")
