"""python -m rb_smooth.doctor [--repair]: what is installed, what is broken, and the cure for each.

Exit code 1 if training or evaluation would fail.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from rich.table import Table
from rich.text import Text

from rb_smooth.config import registry
from rb_smooth.core import robustbench
from rb_smooth.core.cli import answering, program
from rb_smooth.core.console import console, remark
from rb_smooth.core.errors import Refused


@dataclass(frozen=True)
class Finding:
    """fatal: training or evaluation would fail. cure: what to type; empty where nothing is wrong."""

    subject: str
    found: str
    cure: str = ""
    fatal: bool = False


def examine() -> Iterator[Finding]:
    """One finding after the other; each imports what it looks at, none disturbs the next."""
    for look in (
        _python,
        _torch,
        _torchvision,
        _gpu,
        _onednn,
        _torchattacks,
        _pkg_resources,
        _autoattack,
        _timm,
        _robustbench,
        _digits,
        _plugins,
    ):
        yield look()


def repair() -> None:
    """Lay RobustBench over the files that torchattacks' wheel put in its place. Nothing else is changed."""
    if _robustbench().cure:
        wanted = _wanted("robustbench")
        remark(f"repairing: installing {wanted} again, over torchattacks' copy")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wanted]
        if subprocess.run(pip).returncode:
            raise Refused(f"expected pip to install {wanted}, got an error; see its message above")


def main() -> int:
    parser = program("doctor", __doc__)
    parser.add_argument("--repair", action="store_true", help="mend RobustBench where torchattacks' files lie over it")
    if parser.parse_args().repair:
        repair()
        return subprocess.run([sys.executable, "-m", "rb_smooth.doctor"]).returncode  # what was imported is stale here
    findings = list(examine())
    table = Table("", "found", "do", box=None)
    for finding in findings:
        sign, colour = (
            ("ok", "green") if not finding.cure else ("broken", "red") if finding.fatal else ("note", "yellow")
        )
        table.add_row(Text(sign, colour), f"{finding.subject}: {finding.found}", finding.cure)
    console.print(table)
    return int(any(finding.fatal for finding in findings))


def _wanted(package: str) -> str:
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:
        return package


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", found)


def _torch() -> Finding:
    return _imported("torch", "pip install torch")


def _torchvision() -> Finding:
    return _imported("torchvision", "pip install --force-reinstall torch torchvision (both from the same index)")


def _gpu() -> Finding:
    def look() -> Finding:
        import torch

        if torch.cuda.is_available():
            return Finding("GPU", torch.cuda.get_device_name())
        return Finding(
            "GPU", "none; the CPU trains digits in minutes, CIFAR-10 in weeks", "train CIFAR-10 where there is one"
        )

    return _guarded("GPU", look, "pip install torch")


def _onednn() -> Finding:
    def look() -> Finding:
        from rb_smooth.components import memory_format

        instructions = memory_format.instruction_set()
        layout = {
            "AVX2": "channels_last but for strided 1x1 convolutions of few channels, where oneDNN is wrong",
            "unknown": "plain memory layout: channels_last has not been tested on this kind of CPU",
        }
        return Finding("oneDNN", f"{instructions}; {layout.get(instructions, 'channels_last')}")

    return _guarded("oneDNN", look, "pip install torch")


def _torchattacks() -> Finding:
    return _imported("torchattacks", "pip install torchattacks, then python -m rb_smooth.doctor --repair")


def _pkg_resources() -> Finding:
    there = importlib.util.find_spec("pkg_resources") is not None
    return Finding("pkg_resources", "there" if there else "not there (setuptools >= 82); rb_smooth stands in for it")


def _autoattack() -> Finding:
    if importlib.util.find_spec("pyautoattack") is None:
        return Finding("AutoAttack", "no pyautoattack", "pip install pyautoattack", fatal=True)

    def look() -> Finding:
        importlib.import_module("autoattack")  # an original one, or what stands in for it
        theirs, ours = robustbench.backend(), robustbench.our_attacks()
        apart = f"{theirs} in RobustBench's benchmark, {ours} (the same code) in our evaluations"
        return Finding("AutoAttack", ours if theirs == ours else apart)

    return _guarded("AutoAttack", look, "pip uninstall autoattack: pyautoattack takes its place")


def _timm() -> Finding:
    try:
        (wanted,) = [each.replace(" ", "") for each in requires("robustbench") or [] if each.startswith("timm")]
        found = f"timm=={version('timm')}"
    except (PackageNotFoundError, ValueError):
        return Finding("timm", "not found", "pip install timm==1.0.9", fatal=True)
    return Finding("timm", found, "" if found == wanted or "==" not in wanted else f"pip install {wanted}")


def _robustbench() -> Finding:
    def look() -> Finding:
        robustbench.robustbench()
        return Finding("RobustBench", f"{version('robustbench')}, whole")

    return _guarded("RobustBench", look, _autoattack().cure or robustbench.REPAIR)  # it imports AutoAttack


def _digits() -> Finding:
    return _imported("sklearn", "pip install scikit-learn")


def _plugins() -> Finding:
    """Methods of other packages: here, and nowhere else, all are imported."""
    rows, complaints = registry.offered()
    found = [f"{kind} {name} from {package}" for kind, name, package in rows]
    for kind, name, _ in rows:
        try:
            registry.find(kind, name)
        except Refused as refused:
            complaints.append(str(refused))
    return Finding("methods of other packages", ", ".join(found) or "none", "; ".join(complaints))


def _imported(module: str, cure: str) -> Finding:
    def look() -> Finding:
        imported = importlib.import_module(module)
        return Finding(module, str(getattr(imported, "__version__", "there")))

    return _guarded(module, look, cure)


def _guarded(subject: str, look: Callable[[], Finding], cure: str) -> Finding:
    """Whatever goes wrong while looking is the finding."""
    try:
        return look()
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Finding(subject, first, cure, fatal=True)


if __name__ == "__main__":
    sys.exit(answering(main)())
