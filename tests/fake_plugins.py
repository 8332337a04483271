"""Packages as pip would leave them, made without pip: sources, and beside them the metadata with the entry points."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

from pyproject_toml import read_pyproject

from rb_smooth.config import plugins

SAMPLE = Path(__file__).parent / "sample_plugin"


def write_distribution(place: Path, name: str, version: str, *, entry_points: dict[str, dict[str, str]]) -> None:
    """What tells Python of a distribution whose sources lie in `place`. entry_points: group -> name -> value."""
    info = place / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in each.items()) for group, each in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))


def install_project(project: Path, place: Path) -> None:
    """The project's package in `place`, with what its pyproject.toml says of it."""
    said = read_pyproject(project)
    for package in said["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        shutil.copytree(project / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    write_distribution(
        place, said["project"]["name"], said["project"]["version"], entry_points=said["project"]["entry-points"]
    )


class PackageSite:
    """A folder from which this process imports, for a while."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def add(self, name: str, version: str = "1.0", *, methods=None, recipes=None, files=None) -> None:
        """A package. methods: "perturbation.sam" -> "module:object"; recipes: its folder; files: path -> text."""
        groups = {"rb_smooth.methods": methods or {}, "rb_smooth.recipes": {name: recipes} if recipes else {}}
        write_distribution(self.place, name, version, entry_points=groups)
        for path, text in (files or {}).items():
            (self.place / path).parent.mkdir(parents=True, exist_ok=True)
            (self.place / path).write_text(text)
        self.refresh()

    def add_sample(self) -> None:
        install_project(SAMPLE, self.place)
        self.refresh()

    def remove_all(self) -> None:
        shutil.rmtree(self.place)
        self.place.mkdir()
        self.refresh()

    def refresh(self) -> None:
        importlib.invalidate_caches()
        plugins._plugin_entries.cache_clear()

    def close(self) -> None:
        """Forget what was imported from here."""
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(str(self.place)):
                del sys.modules[name]
        self.refresh()
