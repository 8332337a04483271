"""The search space of a recipe: which values its keys may take. Imports neither torch nor Optuna.

optimizer.lr=log:0.01..0.3     uniform in the logarithm
objective.beta=3..8            uniform
model.width=int:16..64         whole numbers, also log:int:16..64
averaging.name=none,ema        one of these
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rb_smooth.config import registry
from rb_smooth.config.overrides import ResolvedRecipe, apply_overrides, to_set_args
from rb_smooth.config.schema import Recipe
from rb_smooth.config.sections import Sections
from rb_smooth.config.yaml import parse_yaml
from rb_smooth.core.errors import UserError

_SECTIONS = ("model", "objective", "perturbation", "optimizer", "averaging", "schedule")
_KEYS = ("data.batch_size", "data.augment")
_FORMS = "log:0.01..0.3, 3..8, int:16..64 or a,b"


@dataclass(frozen=True)
class Dimension:
    """The values of one key: from `low` to `high`, or one of `choices`. text: as it was written."""

    key: str
    text: str
    low: float = 0.0
    high: float = 0.0
    is_log: bool = False
    is_int: bool = False
    choices: tuple[Any, ...] = ()

    def holds(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high and (not self.is_int or value == int(value))

    @property
    def probes(self) -> tuple[Any, ...]:
        """Values by which a recipe's keys are checked: all choices, or both ends and one between."""
        if self.choices:
            return self.choices
        return (
            (self.low, self.high) if self.is_int else (self.low, self.low + (self.high - self.low) / math.e, self.high)
        )

    def rounded(self, value: Any) -> Any:
        """A sampled number with four digits, within the range."""
        if self.choices or self.is_int:
            return value
        return min(max(float(f"{value:.4g}"), self.low), self.high)


Space = dict[str, Dimension]
"""Dimensions by key, sorted by key, so that the order of writing them changes no sample."""


def parse_space(texts: Mapping[str, Any]) -> Space:
    """Parse {"optimizer.lr": "log:0.01..0.3"}; a list is as `a,b`. Raises UserError."""
    return {key: _parse_dimension(key, texts[key]) for key in sorted(texts)}


def split_arguments(arguments: Iterable[str]) -> dict[str, str]:
    """{"optimizer.lr": "3..8"} of `optimizer.lr=3..8`. Raises UserError."""
    texts: dict[str, str] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise UserError(f"expected --space section.key={_FORMS}, got {argument!r}; correct it")
        if key in texts:
            raise UserError(f"expected each key of --space once, got {key} twice; drop one")
        texts[key] = text
    return texts


def check_space(recipe: ResolvedRecipe, space: Space) -> None:
    """Raise UserError if the recipe lacks a key, or refuses its values, or if one changes what is measured."""
    from rb_smooth.training.validate import check_recipe

    before = _measured(check_recipe(*recipe))
    for dimension in space.values():
        key = dimension.key
        if key.partition(".")[0] not in _SECTIONS and key not in _KEYS:
            raise UserError(
                f"expected a key of {', '.join(_SECTIONS)}, or {' or '.join(_KEYS)}, to search, got {key!r}; "
                "other keys are equal in all trials: use --set"
            )
        for value in dimension.probes:
            sections = change(recipe.sections, {key: value})
            if _measured(check_recipe(recipe.dataset, recipe.method, sections)) != before:
                raise UserError(
                    f"expected a search that leaves the attack on validation images as it is, got {key}, which "
                    "changes it; use --set"
                )


def own_values(recipe: ResolvedRecipe, space: Space) -> dict[str, Any]:
    """The recipe's own values of the keys. Raises UserError for one outside its range."""
    from rb_smooth.training.validate import check_recipe

    checked = check_recipe(*recipe)
    own = {key: _own_value(checked, key.split(".")) for key in space}
    for key, value in own.items():
        if not space[key].holds(value):
            raise UserError(
                f"expected {key}={space[key].text} to hold the recipe's own value, the first trial's, got {value!r}; "
                f"widen the range, or choose another value by --set {key}=…"
            )
    return own


def change(sections: Sections, values: Mapping[str, Any]) -> Sections:
    """The sections with these values."""
    return apply_overrides(sections, to_set_args(values))


def _parse_dimension(key: str, written: Any) -> Dimension:
    if isinstance(written, list):
        return Dimension(key, ",".join(map(str, written)), choices=_choices(key, written))
    text = rest = str(written)
    kinds = set()
    while (head := rest.partition(":"))[0] in ("log", "int") and head[1]:
        kinds.add(head[0])
        rest = head[2]
    if ".." not in rest:
        if kinds:
            raise UserError(f"expected a range such as {_FORMS} for {key}, got {text!r}; correct it")
        return Dimension(key, text, choices=_choices(key, [parse_yaml(each, key) for each in rest.split(",")]))
    low, high = (_number(key, text, end, "int" in kinds) for end in rest.split("..", 1))
    if not low < high:
        raise UserError(f"expected a range from a lower to a higher number for {key}, got {text!r}; correct it")
    if "log" in kinds and low <= 0:
        raise UserError(f"expected a logarithmic range above 0 for {key}, got {text!r}; raise its lower end")
    return Dimension(key, text, low, high, "log" in kinds, "int" in kinds)


def _number(key: str, text: str, end: str, is_int: bool) -> float:
    value = parse_yaml(end, key)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or (is_int and value != int(value)):
        what = "whole numbers" if is_int else "numbers"
        raise UserError(f"expected {what} as ends of a range such as {_FORMS} for {key}, got {text!r}; correct it")
    return int(value) if is_int else float(value)


def _choices(key: str, values: Sequence[Any]) -> tuple[Any, ...]:
    plain = all(isinstance(value, (str, int, float, bool)) and value != "" for value in values)
    if len(values) < 2 or not plain or len(set(values)) < len(values):
        raise UserError(
            f"expected {_FORMS} for {key}, with two or more different choices, got {list(values)}; correct it"
        )
    return tuple(values)


def _measured(recipe: Recipe) -> Any:
    """What the validation accuracy is measured under."""
    return recipe.trained_threat is None, recipe.trained_threat or recipe.threat


def _own_value(recipe: Recipe, path: Sequence[str]) -> Any:
    """The value in the recipe, else the default of the first stage."""
    value: Any = recipe.sections
    for key in path:
        if isinstance(value, list) and key.isdigit():
            value = value[int(key)]
        elif isinstance(value, dict) or value is recipe.sections:
            if key not in value:
                break
            value = value[key]
    else:
        return value
    if path[0] == "data":
        return getattr(recipe.data, path[1])
    stages = recipe.stages[path[0]]
    stage = stages[int(path[1])] if len(path) > 2 else stages[0]
    return registry.configurable_options(path[0], stage.name)[path[-1]].default
