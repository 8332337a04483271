"""Import paths of version 0.1: those that its documents promised forward with a warning, others name the new path.

To be removed with version 0.3.
"""

from __future__ import annotations

import json
import sys
import warnings
from functools import cache
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_RENAMED = {
    "attacks": {"ball": "make_threat", "crafting": "input_gradient_mode"},
    "audit": {},
    "batchnorm": {"layers": "batchnorm_layers", "mode": "batchnorm_mode", "modes_kept": "preserve_modes"},
    "board.bundle": {"pack": "write_bundle"},
    "board.papertables": {"tabulated": "render_table"},
    "comparison": {"Result": "RunResult", "groups": "compare_methods"},
    "contracts": {},
    "page.building": {},
    "pipeline": {"Options": "RunOptions", "carry_out": "run_recipe"},
    "processes": {"average": "all_reduce_mean"},
    "ranges": {},
    "reproduction": {},
    "settings": {"gather": "resolve_config"},
    "summaries": {},
    "weights": {"shifted": "perturbed", "replaced": "swapped", "frozen": "no_param_grad"},
}
"""Modules that forward, with the names in them that changed."""

_FOLDERS = ("objectives", "optimizers", "perturbations", "averaging")
"""Packages of methods; each module in them forwards too."""


class OldPaths(MetaPathFinder, Loader):
    """Finds what no longer exists under its old path; to stand last on sys.meta_path."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, old = fullname.partition(".")
        if package != "rb_smooth" or (new := _new_paths().get(old)) is None:
            return None
        if _promised(old) is None:
            raise ImportError(
                f"expected a module of rb_smooth, got {fullname}; it is now rb_smooth.{new}", name=fullname
            )
        return ModuleSpec(fullname, self, is_package=old in _FOLDERS)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        old = spec.name.partition(".")[2]
        return _ForwardingModule(spec.name, f"rb_smooth.{_new_paths()[old]}", _promised(old) or {})

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to execute: names are looked up in the new module."""


class _ForwardingModule(ModuleType):
    """A module of the old path, whose names are the new module's."""

    def __init__(self, old: str, new: str, renamed: dict[str, str]) -> None:
        super().__init__(old, f"Forwards to {new}.")
        self._new, self._renamed = new, renamed

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(import_module(self._new), self._renamed.get(name, name))
        now = f"{self._new}.{self._renamed.get(name, name)}"
        message = f"{self.__name__}.{name} is now {now}; the old path goes with version 0.3"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return value


def forward_old_paths() -> None:
    """Make imports by old paths forward, or fail with the new path. Idempotent."""
    if not any(isinstance(finder, OldPaths) for finder in sys.meta_path):
        sys.meta_path.append(OldPaths())


def _promised(old: str) -> dict[str, str] | None:
    """The changed names of an old module that forwards; None for one that does not."""
    return _RENAMED.get(old, {} if old.partition(".")[0] in _FOLDERS else None)


@cache
def _new_paths() -> dict[str, str]:
    """New module of each old one, below rb_smooth."""
    paths: dict[str, str] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return paths
