"""Import hooks that provide what RobustBench imports and current packages lack.

These are the modules `autoattack` and `pkg_resources`, and the template of its HTML leaderboard.
`robustbench.install()` installs the hooks; torch is not imported before RobustBench imports it.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from rb_smooth.core.determinism import preserve_rng


@contextmanager
def isolate_autoattack() -> Iterator[None]:
    """Context manager: restore the random state, trace function and call counters that AutoAttack changes."""
    from pyautoattack import checks

    trace, counts = sys.gettrace(), dict(checks.funcs)
    try:
        with preserve_rng():
            yield
    finally:
        checks.funcs.update(counts)
        sys.settrace(trace)


class AutoAttackFinder(MetaPathFinder):
    """Last finder of sys.meta_path: provides `autoattack` if no real one is installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in ("autoattack", "autoattack.state") or importlib.util.find_spec("pyautoattack") is None:
            return None
        return ModuleSpec(fullname, AutoAttackLoader(), is_package=fullname == "autoattack")


class AutoAttackLoader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == "autoattack":
            module.AutoAttack = _autoattack_class()  # type: ignore[attr-defined]
        else:
            from pyautoattack.state import EvaluationState

            module.EvaluationState = EvaluationState  # type: ignore[attr-defined]


class RobustBenchRequirementsFinder(MetaPathFinder):
    """First finder of sys.meta_path: wraps the loaders of two RobustBench modules that miss a requirement."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in ("robustbench.loaders", "robustbench.leaderboard.template"):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        if fullname == "robustbench.leaderboard.template":
            spec.loader = _TemplateLoader(spec.loader)
        elif importlib.util.find_spec("pkg_resources") is None:
            spec.loader = _PkgResourcesLoader(spec.loader)
        return spec


class _WrappingLoader(Loader):
    """A loader that delegates to another one."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class _PkgResourcesLoader(_WrappingLoader):
    """Executes a module while a stub `pkg_resources` is importable; the module keeps its reference."""

    def exec_module(self, module: ModuleType) -> None:
        stub = ModuleType("pkg_resources")
        stub.resource_filename = _resource_filename  # type: ignore[attr-defined]
        sys.modules["pkg_resources"] = stub
        try:
            self._loader.exec_module(module)
        finally:
            del sys.modules["pkg_resources"]


class _TemplateLoader(_WrappingLoader):
    """Falls back to a template of rb_smooth if RobustBench's wheel lacks that of its HTML leaderboard."""

    def exec_module(self, module: ModuleType) -> None:
        from jinja2 import ChoiceLoader, PackageLoader

        self._loader.exec_module(module)
        ours = PackageLoader("rb_smooth", "core")
        module.PackageLoader = lambda *place: ChoiceLoader([PackageLoader(*place), ours])  # type: ignore[attr-defined]


def _resource_filename(package: str, resource: str) -> str:
    file = sys.modules[package].__file__
    assert file is not None
    return str(Path(file).parent / resource)


def _autoattack_class() -> type:
    """pyautoattack's class with autoattack's signature, which RobustBench uses."""
    import pyautoattack

    class AutoAttack(pyautoattack.AutoAttack):
        def __init__(
            self,
            model: Any,
            norm: str = "Linf",
            eps: float = 0.3,
            seed: int | None = None,
            verbose: bool = True,
            attacks_to_run: Sequence[str] = (),
            version: str = "standard",
            is_tf_model: bool = False,
            device: Any = "cuda",
            log_path: str | Path | None = None,
        ) -> None:
            if is_tf_model:
                raise NotImplementedError("expected a PyTorch model; pyautoattack attacks no others")
            attacks = list(attacks_to_run) or None
            super().__init__(model, attacks=attacks, device=device, eps=eps, norm=norm, seed=seed, version=version)
            self._verbose, self._log_path = verbose, log_path

        def run_standard_evaluation(self, x_orig, y_orig, bs=250, return_labels=False, state_path=None):  # type: ignore[no-untyped-def]
            state = None if state_path is None else Path(state_path)
            with isolate_autoattack(), _logging(self._verbose, self._log_path):
                x_adv, y_adv = super().run_standard_evaluation(x_orig, y_orig, batch_size=bs, state_path=state)
            return (x_adv, y_adv) if return_labels else x_adv

        def run_standard_evaluation_individual(self, x_orig, y_orig, bs=250, return_labels=False):  # type: ignore[no-untyped-def]
            wanted, results = self.attacks_to_run, {}
            try:
                for self.attacks_to_run in ([name] for name in wanted):
                    results[self.attacks_to_run[0]] = self.run_standard_evaluation(x_orig, y_orig, bs, return_labels)
            finally:
                self.attacks_to_run = wanted
            return results

        def set_version(self, version: str = "standard") -> None:
            self._set_version(version)

    return AutoAttack


@contextmanager
def _logging(to_stdout: bool, path: str | Path | None) -> Iterator[None]:
    """Context manager: send pyautoattack's log to stdout and to a file, as autoattack does."""
    logger = logging.getLogger("auto-attack")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)] if to_stdout else []
    with open(path, "a", encoding="utf-8") if path else nullcontext() as file:
        handlers += [logging.StreamHandler(file)] if file else []
        level = logger.level
        logger.setLevel(logging.DEBUG)
        for handler in handlers:
            logger.addHandler(handler)
        try:
            yield
        finally:
            logger.setLevel(level)
            for handler in handlers:
                logger.removeHandler(handler)
