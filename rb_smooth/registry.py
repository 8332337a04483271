"""Names made real. The folder is the registry and the constructor is the schema.

`objective: {name: at, eps: 8/255}` is the one public class of rb_smooth/objectives/at.py, called with eps=8/255.
Options are its keyword-only parameters, checked by their annotations; its own ValueErrors hold the ranges. Models,
schedules, data sets and augmentations are the public functions of their one file.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from rb_smooth.refusal import Refused, nearest

if TYPE_CHECKING:
    from rb_smooth.models import Normalized

_FOLDERS = {
    "objective": "objectives",
    "perturbation": "perturbations",
    "optimizer": "optimizers",
    "averaging": "averaging",
}
_FILES = {"model": "models", "schedule": "schedules", "data": "data", "augmentation": "augmentations"}
_INJECTED = {"generator"}  # given by training, never by a recipe


def names(kind: str) -> list[str]:
    """Every name that a recipe may give for `kind`: the modules of a folder, or the public functions of a file."""
    if kind in _FOLDERS:
        return sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent / _FOLDERS[kind])]))
    return sorted(_public(import_module(f"rb_smooth.{_FILES[kind]}"), inspect.isfunction))


def find(kind: str, name: str) -> Callable[..., Any]:
    """The class or function called `name`. Raises Refused with the nearest valid name."""
    if name not in names(kind):
        raise Refused(f"expected a known {kind}, {nearest(str(name), names(kind))}")
    if kind in _FILES:
        return _public(import_module(f"rb_smooth.{_FILES[kind]}"), inspect.isfunction)[name]
    (only,) = _public(import_module(f"rb_smooth.{_FOLDERS[kind]}.{name}"), inspect.isclass).values()
    return only


def make(kind: str, name: str, options: Mapping[str, Any], *given: Any, **injected: Any) -> Any:
    """Call the constructor of `name` with checked options."""
    constructor, checked = find(kind, name), check_options(kind, name, options)
    taken = {key: value for key, value in injected.items() if key in inspect.signature(constructor).parameters}
    try:
        return constructor(*given, **checked, **taken)
    except ValueError as error:
        raise Refused(f"{kind} {name}: {error}; correct it") from None


def defaults(kind: str, name: str) -> dict[str, Any]:
    """The options of `name` that need not be given, with their values."""
    parameters = inspect.signature(find(kind, name)).parameters.values()
    return {
        each.name: each.default
        for each in parameters
        if each.kind is each.KEYWORD_ONLY and each.default is not each.empty
    }


def build_model(
    name: str,
    options: Mapping[str, Any],
    shape: tuple[int, int, int],
    classes: int,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> Normalized:
    """The network `name` for images of shape (C, H, W), normalised inside. Raises Refused if it cannot take them.

    mean, std: one per channel; the defaults serve when a checkpoint, which carries them, is loaded next.
    """
    from rb_smooth.models import Normalized

    channels = shape[0]
    net = make("model", name, options, channels, classes)
    model = Normalized(net, list(mean) * (channels // len(mean)), list(std) * (channels // len(std)))
    model.check_fits(name, shape, classes)
    return model


def check_options(kind: str, name: str, options: Mapping[str, Any], also: Iterable[str] = ()) -> dict[str, Any]:
    """Options as the constructor's annotations want them. Raises Refused for an unknown key or a wrong type.

    also: further keys of the section, to suggest where one is misspelt.
    """
    parameters = {
        key: parameter
        for key, parameter in inspect.signature(find(kind, name), eval_str=True).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and key not in _INJECTED
    }
    for key in options:
        if key not in parameters:
            raise Refused(f"expected an option of {kind} {name}, {nearest(str(key), [*parameters, *also])}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in options:
            raise Refused(f"expected {kind} {name} to be given {key!r}, got nothing; add --set {kind}.{key}=…")
    checked = {}
    for key, value in options.items():
        try:
            checked[key] = TypeAdapter(parameters[key].annotation).validate_python(value)
        except ValidationError as error:
            raise Refused(sentence(error, f"{kind} {name}: {key}")) from None
    return checked


def sentence(error: ValidationError, where: str) -> str:
    """What pydantic found, in the house's words."""
    first = error.errors()[0]
    place = ".".join([where, *map(str, first["loc"])])
    if first["type"] == "missing":
        return f"expected {place}, got nothing; add it"
    wanted = first["msg"].replace("a valid tuple", "a list").replace("a valid dictionary", "keys, as {key: value}")
    wanted = wanted.removeprefix("Input should be ").partition(", unable to")[0].partition(" or instance of")[0]
    return f"expected {place} to be {wanted}, got {first['input']!r}; correct it"


def _public(module: Any, is_kind: Callable[[Any], bool]) -> dict[str, Callable[..., Any]]:
    own = inspect.getmembers(module, lambda member: is_kind(member) and member.__module__ == module.__name__)
    return {name: member for name, member in own if not name.startswith("_")}
