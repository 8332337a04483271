"""The only file that knows how RobustBench, torchattacks and AutoAttack are packaged, and how they are broken.

- RobustBench imports `autoattack`, which PyPI does not have: it is built over `pyautoattack` (the same code under another
  signature, same flags bit for bit) on first import, unless a real one is installed.
- RobustBench imports `pkg_resources`, which setuptools 82 dropped: a stand-in is visible while its one user loads.
- torchattacks' wheel carries files of an old RobustBench and overwrites the real one when it is installed last.

`install()` costs no torch; it only tells Python where to find what.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rb_smooth.refusal import Refused
from rb_smooth.seeding import random_state_kept

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from rb_smooth.attacks import Threat

REPAIR = "python -m rb_smooth.doctor --repair"
ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
"""AutoAttack standard, in its order."""
FEWEST_CLASSES = 4
"""Fewer, and the targeted DLR loss does not exist."""


def install() -> None:
    """Make `import robustbench` work from here on. Idempotent; real packages win over the stand-ins."""
    if not any(isinstance(finder, _StandIns) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PkgResourcesForLoaders())
        sys.meta_path.append(_StandIns())


def robustbench() -> Any:
    """The whole RobustBench. Raises Refused, naming the repair, where torchattacks' files lie over it."""
    install()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # RobustBench's pinned timm uses names that newer torch deprecates
        import robustbench

    if getattr(robustbench, "__file__", None) is None or not hasattr(robustbench, "benchmark"):
        raise Refused(f"expected RobustBench, got the files that torchattacks' wheel lays over it; run `{REPAIR}`")
    return robustbench


def zoo_table(dataset: str, threat: str) -> dict[str, dict[str, Any]]:
    """RobustBench's own table of models for one board, to read or to add to."""
    robustbench()
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    return model_dicts[BenchmarkDataset(dataset)].setdefault(ThreatModel(threat), {})


def architectures(module: str) -> Any:
    """RobustBench's model_zoo.architectures.<module>."""
    robustbench()
    return importlib.import_module(f"robustbench.model_zoo.architectures.{module}")


def add_dataset(name: str, classes: int, loader: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Teach RobustBench a data set that its enumeration lacks. Idempotent; private API, hence only ever on request.

    loader: (n_examples, data_dir, preprocessing) -> (x, y), the clean test points.
    """
    robustbench()
    from robustbench import data, utils
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    if name not in {member.value for member in BenchmarkDataset._value2member_map_.values()}:
        member = object.__new__(BenchmarkDataset)
        member._name_ = member._value_ = name
        BenchmarkDataset._value2member_map_[name] = member  # looked up by value; listing the enumeration stays as it was
        model_dicts[member] = {ThreatModel.Linf: {}, ThreatModel.L2: {}}
    member = BenchmarkDataset(name)
    data._clean_dataset_loaders[member] = loader
    utils.DATASET_CLASSES[member] = classes


def backend() -> str:
    """Which code answers to `import autoattack`, with its version, as results record it."""
    spec = importlib.util.find_spec("autoattack")
    real = spec is not None and not isinstance(spec.loader, _AutoAttackLoader)
    return f"autoattack {_version('autoattack')}" if real else f"pyautoattack {_version('pyautoattack')}"


def versions() -> dict[str, str]:
    """What results depend on, by package."""
    return {name: _version(name) for name in ("rb_smooth", "torch", "torchvision", "robustbench", "torchattacks", "pyautoattack")}


@contextmanager
def undisturbed() -> Iterator[None]:
    """AutoAttack reseeds torch, blinds the tracer and counts calls for ever; inside, it may. Afterwards all is as before."""
    from pyautoattack import checks

    trace, counts = sys.gettrace(), dict(checks.funcs)
    try:
        with random_state_kept():
            yield
    finally:
        checks.funcs.update(counts)
        sys.settrace(trace)


def standard_attacks(
    model: nn.Module, threat: Threat, classes: int, seed: int, device: torch.device
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """AutoAttack standard's four attacks, each (x, y) -> x_adv for one batch of points that are still robust.

    Each call reseeds, so that a batch's result does not depend on what ran before it: batches can be dealt and resumed.
    With fewer than ten classes the targeted attacks have fewer targets; under four classes they cannot run. Call inside `undisturbed`.
    """
    if classes < FEWEST_CLASSES:
        raise ValueError(f"expected at least {FEWEST_CLASSES} classes, got {classes}")
    from pyautoattack import AutoAttack

    adversary = AutoAttack(model, norm=threat.norm, eps=threat.eps, seed=seed, version="standard", device=device)
    adversary.apgd.loss = "ce"
    adversary.fab.targeted = True
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = min(9, classes - 1)
    attacks = (adversary.apgd, adversary.apgd_targeted, adversary.fab, adversary.square)
    return {name: attack.perturb for name, attack in zip(ATTACKS, attacks, strict=True)}


@contextmanager
def warnings_of_autoattack() -> Iterator[list[str]]:
    """Collects what AutoAttack warns of, such as zero gradients."""
    heard: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("auto-attack")
    logger.addHandler(handler)
    try:
        yield heard
    finally:
        logger.removeHandler(handler)


class _StandIns(MetaPathFinder):
    """Last on the path: asked for `autoattack` only where no real one is installed."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in ("autoattack", "autoattack.state") or importlib.util.find_spec("pyautoattack") is None:
            return None
        return ModuleSpec(fullname, _AutoAttackLoader(), is_package=fullname == "autoattack")


class _AutoAttackLoader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == "autoattack":
            module.AutoAttack = _autoattack_class()  # type: ignore[attr-defined]
        else:
            from pyautoattack.state import EvaluationState

            module.EvaluationState = EvaluationState  # type: ignore[attr-defined]


class _PkgResourcesForLoaders(MetaPathFinder):
    """First on the path, for `robustbench.loaders` alone."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "robustbench.loaders":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None and importlib.util.find_spec("pkg_resources") is None:
            spec.loader = _WithPkgResources(spec.loader)
        return spec


class _WithPkgResources(Loader):
    """Executes a module while a stand-in `pkg_resources` can be imported; the module keeps its reference."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        stand_in = ModuleType("pkg_resources")
        stand_in.resource_filename = _resource_filename  # type: ignore[attr-defined]
        sys.modules["pkg_resources"] = stand_in
        try:
            self._loader.exec_module(module)
        finally:
            del sys.modules["pkg_resources"]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _resource_filename(package: str, resource: str) -> str:
    file = sys.modules[package].__file__
    assert file is not None
    return str(Path(file).parent / resource)


def _autoattack_class() -> type:
    """pyautoattack's class under autoattack's signature, as RobustBench calls it."""
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
            self._said_to_stdout, self._log_path = verbose, log_path

        def run_standard_evaluation(self, x_orig, y_orig, bs=250, return_labels=False, state_path=None):  # type: ignore[no-untyped-def, override]
            state = None if state_path is None else Path(state_path)
            with undisturbed(), _logging(self._said_to_stdout, self._log_path):
                x_adv, y_adv = super().run_standard_evaluation(x_orig, y_orig, batch_size=bs, state_path=state)
            return (x_adv, y_adv) if return_labels else x_adv

        def run_standard_evaluation_individual(self, x_orig, y_orig, bs=250, return_labels=False):  # type: ignore[no-untyped-def, override]
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
    """autoattack prints and appends to a file; pyautoattack logs. Inside, its log goes where autoattack's would."""
    logger = logging.getLogger("auto-attack")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)] if to_stdout else []
    with (open(path, "a", encoding="utf-8") if path else nullcontext()) as file:
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


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
