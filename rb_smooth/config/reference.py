"""Reference of all keys of a recipe, read from annotations and docstrings, for `recipe keys` and docs/recipes.md.

The keys of a component are its options. A line of its docstring, with indented continuation lines, documents each:

    gamma (relative to a weight tensor's norm, >= 0): size of the neighbourhood. Source: the AWP authors' code.
    norm, steps: as at's.

Brackets hold unit and range; a choice needs none. The first paragraph describes the component and names its source.
The docstring below a key of `config.schema` has the same form without the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from inspect import Parameter, getdoc
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.config import registry
from rb_smooth.config.schema import Data, Evaluate, Extra, Train
from rb_smooth.config.sections import SECTIONS
from rb_smooth.core.console import console
from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.core.files import write_between
from rb_smooth.core.formatting import number_text
from rb_smooth.core.numbers import MAX_EPOCHS

_OPTION = re.compile(r"(\w+(?:, \w+)*)(?: \((.*?)\))?: +(.*)")
_KEY = re.compile(r"(?:\((.*?)\) )?(.*)")
_TYPE_NAMES = {int: "integer", float: "number", str: "text", tuple: "list", list: "list"}
_OWN_KEYS: dict[str, dict[str, type[BaseModel]]] = {
    "data": {"data": Data, "data.extra": Extra},
    "train": {"train": Train},
    "evaluate": {"evaluate": Evaluate},
}
"""Models of the keys that are no options of a component, by section and title."""
_RANGE_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


class RecipeKey(NamedTuple):
    """A key. values: unit and range, or choices; default: as in a recipe, or none, or required.

    Undocumented fields are empty; a test ensures that built-in components have none.
    """

    name: str
    values: str
    default: str
    what: str
    source: str


class KeyGroup(NamedTuple):
    """Keys of a section or component. title: "train", "data.extra", "objective.at"; package: None if built in."""

    title: str
    what: str
    source: str
    keys: tuple[RecipeKey, ...]
    package: str | None = None


def key_groups(section: str) -> list[KeyGroup]:
    """The section's own keys, if any, then its components with their options. Imports torch."""
    groups = [_section_group(title, cls) for title, cls in _OWN_KEYS.get(section, {}).items()]
    if section == "data":
        names = registry.component_names("augmentation")
        groups += [_method_group("augmentation", name, "data.augment") for name in names]
    if section not in ("train", "evaluate"):
        groups += [_method_group(section, name, section) for name in registry.component_names(section)]
    return groups


def _section_group(title: str, cls: type[BaseModel]) -> KeyGroup:
    keys = []
    for name, field in cls.model_fields.items():
        unit, text = re.fullmatch(_KEY, " ".join((field.description or "").split())).groups("")  # type: ignore[union-attr]
        default = Parameter.empty if field.is_required() else field.default
        keys.append(_make_key(name, field.annotation, default, unit, text, field.metadata))
    return KeyGroup(title, *_split_source(_paragraphs(cls)[0].removeprefix(f"`{title}:` ")), tuple(keys))


def _method_group(kind: str, name: str, place: str) -> KeyGroup:
    """place: the key that names the component in a recipe."""
    title, package = f"{place}.{name}", registry.package_of(kind, name)
    try:
        options, documented = registry.configurable_options(kind, name), _documented_options(kind, name)
    except UserError as error:  # show the others if a package is broken
        return KeyGroup(title, str(error), "", (), package)
    keys = [
        _make_key(key, option.annotation, option.default, *documented.get(key, ("", "")))
        for key, option in options.items()
    ]
    return KeyGroup(title, *_split_source(_paragraphs(registry.find_component(kind, name))[0]), tuple(keys), package)


def _documented_options(kind: str, name: str) -> dict[str, tuple[str, str]]:
    """Option -> (unit and range, text); "as at's." copies those of `at`."""
    found: dict[str, tuple[str, str]] = {}
    for line in "\n".join(_paragraphs(registry.find_component(kind, name))).splitlines():
        if documented := re.fullmatch(_OPTION, line):
            names, unit, text = documented.groups("")
            other = re.fullmatch(r"as (\w+)'s\.", text)
            for each in names.split(", "):
                found[each] = _documented_options(kind, other[1])[each] if other else (unit, text)
    return found


def _paragraphs(component: Any) -> list[str]:
    """Paragraphs of a docstring, with indented continuation lines joined."""
    text = getdoc(getattr(component, "func", component)) or ""
    return [re.sub(r"\n +", " ", paragraph) for paragraph in text.split("\n\n")]


def _make_key(
    name: str, annotation: Any, default: Any, documented: str, text: str, limits: Sequence[Any] = ()
) -> RecipeKey:
    """A row of a table. documented: unit and range; limits: pydantic's, beside those in `annotation`.

    Texts begin with a capital and end without a full stop.
    """
    words, choices = _allowed_values(annotation)
    ranges = [part for part in documented.split(", ") if part.startswith(("<", ">"))]
    if words:
        words[0] = documented.removesuffix(", ".join(ranges)).rstrip(", ") or words[0]
    values = "; ".join(filter(None, [", ".join([*words, *_range_texts(limits), *ranges]), ", ".join(choices)]))
    what, source = (re.sub(r"(?<! al)\.$", "", part) for part in _split_source(text))
    shown = "required" if default is Parameter.empty else _format_value(default)
    return RecipeKey(name, values, shown, what[:1].upper() + what[1:], source)


