"""Methods and recipes of other packages, discovered by entry points without importing them.

    [project.entry-points."rb_smooth.methods"]
    "perturbation.sam" = "rb_smooth_sam.sam:SAM"    # the class of `perturbation: {name: sam}`

    [project.entry-points."rb_smooth.recipes"]
    sam = "rb_smooth_sam.recipes"                   # a folder of <dataset>/<method>.yaml

One entry point per method: kind, name and package are known from metadata alone, and the package's layout is free.
See docs/adding-a-method.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rb_smooth.core.errors import UserError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


_METHODS, _RECIPES = "rb_smooth.methods", "rb_smooth.recipes"


class PluginEntry(NamedTuple):
    """One entry point of an installed package. package: its name and version, as "rb-smooth-sam 0.1"."""

    package: str
    entry_point: EntryPoint


def plugin_methods() -> dict[str, list[PluginEntry]]:
    """The entry points of each method, by kind and name: "perturbation.sam"."""
    found: dict[str, list[PluginEntry]] = {}
    for offer in _plugin_entries()[_METHODS]:
        found.setdefault(offer.entry_point.name, []).append(offer)
    return found


def load_plugin(method: str) -> Callable[..., Any]:
    """Import the class or function of `method`, "perturbation.sam".

    Raises UserError, naming the packages, if two provide it, its import fails, or it is not callable.
    """
    offers, title = plugin_methods()[method], method.replace(".", " ")
    if conflict := conflict_message(title, [offer.package for offer in offers]):
        raise UserError(conflict)
    package, entry = offers[0]
    try:
        found = entry.load()
    except (Exception, SystemExit) as error:  # foreign code may raise anything
        cause = " ".join(str(error).split()) or "no message"
        raise UserError(
            f"expected {title} from {package}, got {type(error).__name__} ({cause}); fix or uninstall that package"
        ) from None
    if not callable(found):
        raise UserError(
            f"expected a class or a function for {title} of {package}, got {found!r}; correct {entry.value}"
        )
    return found


def conflict_message(what: str, packages: Sequence[str]) -> str:
    """The message if several packages provide `what`; empty if at most one does."""
    if len(packages) < 2:
        return ""
    return f"expected one package to provide {what}, got {' and '.join(packages)}; uninstall one of them"


def recipe_folders() -> list[tuple[str, Path]]:
    """(package, folder of <dataset>/<method>.yaml) of each package with recipes; imports none of them."""
    folders = []
    for package, entry in _plugin_entries()[_RECIPES]:
        top, *below = entry.value.split(".")
        spec = find_spec(top)
        roots = (spec and spec.submodule_search_locations) or []
        places = [Path(root, *below) for root in roots]
        folders += [(package, place) for place in places if place.is_dir()]
    return folders


@cache
def _plugin_entries() -> dict[str, list[PluginEntry]]:
    """Entry points by group; both are read in one slow scan of the installed packages."""
    from importlib.metadata import entry_points  # here, to keep `--help` fast

    found, offers = entry_points(), {}
    for group in (_METHODS, _RECIPES):
        named = [(f"{each.dist.name} {each.dist.version}", each) for each in found.select(group=group) if each.dist]
        offers[group] = [PluginEntry(*each) for each in sorted(named, key=lambda pair: (pair[0], pair[1].name))]
    return offers
