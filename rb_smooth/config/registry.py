"""Names made real. The folder is the registry and the constructor is the schema.

`objective: {name: at, eps: 8/255}` is the one public class of rb_smooth/components/objectives/at.py, called with
eps=8/255. Options are its keyword-only parameters, checked by their annotations; its own ValueErrors hold the ranges.
Models, schedules, data sets and augmentations are the public functions of their one file. Other packages' names stand
beside ours (plugins.py); none of them takes the place of one of ours. Importing this module costs neither torch nor
pydantic.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb_smooth.config import plugins
from rb_smooth.core.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from pydantic import ValidationError

    from rb_smooth.components.models import Normalized


_FOLDERS = {
    "objective": "components.objectives",
    "perturbation": "components.perturbations",
    "optimizer": "components.optimizers",
    "averaging": "components.averaging",
}
_FILES = {
    "model": "components.models",
    "schedule": "components.schedules",
    "data": "data.datasets",
    "augmentation": "data.augmentations",
}
"""Where the methods of a kind lie, below rb_smooth: a folder, or a file."""

_INJECTED = {"generator"}  # given by training, never by a recipe


def component_names(kind: str) -> list[str]:
    """Every name that a recipe may give for `kind`, ours and other packages'. Imports none of them."""
    theirs = (method.removeprefix(f"{kind}.") for method in plugins.plugin_methods() if method.startswith(f"{kind}."))
    return sorted({*_builtin_names(kind), *theirs})


def find_component(kind: str, name: str) -> Callable[..., Any]:
    """The class or function called `name`; ours, where it is one of ours. Raises UserError with the nearest valid name,
    or if the package that offers it cannot be imported.
    """
    if name not in component_names(kind):
        raise UserError(f"expected a known {kind}, {did_you_mean(str(name), component_names(kind))}")
    if name not in _builtin_names(kind):
        return plugins.load_plugin(f"{kind}.{name}")
    if kind in _FILES:
        function: Callable[..., Any] = getattr(import_module(f"rb_smooth.{_FILES[kind]}"), name)
        return function
    (only,) = _public_classes(import_module(f"rb_smooth.{_FOLDERS[kind]}.{name}"))
    return only


def package_of(kind: str, name: str) -> str | None:
    """The installed package that `name` comes from, as "rb-smooth-sam 0.1"; None if it is ours, or nobody's."""
    offers = plugins.plugin_methods().get(f"{kind}.{name}")
    return None if offers is None or name in _builtin_names(kind) else offers[0].package


def packages_of(methods: Iterable[tuple[str, str]]) -> dict[str, str]:
    """{"perturbation.sam": "rb-smooth-sam 0.1"}, of those of `methods`, (kind, name), that are not ours."""
    return {f"{kind}.{name}": package for kind, name in methods if (package := package_of(kind, name)) is not None}


def check_installed(packages: Mapping[str, str]) -> None:
    """Raises UserError for a method that is not here any more, naming whose it was. packages: as `packages_of` gave."""
    for method, package in packages.items():
        kind, _, name = method.partition(".")
        if name not in component_names(kind):
            raise UserError(
                f"expected {kind} {name} of {package}, {did_you_mean(name, component_names(kind))}; install that "
                "package again"
            )


def list_plugin_methods() -> tuple[list[tuple[str, str, str]], list[str]]:
    """What other packages add, as (kind, name, package); and what no recipe can name, as lines that say why."""
    kinds, rows, complaints = [*_FOLDERS, *_FILES], [], []
    for method, offers in sorted(plugins.plugin_methods().items()):
        kind, _, name = method.partition(".")
        packages = " and ".join(offer.package for offer in offers)
        if kind not in kinds:
            complaints.append(
                f"passed over: {method} of {packages}: expected a kind of method, {did_you_mean(kind, kinds)}"
            )
        elif name in _builtin_names(kind):
            complaints.append(f"passed over: {kind} {name} of {packages}: the name is ours")
        else:
            rows.append((kind, name, packages))
    return rows, complaints


