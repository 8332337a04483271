"""Look up components by name, check their options and build them.

`objective: {name: at, eps: 8/255}` calls the only public class of rb_smooth/components/objectives/at.py with eps=8/255.
Options are its keyword-only parameters; their annotations give types, its ValueErrors give ranges. Models, schedules,
data sets and augmentations are the public functions of one file each. Other packages add names (plugins.py) and cannot
override a built-in one. Importing this module imports neither torch nor pydantic.
"""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb_smooth.config import plugins
from rb_smooth.core.errors import Problems, UserError, did_you_mean

if TYPE_CHECKING:
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
"""Modules of the components of each kind, below rb_smooth: a package, or one module."""

_MAX_PARAMETERS = 5 * 10**9
"""Parameters of a network above which it is not built; Wide ResNets of the papers have less than 10**9."""

_POSITIONAL = {"optimizer": 1, "model": 2, "data": 1}  # arguments of a constructor that are no options: parameters, …
_INJECTED = {"generator"}  # arguments that training passes; a recipe cannot set them


def component_names(kind: str) -> list[str]:
    """All names of components of `kind`, built-in and of other packages, sorted. Imports none of them."""
    theirs = (method.removeprefix(f"{kind}.") for method in plugins.plugin_methods() if method.startswith(f"{kind}."))
    return sorted({*_builtin_names(kind), *theirs})


def find_component(kind: str, name: str) -> Callable[..., Any]:
    """The class or function called `name`. Raises UserError for an unknown name, with the closest valid one, and if
    the package that provides it cannot be imported.
    """
    if kind == "optimizer" and str(name).startswith("torch."):
        from rb_smooth.components.torch_optimizers import find_torch_optimizer

        return find_torch_optimizer(name)
    if name not in component_names(kind):
        raise UserError(f"expected a known {kind}, {did_you_mean(str(name), _valid_names(kind))}")
    if name not in _builtin_names(kind):
        return plugins.load_plugin(f"{kind}.{name}")
    if kind in _FILES:
        function: Callable[..., Any] = getattr(import_module(f"rb_smooth.{_FILES[kind]}"), name)
        return function
    (only,) = _public_classes(import_module(f"rb_smooth.{_FOLDERS[kind]}.{name}"))
    return only


def _valid_names(kind: str) -> list[str]:
    """`component_names`, and those of torch's optimizers."""
    if kind != "optimizer":
        return component_names(kind)
    from rb_smooth.components.torch_optimizers import torch_optimizer_names

    return [*component_names(kind), *torch_optimizer_names()]


def package_of(kind: str, name: str) -> str | None:
    """The installed package that `name` comes from, as "rb-smooth-sam 0.1"; None if it is built in or unknown."""
    offers = plugins.plugin_methods().get(f"{kind}.{name}")
    return None if offers is None or name in _builtin_names(kind) else offers[0].package


def packages_of(methods: Iterable[tuple[str, str]]) -> dict[str, str]:
    """{"perturbation.sam": "rb-smooth-sam 0.1"} for those of `methods`, (kind, name), that are not built in."""
    return {f"{kind}.{name}": package for kind, name in methods if (package := package_of(kind, name)) is not None}


def check_installed(packages: Mapping[str, str]) -> None:
    """Raise UserError if a component's package is no longer installed. packages: the result of `packages_of`."""
    for method, package in packages.items():
        kind, _, name = method.partition(".")
        if name not in component_names(kind):
            raise UserError(
                f"expected {kind} {name} of {package}, {did_you_mean(name, component_names(kind))}; install that "
                "package again"
            )


def list_plugin_methods() -> tuple[list[tuple[str, str, str]], list[str]]:
    """Components of other packages as (kind, name, package), and one line for each that is skipped."""
    kinds, rows, complaints = [*_FOLDERS, *_FILES], [], []
    for method, offers in sorted(plugins.plugin_methods().items()):
        kind, _, name = method.partition(".")
        packages = " and ".join(offer.package for offer in offers)
        if kind not in kinds:
            complaints.append(
                f"skipped: {method} of {packages}: expected a kind of method, {did_you_mean(kind, kinds)}"
            )
        elif name in _builtin_names(kind):
            complaints.append(f"skipped: {kind} {name} of {packages}: the name is built in")
        else:
            rows.append((kind, name, packages))
    return rows, complaints


