"""The only file that knows how RobustBench, torchattacks and AutoAttack are packaged, and how they are broken.

- RobustBench imports `autoattack`, which PyPI does not have: it is built over `pyautoattack` (the same code under
  another signature, same flags bit for bit) on first import, unless a real one is installed.
- RobustBench imports `pkg_resources`, which setuptools 82 dropped: a stand-in is visible while its one user loads.
- RobustBench's wheel lacks the template of its HTML leaderboard: one of ours, of the same columns, takes its place.
- torchattacks' wheel carries files of an old RobustBench and overwrites the real one when it is installed last.

`install()` costs no torch; it only tells Python where to find what.
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
"""AutoAttack standard, in its order."""
MIN_CLASSES = 4
"""Fewer, and the targeted DLR loss does not exist."""


def install() -> None:
    """Make `import robustbench` work from here on. Idempotent; real packages win over the stand-ins."""
    if not any(isinstance(finder, AutoAttackFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, RobustBenchRequirementsFinder())
        sys.meta_path.append(AutoAttackFinder())


def import_robustbench() -> Any:
    """The whole RobustBench. Raises UserError, naming the repair, where torchattacks' files lie over it."""
    install()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # RobustBench's pinned timm uses names that newer torch deprecates
        import robustbench

    if getattr(robustbench, "__file__", None) is None or not hasattr(robustbench, "benchmark"):
        raise UserError(f"expected RobustBench, got the files that torchattacks' wheel lays over it; run `{REPAIR}`")
    return robustbench


def zoo_table(dataset: str, threat: str) -> dict[str, dict[str, Any]]:
    """RobustBench's own table of models for one board, to read or to add to."""
    import_robustbench()
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    return model_dicts[BenchmarkDataset(dataset)].setdefault(ThreatModel(threat), {})


def zoo_dataset(classes: int) -> str:
    """Which of RobustBench's data sets of 32 x 32 images has models of so many classes; CIFAR-10 where none has."""
    return "cifar100" if classes == 100 else "cifar10"


def zoo_network(dataset: str, threat: str, name: str) -> nn.Module:
    """The network of one of RobustBench's own models, untrained: nothing is downloaded, no file is read.

    Raises UserError for an unknown name, with the nearest one, and for a model that is not one file of weights.
    """
    known = zoo_table(dataset, threat)
    if name not in known:
        raise UserError(f"expected a model of RobustBench's for {dataset} {threat}, {did_you_mean(name, known)}")
    if not isinstance(known[name]["gdrive_id"], str):
        raise UserError(
            f"expected a model of one file of weights, got {name}, an ensemble or kept elsewhere; choose another"
        )
    network: nn.Module = known[name]["model"]()
    return network


def architectures(module: str) -> Any:
    """RobustBench's model_zoo.architectures.<module>."""
    import_robustbench()
    return importlib.import_module(f"robustbench.model_zoo.architectures.{module}")


def register_dataset(name: str, classes: int, loader: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Teach RobustBench a data set that its enumeration lacks. Idempotent; private API, hence only ever on request.

    loader: (n_examples, data_dir, preprocessing) -> (x, y), the clean test points.
    """
    import_robustbench()
    from robustbench import data, utils
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    if name not in {member.value for member in BenchmarkDataset._value2member_map_.values()}:
        member = object.__new__(BenchmarkDataset)
        member._name_ = member._value_ = name
        BenchmarkDataset._value2member_map_[name] = (
            member  # looked up by value; listing the enumeration stays as it was
        )
        model_dicts[member] = {ThreatModel.Linf: {}, ThreatModel.L2: {}}
    member = BenchmarkDataset(name)
    data._clean_dataset_loaders[member] = loader
    utils.DATASET_CLASSES[member] = classes


def benchmark_backend() -> str:
    """Which code answers to `import autoattack`, and so attacks in RobustBench's `benchmark`, with its version."""
    spec = importlib.util.find_spec("autoattack")
    real = spec is not None and not isinstance(spec.loader, AutoAttackLoader)
    return f"autoattack {_package_version('autoattack')}" if real else evaluation_backend()


def evaluation_backend() -> str:
    """Whose code `standard_attacks` runs, whatever answers to `import autoattack`, as results record it."""
    return f"pyautoattack {_package_version('pyautoattack')}"


def package_versions() -> dict[str, str]:
    """What results depend on, by package."""
    return {
        name: _package_version(name)
        for name in ("rb_smooth", "torch", "torchvision", "robustbench", "torchattacks", "pyautoattack")
    }


def standard_attacks(
    model: nn.Module, threat: Threat, classes: int, seed: int, device: torch.device
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """AutoAttack standard's four attacks, each (x, y) -> x_adv for one batch of points that are still robust.

    Each call reseeds, so that a batch's result does not depend on what ran before it: batches can be dealt and resumed.
    With fewer than ten classes the targeted attacks have fewer targets; with fewer than four they cannot run. Call each
    inside `robustbench_shims.isolate_autoattack`.
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


def _package_version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
