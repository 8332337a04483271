"""Recipes checked: sections -> Recipe, or a refusal that names what is wrong."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from rb_smooth import preflight
from rb_smooth.declaration import Data, Evaluate, Extra, Recipe, Stage, Train
from rb_smooth.outlines import outline
from rb_smooth.refusal import Refused, nearest
from rb_smooth.registry import check_options, make, sentence
from rb_smooth.sections import Sections

if TYPE_CHECKING:
    from rb_smooth.run_folder import Progress

_T = TypeVar("_T", bound=BaseModel)


def check(dataset: str, method: str, sections: Sections, progress: Progress = "new") -> Recipe:
    """Build every object once, on nothing, so that what is wrong is refused by name before data or GPU is touched.

    progress: of the run that the recipe is for; files that it no longer needs are not asked for.
    """
    where = f"recipe {dataset}/{method}"
    recipe = Recipe(
        dataset=dataset,
        method=method,
        sections=MappingProxyType(sections),
        data=_section(Data, sections["data"], f"{where}: data"),
        train=_section(Train, sections["train"], f"{where}: train"),
        evaluate=_section(Evaluate, sections["evaluate"], f"{where}: evaluate"),
        stages={
            kind: _stages(kind, sections[kind], where)
            for kind in ("objective", "perturbation", "optimizer", "averaging", "schedule", "model")
        },
    )
    for kind, stages in recipe.stages.items():
        if (last := stages[-1].from_epoch) >= recipe.train.epochs:
            raise Refused(
                f"expected the stages of {kind} in {where} to start within {recipe.train.epochs} epochs, got "
                f"from_epoch {last}; correct it or train.epochs"
            )
    if recipe.train.keep and max(recipe.train.keep) > recipe.train.epochs:
        raise Refused(
            f"expected train.keep in {where} within {recipe.train.epochs} epochs, got {max(recipe.train.keep)}; "
            "correct it or train.epochs"
        )
    if recipe.train.select == "validation" and recipe.data.validation == 0:
        raise Refused(f"expected data.validation > 0 in {where}, got 0; hold some out, or say train.select: test")
    for augmentation in recipe.data.augmentations:
        make("augmentation", *augmentation)
    options = check_options("data", recipe.data.name, recipe.data.options, also=Data.model_fields)
    import torch

    for kind, stages in recipe.stages.items():
        for stage in stages:
            check_options(kind, stage.name, stage.options)
            if kind == "optimizer":
                make(kind, stage.name, stage.options, [torch.zeros(1, requires_grad=True)])
            elif kind == "model":
                continue  # needs the data's outline: `preflight`
            else:
                make(kind, stage.name, stage.options)
    _ = recipe.threat
    if (known := outline(recipe.data.name, options)) is not None:
        preflight.inspect(recipe, known, progress)
    return recipe


def _stages(kind: str, section: Any, where: str) -> tuple[Stage, ...]:
    """One stage, or a list of them that starts at 0 and ascends."""
    if isinstance(section, dict) and "from_epoch" in section:
        raise Refused(f"expected {kind} in {where} to be a list of stages, got one with from_epoch; list them all")
    listed = section if isinstance(section, list) else [section | {"from_epoch": 0}]
    stages = []
    for entry in listed:
        options = dict(entry) if isinstance(entry, dict) else {}
        name, start = options.pop("name", None), options.pop("from_epoch", None)
        if not isinstance(name, str) or type(start) is not int:
            raise Refused(f"expected name and from_epoch in each stage of {kind} in {where}, got {entry!r}; add them")
        stages.append(Stage(name, MappingProxyType(options), start))
    starts = [stage.from_epoch for stage in stages]
    if starts[:1] != [0] or starts != sorted(set(starts)):
        raise Refused(
            f"expected the stages of {kind} in {where} to start at 0 and ascend, got from_epoch {starts}; reorder them"
        )
    return tuple(stages)


def _section(cls: type[_T], section: Any, where: str) -> _T:
    try:
        return cls.model_validate(section)
    except ValidationError as error:
        misspelt = next((each for each in error.errors() if each["type"] == "extra_forbidden"), None)
        if misspelt is not None:
            *within, key = map(str, misspelt["loc"])
            known = (Extra if within == ["extra"] else cls).model_fields
            raise Refused(f"expected a key of {'.'.join([where, *within])}, {nearest(key, known)}") from None
        raise Refused(sentence(error, where)) from None
