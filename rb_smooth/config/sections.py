"""Sections of a recipe as plain values: read, merge, fill defaults, hash. Does not import torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from rb_smooth.config.yaml import parse_yaml
from rb_smooth.core.errors import Problems, UserError, did_you_mean, short_repr
from rb_smooth.core.input_files import read_text

SECTIONS = ("data", "model", "objective", "perturbation", "optimizer", "averaging", "schedule", "train", "evaluate")
STAGED = ("objective", "perturbation", "optimizer")
"""Sections that may be a list of stages, each with `from_epoch`."""

NON_RESULT_KEYS = ("stream", "workers")
"""Keys of `data` that do not change results: how a folder's images are read."""

Sections = dict[str, Any]


def read_sections(path: Path, also: Sequence[str] = ()) -> Sections:
    """Read the sections of a recipe file, and the keys in `also`. Raises UserError for a missing or invalid file.

    Its search space, `tune`, is left out: `read_tune` reads it.
    """
    sections = _read_mapping(path)
    sections.pop("tune", None)
    problems = Problems()
    for key, section in sections.items():
        if key not in (*SECTIONS, *also):
            problems.add(f"expected a section in {path}, {did_you_mean(str(key), [*SECTIONS, *also])}")
        if key in SECTIONS and not isinstance(section, (dict, list)):
            got = short_repr(section)
            problems.add(f"expected keys in section {key} of {path}, got {got}; write {key}: {{name: …}}")
    problems.raise_any()
    return sections


def read_tune(path: Path) -> dict[str, Any]:
    """The search space in a recipe file, `tune: {optimizer.lr: log:0.01..0.3}`; empty if it has none."""
    space = _read_mapping(path).get("tune", {})
    if not isinstance(space, dict) or not all(isinstance(key, str) for key in space):
        raise UserError(
            f"expected ranges by key in section tune of {path}, got {space!r}; write section.key: low..high"
        )
    return space


def merge_sections(sections: Sections, overrides: Sections, where: str) -> Sections:
    """Merge `overrides` into `sections`. A section with the old name or none changes single keys; else it replaces.

    where: the source of `overrides`, for UserError.
    """
    result = deepcopy(sections)
    for key, new in overrides.items():
        old = result.get(key)
        if isinstance(new, dict) and isinstance(old, dict) and new.get("name", old.get("name")) == old.get("name"):
            result[key] = old | new
        elif isinstance(new, dict) and "name" not in new and isinstance(old, list):
            raise UserError(
                f"expected a name in section {key} of {where}, got keys for a list of stages; say which method"
            )
        else:
            result[key] = deepcopy(new)
    return result


def fill_defaults(sections: Sections) -> Sections:
    """All sections in order, with defaults. Raises UserError if one is missing."""
    defaults: Sections = {
        "perturbation": {"name": "none"},
        "averaging": {"name": "none"},
        "schedule": {"name": "constant"},
    }
    filled = defaults | sections
    for key in SECTIONS:
        if not isinstance(filled.get(key), dict) and not (key in STAGED and isinstance(filled.get(key), list)):
            found = "nothing" if key not in filled else repr(filled[key])
            raise UserError(
                f"expected a section '{key}: {{...}}' in the recipe, got {found}; see `recipe show digits at`"
            )
    filled["train"] = {"seed": 0} | filled["train"]
    return {key: filled[key] for key in SECTIONS}


def result_config(sections: Sections) -> Sections:
    """`sections` without the keys that do not change results: NON_RESULT_KEYS, and `train.select_rule: maximum`.

    That key is younger than some recipes and runs; without it the rule is the maximum.
    """
    result = dict(sections)
    if isinstance(data := sections.get("data"), dict):
        result["data"] = {key: value for key, value in data.items() if key not in NON_RESULT_KEYS}
    if isinstance(train := sections.get("train"), dict) and train.get("select_rule") == "maximum":
        result["train"] = {key: value for key, value in train.items() if key != "select_rule"}
    return result


def differing_settings(stored: Sections, requested: Sections) -> str:
    """`optimizer.lr: 0.1 there, 0.2 here`: the first settings of training in which two recipes differ."""
    pairs, stored, requested = [], result_config(stored), result_config(requested)
    for section in SECTIONS:
        there, here = stored.get(section), requested[section]
        if section == "evaluate" or there is None or there == here:
            continue
        if isinstance(there, dict) and isinstance(here, dict):
            keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
            pairs += [f"{section}.{key}: {there.get(key)} there, {here.get(key)} here" for key in keys]
        else:
            pairs.append(section)
    return "; ".join(pairs[:3])


def config_hash(sections: Sections) -> str:
    """Hash of all that affects training, except the seed, which run names contain; six hex digits."""
    relevant = {key: value for key, value in result_config(sections).items() if key != "evaluate"}
    relevant["train"] = {key: value for key, value in relevant["train"].items() if key != "seed"}
    return short_hash(relevant)


def short_hash(value: Any) -> str:
    """Hash of nested plain values, six hex digits; 1 and 1.0 are equal."""
    return hashlib.sha256(json.dumps(_as_floats(value), sort_keys=True).encode()).hexdigest()[:6]


def recipe_description(path: Path) -> str:
    """First comment line of a recipe file, shown by `recipe list`."""
    first = read_text(path, errors="replace").partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def _as_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        sections = parse_yaml(read_text(path), str(path))
    except FileNotFoundError:
        raise UserError(f"expected a recipe file, got nothing at {path}; check the path") from None
    except (UnicodeDecodeError, NotADirectoryError) as error:
        raise UserError(f"expected a recipe file at {path}, got {type(error).__name__}; check the path") from None
    if not isinstance(sections, dict):
        raise UserError(
            f"expected sections such as 'optimizer:' in {path}, got {type(sections).__name__}; see `recipe show`"
        )
    return sections
