"""What other packages add: methods and recipes, found by their entry points. Nothing of theirs is imported unasked.

    [project.entry-points."rb_smooth.methods"]
    "perturbation.sam" = "rb_smooth_sam.sam:SAM"    # what `perturbation: {name: sam}` calls

    [project.entry-points."rb_smooth.recipes"]
    sam = "rb_smooth_sam.recipes"                   # a folder that holds <dataset>/<method>.yaml

Each method has a line of its own, rather than each package our layout: kind, name and origin are then known from
metadata alone, and a plug-in's files may lie as its author likes. See docs/adding-a-method.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
    """Who offers each method, by kind and name: "perturbation.sam"."""
    found: dict[str, list[PluginEntry]] = {}
    for offer in _plugin_entries()[_METHODS]:
        found.setdefault(offer.entry_point.name, []).append(offer)
    return found


def load_plugin(method: str) -> Callable[..., Any]:
    """The class or function that a package offers as `method`, "perturbation.sam".

    Raises UserError, in one line that names the packages, where two offer it or the one's own import fails.
    """
    offers, title = plugin_methods()[method], method.replace(".", " ")
    if said := conflict_message(title, [offer.package for offer in offers]):
        raise UserError(said)
    package, entry = offers[0]
    try:
        found = entry.load()
    except (Exception, SystemExit) as error:  # whatever their code raises
        cause = " ".join(str(error).split()) or "no message"
        raise UserError(
            f"expected {title} from {package}, got {type(error).__name__} ({cause}); mend or uninstall that package"
        ) from None
    if not callable(found):
        raise UserError(
            f"expected a class or a function for {title} of {package}, got {found!r}; correct {entry.value}"
        )
    return found


def conflict_message(what: str, packages: Sequence[str]) -> str:
    """Why `what` cannot be had, in words, where several packages offer it; empty where one does."""
    if len(packages) < 2:
        return ""
    return f"expected one package to offer {what}, got {' and '.join(packages)}; uninstall one of them"


def recipe_folders() -> list[tuple[str, Path]]:
    """(package, folder that holds <dataset>/<method>.yaml), for each that there is.

    The folder is looked for beside the package's other files; finding it imports nothing.
    """
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
    """By group. Both are found at once: looking through what is installed takes longer than all else here."""
    from importlib.metadata import entry_points  # here, since `--help` need not wait for it

    found = entry_points()
    return {group: _sorted_entries(found.select(group=group)) for group in (_METHODS, _RECIPES)}


def _sorted_entries(entries: Iterable[EntryPoint]) -> list[PluginEntry]:
    offers = [PluginEntry(f"{each.dist.name} {each.dist.version}", each) for each in entries if each.dist]
    return sorted(offers, key=lambda offer: (offer.package, offer.entry_point.name))
