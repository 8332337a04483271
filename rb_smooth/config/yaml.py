"""Safe YAML in which 8/255 and 5e-4 are numbers; dumps write one line per section."""

from __future__ import annotations

import json
import re
from collections import Counter
from copy import deepcopy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import yaml

from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import number_text

_FRACTION = re.compile(r"^\d+/\d+$")
_SCIENTIFIC = re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
_TEXT = re.compile(r"^[-+]?([0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|0[0-7_]+)$")
"""Numbers of base 60, as 1:30, and of base 8, as 010, that only YAML 1.1 reads as such."""

_MAX_TEXT, _MAX_ALIASES, _MAX_DEPTH = 2**20, 20, 50
"""Characters, aliases and levels of a YAML text: twenty aliases repeat a value some thousand times at most, and
libyaml's composer is recursive, in C and without a limit."""

if TYPE_CHECKING:
    from yaml import SafeDumper as _SafeDumper
    from yaml import SafeLoader as _SafeLoader
else:  # libyaml's where PyYAML has them: ten times as fast, equal values
    _SafeLoader, _SafeDumper = (getattr(yaml, f"C{name}", getattr(yaml, name)) for name in ("SafeLoader", "SafeDumper"))


class _Loader(_SafeLoader):
    """Reads 8/255 and 5e-4 as numbers; YAML 1.1 reads them as strings.

    libyaml does not call overrides of `compose_node`: limits belong to `_check_events`.
    """


class _Dumper(_SafeDumper):
    """Writes k/255 as a fraction."""


def parse_yaml(text: str, where: str) -> Any:
    """Parse `text`. Raises UserError, naming `where`, for invalid or unsafe YAML."""
    try:
        if len(text) > _MAX_TEXT:
            raise ValueError(f"{len(text)} characters")
        return deepcopy(_load(text))
    except (yaml.YAMLError, ArithmeticError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise UserError(f"expected YAML in {where}, got {' '.join(str(error).split())}; correct it") from None


@lru_cache(maxsize=1024)
def _load(text: str) -> Any:
    """Parsing takes a millisecond for a recipe, of which a command reads the same ones several times."""
    _check_events(text)
    value = yaml.load(text, _Loader)
    json.dumps(value, default=str, skipkeys=True)  # raises ValueError for an alias inside its own value
    return value


def _check_events(text: str) -> None:
    """Raise YAMLError for more aliases or levels than the limits."""
    aliases = depth = 0
    for event in yaml.parse(text, _SafeLoader):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if aliases > _MAX_ALIASES or depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"more than {_MAX_ALIASES} aliases or {_MAX_DEPTH} levels")


def dump_sections(sections: dict[str, Any]) -> str:
    """Format sections as in the built-in recipes, one line each; `parse_yaml` reads back equal values."""
    return "".join(
        yaml.dump({key: value}, Dumper=_Dumper, sort_keys=False, width=10_000)
        if not isinstance(value, (dict, list))
        else f"{key + ':':<13} {_inline_yaml(value)}\n"
        for key, value in sections.items()
    )


def _inline_yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=10_000).strip()


def _read_fraction(loader: _Loader, node: yaml.ScalarNode) -> float:
    numerator, denominator = map(int, str(loader.construct_scalar(node)).split("/"))
    return numerator / denominator


def _read_integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    value: int = loader.construct_yaml_int(node)
    if not -(2**63) <= value < 2**63:
        raise ValueError("an integer of more than 64 bits")
    return value


def _read_mapping(loader: _Loader, node: yaml.MappingNode) -> Any:
    keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    if twice := [key for key, count in Counter(keys).items() if count > 1]:
        raise yaml.YAMLError(f"the key {twice[0]!r} twice, {' '.join(str(node.start_mark).split())}")
    return loader.construct_yaml_map(node)


def _write_float(dumper: _Dumper, value: float) -> yaml.Node:
    text = number_text(value)
    return dumper.represent_scalar("!fraction", text) if "/" in text else yaml.SafeDumper.represent_float(dumper, value)


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("!fraction", _FRACTION, list("0123456789"))
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _SCIENTIFIC, list("-+0123456789"))
for _first in "-+0123456789":
    _Loader.yaml_implicit_resolvers[_first].insert(0, ("tag:yaml.org,2002:str", _TEXT))
_Loader.add_constructor("!fraction", _read_fraction)
_Loader.add_constructor("tag:yaml.org,2002:int", _read_integer)
_Loader.add_constructor("tag:yaml.org,2002:map", _read_mapping)
_Dumper.add_representer(float, _write_float)