def build_component(kind: str, name: str, options: Mapping[str, Any], *args: Any, **injected: Any) -> Any:
    """Call the constructor of `name` with checked options."""
    constructor, checked = find_component(kind, name), check_options(kind, name, options)
    taken = {key: value for key, value in injected.items() if key in inspect.signature(constructor).parameters}
    try:
        return constructor(*args, **checked, **taken)
    except ValueError as error:
        raise UserError(f"{kind} {name}: {error}; correct it") from None


def default_options(kind: str, name: str) -> dict[str, Any]:
    """The options of `name` that need not be given, with their values."""
    parameters = inspect.signature(find_component(kind, name)).parameters.values()
    return {
        each.name: each.default
        for each in parameters
        if each.kind is each.KEYWORD_ONLY and each.default is not each.empty
    }


def configurable_options(kind: str, name: str) -> dict[str, inspect.Parameter]:
    """What a recipe may set of `name`: its keyword-only parameters, with annotations and defaults."""
    return {
        key: parameter
        for key, parameter in inspect.signature(find_component(kind, name), eval_str=True).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and key not in _INJECTED
    }


def build_model(
    name: str,
    options: Mapping[str, Any],
    shape: tuple[int, int, int],
    classes: int,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> Normalized:
    """The network `name` for images of shape (C, H, W), normalised inside. Raises UserError if it cannot take them.

    mean, std: one per channel; the defaults serve when a checkpoint, which carries them, is loaded next.
    """
    from rb_smooth.components.models import Normalized

    channels = shape[0]
    net = build_component("model", name, options, channels, classes)
    model = Normalized(net, list(mean) * (channels // len(mean)), list(std) * (channels // len(std)))
    model.check_fits(name, shape, classes)
    return model


def check_options(kind: str, name: str, options: Mapping[str, Any], also: Iterable[str] = ()) -> dict[str, Any]:
    """Options as the constructor's annotations want them. Raises UserError for an unknown key or a wrong type.

    also: further keys of the section, to suggest where one is misspelt.
    """
    parameters = configurable_options(kind, name)
    for key in options:
        if key not in parameters:
            raise UserError(f"expected an option of {kind} {name}, {did_you_mean(str(key), [*parameters, *also])}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in options:
            raise UserError(f"expected {kind} {name} to be given {key!r}, got nothing; add --set {kind}.{key}=…")
    from pydantic import TypeAdapter, ValidationError

    checked = {}
    for key, value in options.items():
        try:
            checked[key] = TypeAdapter(parameters[key].annotation).validate_python(value)
        except ValidationError as error:
            raise UserError(validation_message(error, f"{kind} {name}: {key}")) from None
    return checked


def validation_message(error: ValidationError, where: str) -> str:
    """What pydantic found, in the house's words."""
    first = error.errors()[0]
    place = ".".join([where, *map(str, first["loc"])])
    if first["type"] == "missing":
        return f"expected {place}, got nothing; add it"
    wanted = first["msg"].replace("a valid tuple", "a list").replace("a valid dictionary", "keys, as {key: value}")
    wanted = wanted.removeprefix("Input should be ").partition(", unable to")[0].partition(" or instance of")[0]
    return f"expected {place} to be {wanted}, got {first['input']!r}; correct it"


@cache
def _builtin_names(kind: str) -> list[str]:
    """The modules of a folder, or the public functions of a file; their names are read, nothing is imported."""
    place = Path(__file__).parents[1].joinpath(*(_FOLDERS | _FILES)[kind].split("."))
    if kind in _FOLDERS:
        found = [module.name for module in pkgutil.iter_modules([str(place)])]
        return [name for name in found if not name.startswith("_")]
    statements = ast.parse(place.with_suffix(".py").read_text(encoding="utf-8")).body
    functions = [each.name for each in statements if isinstance(each, ast.FunctionDef)]
    return [name for name in functions if not name.startswith("_")]


def _public_classes(module: Any) -> list[Callable[..., Any]]:
    own = inspect.getmembers(module, lambda each: inspect.isclass(each) and each.__module__ == module.__name__)
    return [each for name, each in own if not name.startswith("_")]
