"""Apply command-line overrides to a recipe: single values and the number of epochs. Does not import torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from rb_smooth.config.resolver import resolve_file, resolve_method
from rb_smooth.config.sections import SECTIONS, STAGED, Sections, config_hash
from rb_smooth.config.yaml import parse_yaml
from rb_smooth.core.errors import Problems, UserError, did_you_mean, short_repr
from rb_smooth.core.files import validate_name


class _Parts(NamedTuple):
    dataset: str
    method: str
    sections: Sections


class ResolvedRecipe(_Parts):
    """A recipe of plain values, the tuple (dataset, method, sections). `validate.check_recipe` makes it a `Recipe`."""

    @cached_property
    def config_hash(self) -> str:
        """Hash of all that affects training, except the seed; six hex digits."""
        return config_hash(self.sections)

    @cached_property
    def is_shipped(self) -> bool:
        """Whether the shipped recipe of this name has the same hash."""
        try:
            return self.config_hash == config_hash(resolve_method(self.dataset, self.method, shipped_only=True)[1])
        except UserError:  # none of this name
            return False

    def suffix(self, separator: str) -> str:
        """`separator` and the hash if the recipe differs from the shipped one; else empty."""
        return "" if self.is_shipped else separator + self.config_hash


def resolve_config(
    target: str, method: str | None = None, settings: Sequence[str] = (), epochs: int | None = None
) -> ResolvedRecipe:
    """(dataset, method, sections) of ("cifar10", "at+awp") or of a FILE.yaml, with overrides, scaled to `epochs`."""
    if method is None:
        dataset, method, sections = resolve_file(Path(target))
    else:
        dataset, (method, sections) = target, resolve_method(target, method)
    sections = apply_overrides(sections, settings)
    validate_name(method)
    problems = Problems()
    _check_plain(sections, f"recipe {dataset}/{method}", problems)
    problems.raise_any()
    return ResolvedRecipe(dataset, method, sections if epochs is None else scale_epochs(sections, epochs))


def to_set_args(changes: Mapping[str, Any]) -> list[str]:
    """Convert {"optimizer.lr": 0.05} to arguments of --set, ["optimizer.lr=0.05"].

    Strings are parsed as in a recipe: "8/255" is a number. Raises UserError for a value that a recipe cannot hold.
    """
    return [
        f"{key}={value if isinstance(value, (str, Path)) else _as_json(key, value)}" for key, value in changes.items()
    ]


def apply_overrides(sections: Sections, settings: Sequence[str]) -> Sections:
    """`sections` with each "section.key=value" applied; stages are addressed by number, `optimizer.1.lr=0.05`.

    A new `name` removes the options of the old one, in any order of arguments; only `data` keeps its keys, since most
    of them apply to every data set. Raises UserError with a line for each unknown section or key of a nested value.
    """
    result, problems = deepcopy(sections), Problems()
    for setting in sorted(settings, key=lambda setting: ".name=" not in setting):
        with problems.collect():
            _apply_override(result, setting)
    problems.raise_any()
    return result


def _apply_override(sections: Sections, setting: str) -> None:
    path, equals, text = setting.partition("=")
    keys = path.split(".")
    if not equals or len(keys) < 2:
        raise UserError(f"expected --set section.key=value, got {setting!r}; for example --set train.epochs=30")
    if keys[0] not in SECTIONS:
        raise UserError(f"expected a section in --set {setting}, {did_you_mean(keys[0], SECTIONS)}")
    target = sections[keys[0]]
    for key in keys[1:-1]:
        target = _set_nested(target, key, setting)
    if not isinstance(target, dict):
        found = f"{len(target)} stages" if isinstance(target, list) else repr(target)
        raise UserError(f"expected keys in --set {setting}, got {found}; stages are written {keys[0]}.0.{keys[-1]}")
    value = parse_yaml(text, f"--set {setting}")
    if keys[-1] == "name" and keys[0] != "data" and value != target.get("name"):
        for key in set(target) - {"from_epoch"}:
            del target[key]
    target[keys[-1]] = value


def scale_epochs(sections: Sections, epochs: int) -> Sections:
    """Scale a recipe to `epochs` epochs: drops and stage starts scale in proportion, rounded half up."""
    result = deepcopy(sections)
    full = result["train"].get("epochs")
    if epochs < 1 or type(full) is not int or full < 1:
        raise UserError(f"expected --epochs and train.epochs of at least 1, got {epochs} and {full!r}; correct them")
    if epochs == full:
        return result

    def scaled(epoch: Any) -> Any:
        """`epoch` scaled; another type unchanged, which validation reports."""
        return (2 * epoch * epochs + full) // (2 * full) if type(epoch) is int else epoch

    if isinstance(drops := result["schedule"].get("drops"), list):
        result["schedule"]["drops"] = [scaled(drop) for drop in drops]
    for key in STAGED:
        stages = result[key]
        if isinstance(stages, list) and all(isinstance(stage, dict) and "from_epoch" in stage for stage in stages):
            starts = {scaled(stage["from_epoch"]): stage for stage in stages}  # two on one epoch: the later one
            result[key] = [
                stage | {"from_epoch": start} for start, stage in starts.items() if _is_reached(start, epochs)
            ]
    result["train"] = {"scaled_from": full} | result["train"] | {"epochs": epochs}
    return result


def _as_json(key: str, value: Any) -> str:
    """`value` as JSON, a subset of YAML."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        raise UserError(f"expected a number, a word or a list for {key}, got {value!r}; correct it") from None


def _is_reached(start: Any, epochs: int) -> bool:
    """Whether a stage starts before the end; the first one always does."""
    return not isinstance(start, int) or start == 0 or start < epochs


def _check_plain(value: Any, where: str, problems: Problems) -> None:
    """Add values that no recipe holds: dates, sets, bytes, infinities, keys that are no strings."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        for key, item in value.items():
            _check_plain(item, f"{where}.{key}", problems)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item, where, problems)
    elif not isinstance(value, (str, int, float, bool, type(None))) or value in (math.inf, -math.inf) or value != value:
        problems.add(f"expected a finite number, a word or a list in {where}, got {short_repr(value)}; correct it")


def _set_nested(target: Any, key: str, setting: str) -> Any:
    if isinstance(target, list):
        if key.isascii() and key.isdigit() and int(key) < len(target):
            return target[int(key)]
        raise UserError(f"expected a stage from 0 to {len(target) - 1} in --set {setting}, got {key!r}")
    if not isinstance(target, dict) or key not in target or not isinstance(target[key], (dict, list)):
        raise UserError(f"expected a section of keys at {key!r} in --set {setting}, got none; see `recipe show`")
    return target[key]