def _split_source(text: str) -> tuple[str, str]:
    """Split `text` at "Source: "."""
    what, _, source = " ".join(text.split()).partition("Source: ")
    return what.strip(), source


def _allowed_values(annotation: Any) -> tuple[list[str], list[str]]:
    """Type and ranges as text, and the choices as a recipe writes them, of an annotation."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        words, choices = _allowed_values(inner[0])
        return [*words, *_range_texts(inner[1:])], choices
    if origin in (Union, UnionType):
        parts = [_allowed_values(each) for each in inner]
        return [word for words, _ in parts for word in words], [choice for _, choices in parts for choice in choices]
    if origin is Literal or annotation is bool:
        return [], [f"`{_format_value(choice)}`" for choice in inner or (True, False)]
    return ([] if annotation is NoneType else [_TYPE_NAMES.get(origin or annotation, "")]), []


def _range_texts(limits: Sequence[Any]) -> list[str]:
    """Ranges of pydantic's metadata: `Gt(0)` -> "> 0". Limits that only typing errors reach are left out."""
    return [
        f"{sign} {getattr(each, name)}"
        for each in limits
        for name, sign in _RANGE_SIGNS.items()
        if hasattr(each, name) and getattr(each, name) < MAX_EPOCHS
    ]


def _format_value(value: Any) -> str:
    """`value` as a recipe writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join('null' if each is None else _format_value(each) for each in value)}]"
    return number_text(value) if isinstance(value, float) else str(value)


_HEADINGS = ("key", "values", "default", "what it does", "source")


def print_keys(topics: Sequence[str]) -> None:
    """Print the tables of each topic, of all sections by default. Raises UserError for an unknown topic."""
    for group in _selected_groups(topics):
        origin = f" (from {group.package})" if group.package else ""
        console.print(f"{group.title}{origin}: {_group_line(group)}", soft_wrap=False)
        console.print(_table(group.keys) if group.keys else "", soft_wrap=False)


def keys_as_dicts(topics: Sequence[str]) -> list[dict[str, Any]]:
    """The content of `print_keys` as plain values, for --json."""
    return [each._asdict() | {"keys": [key._asdict() for key in each.keys]} for each in _selected_groups(topics)]


def _selected_groups(topics: Sequence[str]) -> list[KeyGroup]:
    return [each for topic in topics or SECTIONS for each in select_groups(topic)]


def select_groups(topic: str) -> list[KeyGroup]:
    """Groups of a section (`data`), a part of it (`data.augment`), a component (`objective.at`), or a key, in one or
    all components (`objective.at.eps`, `objective.eps`). Raises UserError for an unknown topic.
    """
    section, key = topic.partition(".")[0], topic.rpartition(".")[2]
    if section not in SECTIONS:
        raise UserError(f"expected a section, {did_you_mean(section, SECTIONS)}")
    found = _torch_groups(topic) if f"{topic}.".startswith("optimizer.torch.") else key_groups(section)
    places = [each for each in found if topic in (f"{section}.{key}", f"{each.title}.{key}")]
    narrowed = [each._replace(keys=tuple(own for own in each.keys if own.name == key)) for each in places]
    shown = [each for each in narrowed if each.keys]
    shown += [each for each in found if f"{each.title}.".startswith(f"{topic}.")]
    if not shown:
        known = {each.title for each in found} | {f"{section}.{own.name}" for each in found for own in each.keys}
        raise UserError(f"expected a method or a key of {section}, {did_you_mean(topic, known)}")
    return shown


def _torch_groups(topic: str) -> list[KeyGroup]:
    """torch's optimizers: all for "optimizer.torch", else that of the topic. They are not in `key_groups`."""
    from rb_smooth.components.torch_optimizers import torch_optimizer_names

    named = [".".join(topic.split(".")[1:3])] if topic.count(".") > 1 else torch_optimizer_names()
    for name in named:
        registry.find_component("optimizer", name)  # raises UserError
    return [_method_group("optimizer", name, "optimizer") for name in named]


def write_keys(path: Path) -> None:
    """Write the tables of built-in components into the document at `path`, between comments of each section's name.

    Raises UserError as `files.write_between` does.
    """
    write_between(path, {section: list(_markdown(key_groups(section))) for section in SECTIONS})


def _group_line(group: KeyGroup) -> str:
    return f"{group.what} Source: {group.source}" if group.source else group.what


def _table(keys: Sequence[RecipeKey]) -> Table:
    table = Table(*_HEADINGS, box=SIMPLE_HEAD, pad_edge=False)
    table.columns[0].no_wrap = True
    for key in keys:
        table.add_row(*(cell.replace("`", "") for cell in key))
    return table


def _markdown(groups: Sequence[KeyGroup]) -> Iterator[str]:
    """Lines of Markdown: a table per group, with a heading and a description for components."""
    for group in groups:
        if group.package is not None:
            continue
        if "." in group.title:
            yield from (f"### `{group.title}`", "", _group_line(group), "")
        if group.keys:
            yield f"| {' | '.join(_HEADINGS)} |"
            yield "|---|---|---|---|---|"
            yield from map(_key_row, group.keys)
            yield ""


def _key_row(key: RecipeKey) -> str:
    values = key.values.replace(">=", "≥").replace("<=", "≤")
    default = key.default if key.default in ("none", "required") else f"`{key.default}`"
    cells = (f"`{key.name}`", values, default, key.what, key.source)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