def build_component(kind: str, name: str, options: Mapping[str, Any], *args: Any, **injected: Any) -> Any:
    """Call the constructor of `name` with `args`, checked `options` and those of `injected` that it takes.

    Raises UserError for an unknown name and for an unknown, missing or invalid option.
    """
    return construct_component(kind, name, check_options(kind, name, options), *args, **injected)


def construct_component(kind: str, name: str, checked: Mapping[str, Any], *args: Any, **injected: Any) -> Any:
    """`build_component` for the result of `check_options`. Raises UserError for an option out of its range."""
    constructor = find_component(kind, name)
    taken = {key: value for key, value in injected.items() if key in inspect.signature(constructor).parameters}
    try:
        return constructor(*args, **checked, **taken)
    except ValueError as error:
        raise UserError(f"{kind} {name}: {error}; correct it") from None


def default_options(kind: str, name: str) -> dict[str, Any]:
    """The optional options of `name` with their defaults."""
    parameters = inspect.signature(find_component(kind, name)).parameters.values()
    return {
        each.name: each.default
        for each in parameters
        if each.kind is each.KEYWORD_ONLY and each.default is not each.empty
    }


def required_options(kind: str, name: str) -> set[str]:
    """Names of the options that a recipe must give; none for an unknown component."""
    try:
        options = configurable_options(kind, name)
    except UserError:
        return set()
    return {key for key, option in options.items() if option.default is option.empty}


def configurable_options(kind: str, name: str) -> dict[str, inspect.Parameter]:
    """The options that a recipe can set: keyword-only parameters of `name`, with annotations and defaults."""
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

    channels, checked = shape[0], check_options("model", name, options)
    count = _count_parameters(name, json.dumps(checked, sort_keys=True, default=str), channels, classes)
    if count > _MAX_PARAMETERS:
        limit = f"at most {_MAX_PARAMETERS:.0e} parameters"
        raise UserError(f"expected model {name} to have {limit}, got {count:.0e}; lower its width or depth")
    net = construct_component("model", name, checked, channels, classes)
    model = Normalized(net, list(mean) * (channels // len(mean)), list(std) * (channels // len(std)))
    model.check_fits(name, shape, classes)
    return model


@cache
def _count_parameters(name: str, options: str, channels: int, classes: int) -> int:
    """Count a network's parameters without memory for them; 0 if it cannot be built so. options: checked, as JSON."""
    import torch

    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            net = construct_component("model", name, json.loads(options), channels, classes)
        return sum(parameter.numel() for parameter in net.parameters())
    except (RuntimeError, TypeError, OverflowError) as error:
        return 2**63 if "overflow" in str(error) or "too large" in str(error) else 0


def check_options(kind: str, name: str, options: Mapping[str, Any], also: Iterable[str] = ()) -> dict[str, Any]:
    """`options` converted to the types of the constructor's annotations.

    Raises UserError with a line for each unknown or missing key and each wrong type. also: more keys of the section,
    as suggestions.
    """
    parameters = configurable_options(kind, name)
    _check_keyword_only(kind, name, options)
    from rb_smooth.config.option_types import convert_option

    problems, checked = Problems(), {}
    for key, value in options.items():
        if key not in parameters:
            close = did_you_mean(str(key), [*parameters, *also])
            problems.add(f"expected an option of {kind} {name}, {close}")
        else:
            with problems.collect():
                checked[key] = convert_option(parameters[key].annotation, value, f"{kind} {name}: {key}")
    required = {key for key, option in parameters.items() if option.default is option.empty}
    for key in sorted(required - {*options}):
        problems.add(f"expected {kind} {name} to be given {key!r}, got nothing; add --set {kind}.{key}=…")
    problems.raise_any()
    return checked


def _check_keyword_only(kind: str, name: str, options: Mapping[str, Any]) -> None:
    """Raise UserError if one of `options`, or a required one, is a parameter that is not keyword-only."""
    component = find_component(kind, name)
    positional = [
        each for each in inspect.signature(component).parameters.values() if each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    for each in positional[_POSITIONAL.get(kind, 0) :]:
        if each.name in options or each.default is each.empty:
            from rb_smooth.components.ranges import keyword_only_message

            raise UserError(f"{kind} {name}: {keyword_only_message(component, each.name)}")


@cache
def _builtin_names(kind: str) -> list[str]:
    """Names of the modules of a package or of the public functions of a module, read without importing them."""
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
