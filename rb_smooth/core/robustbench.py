"""Interface to RobustBench and AutoAttack, with workarounds for defects of their packages.

- RobustBench imports `autoattack`, which PyPI does not have: it is built over `pyautoattack` (the same code under
  another signature, same flags bit for bit) on first import, unless a real one is installed.
- RobustBench imports `pkg_resources`, which setuptools 82 dropped: a stub is importable while the only module that uses
  it loads.
- RobustBench's wheel lacks the template of its HTML leaderboard: one with the same columns replaces it.
- torchattacks' wheel carries files of an old RobustBench and overwrites the real one when it is installed last.

`install()` adds import hooks only, and does not import torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.core.robustbench_shims import AutoAttackFinder, AutoAttackLoader, RobustBenchRequirementsFinder

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from rb_smooth.core.threat import Threat


REPAIR = "python -m rb_smooth.doctor --repair"
ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
"""The attacks of AutoAttack standard, in order."""
MIN_CLASSES = 4
"""Smallest number of classes for which the targeted DLR loss is defined."""


def install() -> None:
    """Make `import robustbench` work. Idempotent; real packages take precedence over the stubs."""
    if not any(isinstance(finder, AutoAttackFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, RobustBenchRequirementsFinder())
        sys.meta_path.append(AutoAttackFinder())


def import_robustbench() -> Any:
    """Import RobustBench. Raises UserError if torchattacks' files overwrite it."""
    install()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # RobustBench's pinned timm uses names that newer torch deprecates
        import robustbench

    if getattr(robustbench, "__file__", None) is None or not hasattr(robustbench, "benchmark"):
        raise UserError(f"expected RobustBench, got the files that torchattacks' wheel lays over it; run `{REPAIR}`")
    return robustbench


def zoo_table(dataset: str, threat: str) -> dict[str, dict[str, Any]]:
    """RobustBench's dictionary of models of one data set and threat model; mutable."""
    import_robustbench()
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    return model_dicts[BenchmarkDataset(dataset)].setdefault(ThreatModel(threat), {})


def zoo_dataset(classes: int) -> str:
    """RobustBench's data set of 32 x 32 images whose models have `classes` classes; CIFAR-10 if none has."""
    return "cifar100" if classes == 100 else "cifar10"


def zoo_network(dataset: str, threat: str, name: str) -> nn.Module:
    """The untrained network of a RobustBench model; downloads and reads nothing.

    Raises UserError for an unknown name, with the closest one, and for a model that is not one file of weights.
    """
    known = zoo_table(dataset, threat)
    if name not in known:
        raise UserError(f"expected a model of RobustBench's for {dataset} {threat}, {did_you_mean(name, known)}")
    if not isinstance(known[name]["gdrive_id"], str):
        raise UserError(
            f"expected a model of one file of weights, got {name}, an ensemble or one hosted elsewhere; choose another"
        )
    network: nn.Module = known[name]["model"]()
    return network


def architectures(module: str) -> Any:
    """RobustBench's model_zoo.architectures.<module>."""
    import_robustbench()
    return importlib.import_module(f"robustbench.model_zoo.architectures.{module}")


def register_dataset(name: str, classes: int, loader: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Add a data set to RobustBench's enumeration, through its private API. Idempotent.

    loader: (n_examples, data_dir, preprocessing) -> (x, y), the clean test points.
    """
    import_robustbench()
    from robustbench import data, utils
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    if name not in {member.value for member in BenchmarkDataset._value2member_map_.values()}:
        member = object.__new__(BenchmarkDataset)
        member._name_ = member._value_ = name
        BenchmarkDataset._value2member_map_[name] = member  # lookup by value works; iteration is unchanged
        model_dicts[member] = {ThreatModel.Linf: {}, ThreatModel.L2: {}}
    member = BenchmarkDataset(name)
    data._clean_dataset_loaders[member] = loader
    utils.DATASET_CLASSES[member] = classes


def benchmark_backend() -> str:
    """Name and version of the code behind `import autoattack`, which RobustBench's `benchmark` runs."""
    spec = importlib.util.find_spec("autoattack")
    real = spec is not None and not isinstance(spec.loader, AutoAttackLoader)
    return f"autoattack {_package_version('autoattack')}" if real else evaluation_backend()


def evaluation_backend() -> str:
    """Name and version of the code that `standard_attacks` runs, as stored in results."""
    return f"pyautoattack {_package_version('pyautoattack')}"


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on, by name."""
    return {
        name: _package_version(name)
        for name in ("rb_smooth", "torch", "torchvision", "robustbench", "torchattacks", "pyautoattack")
    }


def standard_attacks(
    model: nn.Module, threat: Threat, classes: int, seed: int, device: torch.device
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """AutoAttack standard's four attacks, each (x, y) -> x_adv for one batch of points that are still robust.

    Each call reseeds, so that a batch's result does not depend on earlier calls: batches can be distributed and
    resumed. With fewer than ten classes the targeted attacks have fewer targets; fewer than four raise ValueError. Call
    each inside `robustbench_shims.isolate_autoattack`.
    """
    if classes < MIN_CLASSES:
        raise ValueError(f"expected at least {MIN_CLASSES} classes, got {classes}")
    from pyautoattack import AutoAttack

    adversary = AutoAttack(model, norm=threat.norm, eps=threat.eps, seed=seed, version="standard", device=device)
    adversary.apgd.loss = "ce"
    adversary.fab.targeted = True
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = min(9, classes - 1)
    attacks = (adversary.apgd, adversary.apgd_targeted, adversary.fab, adversary.square)
    return {name: attack.perturb for name, attack in zip(ATTACKS, attacks, strict=True)}


@contextmanager
def warnings_of_autoattack() -> Iterator[list[str]]:
    """Context manager: collect AutoAttack's warnings, such as zero gradients."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("auto-attack")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def _package_version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
