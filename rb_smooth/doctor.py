"""python -m rb_smooth.doctor [--repair]: check the installation and print a fix for each problem.

The exit code is 1 if training or evaluation would fail.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from rich.table import Table
from rich.text import Text

from rb_smooth.config import registry
from rb_smooth.core import robustbench
from rb_smooth.core.cli import make_parser, run_cli
from rb_smooth.core.console import console, log_info
from rb_smooth.core.errors import UserError, first_line


@dataclass(frozen=True)
class Diagnosis:
    """Result of one check. fatal: training or evaluation would fail. fix: the command; empty if all is well."""

    component: str
    status: str
    fix: str = ""
    fatal: bool = False


def run_checks() -> Iterator[Diagnosis]:
    """Run all checks in turn; each imports what it checks, and none raises."""
    yield Diagnosis("Python", platform.python_version())
    yield _check_import("torch", "pip install torch")
    yield _check_import("torchvision", "pip install --force-reinstall torch torchvision (both from the same index)")
    yield _guarded_check("GPU", _gpu, "pip install torch")
    yield _guarded_check("oneDNN", _onednn, "pip install torch")
    yield _check_import("torchattacks", f"pip install torchattacks, then {robustbench.REPAIR}")
    there = importlib.util.find_spec("pkg_resources") is not None
    yield Diagnosis("pkg_resources", "there" if there else "not there (setuptools >= 82); rb_smooth stands in for it")
    yield _autoattack()
    yield _timm()
    yield _robustbench()
    yield _check_import("sklearn", "pip install scikit-learn")
    yield _plugins()


def repair() -> None:
    """Reinstall RobustBench if torchattacks' wheel has overwritten its files. Raises UserError if pip fails."""
    if _robustbench().fix:
        try:
            wanted = f"robustbench=={version('robustbench')}"
        except PackageNotFoundError:
            wanted = "robustbench"
        log_info(f"repairing: reinstalling {wanted} over torchattacks' files")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wanted]
        if subprocess.run(pip).returncode:
            raise UserError(f"expected pip to install {wanted}, got an error; see its message above")


def main() -> int:
    parser = make_parser("doctor", __doc__)
    parser.add_argument(
        "--repair", action="store_true", help="reinstall RobustBench if torchattacks overwrote its files"
    )
    if parser.parse_args().repair:
        repair()
        return subprocess.run([sys.executable, "-m", "rb_smooth.doctor"]).returncode  # imports are stale here
    findings = list(run_checks())
    table = Table("", "found", "do", box=None)
    for finding in findings:
        sign, colour = (
            ("ok", "green") if not finding.fix else ("broken", "red") if finding.fatal else ("note", "yellow")
        )
        table.add_row(Text(sign, colour), f"{finding.component}: {finding.status}", finding.fix)
    console.print(table)
    return int(any(finding.fatal for finding in findings))


def _gpu() -> Diagnosis:
    import torch

    if torch.cuda.is_available():
        return Diagnosis("GPU", torch.cuda.get_device_name())
    found = "none; the CPU trains digits in minutes, CIFAR-10 in weeks"
    return Diagnosis("GPU", found, "train CIFAR-10 where there is one")


def _onednn() -> Diagnosis:
    from rb_smooth.components import memory_format

    instructions = memory_format.instruction_set()
    layout = {
        "AVX2": "channels_last but for strided 1x1 convolutions of few channels, where oneDNN is wrong",
        "unknown": "plain memory layout: channels_last has not been tested on this kind of CPU",
    }
    return Diagnosis("oneDNN", f"{instructions}; {layout.get(instructions, 'channels_last')}")


def _autoattack() -> Diagnosis:
    if importlib.util.find_spec("pyautoattack") is None:
        return Diagnosis("AutoAttack", "no pyautoattack", "pip install pyautoattack", fatal=True)

    def look() -> Diagnosis:
        importlib.import_module("autoattack")  # the original one or the stub
        theirs, ours = robustbench.benchmark_backend(), robustbench.evaluation_backend()
        apart = f"{theirs} in RobustBench's benchmark, {ours} (the same code) in our evaluations"
        return Diagnosis("AutoAttack", ours if theirs == ours else apart)

    return _guarded_check("AutoAttack", look, "pip uninstall autoattack: pyautoattack takes its place")


def _timm() -> Diagnosis:
    try:
        (wanted,) = [each.replace(" ", "") for each in requires("robustbench") or [] if each.startswith("timm")]
        found = f"timm=={version('timm')}"
    except (PackageNotFoundError, ValueError):
        return Diagnosis("timm", "not found", "pip install timm==1.0.9", fatal=True)
    return Diagnosis("timm", found, "" if found == wanted or "==" not in wanted else f"pip install {wanted}")


def _robustbench() -> Diagnosis:
    def look() -> Diagnosis:
        robustbench.import_robustbench()
        return Diagnosis("RobustBench", f"{version('robustbench')}, whole")

    return _guarded_check("RobustBench", look, _autoattack().fix or robustbench.REPAIR)  # it imports AutoAttack


def _plugins() -> Diagnosis:
    """Import all methods of other packages."""
    rows, complaints = registry.list_plugin_methods()
    found = [f"{kind} {name} from {package}" for kind, name, package in rows]
    for kind, name, _ in rows:
        try:
            registry.find_component(kind, name)
        except UserError as error:
            complaints.append(str(error))
    return Diagnosis("methods of other packages", ", ".join(found) or "none", "; ".join(complaints))


def _check_import(module: str, cure: str) -> Diagnosis:
    def look() -> Diagnosis:
        imported = importlib.import_module(module)
        return Diagnosis(module, str(getattr(imported, "__version__", "there")))

    return _guarded_check(module, look, cure)


def _guarded_check(component: str, look: Callable[[], Diagnosis], cure: str) -> Diagnosis:
    """Run a check; an exception is its result."""
    try:
        return look()
    except Exception as error:
        return Diagnosis(component, first_line(error), cure, fatal=True)


if __name__ == "__main__":
    sys.exit(run_cli(main)())
