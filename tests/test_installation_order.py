"""In whatever order pip installed the packages, either all works, or `doctor` names what cures it."""

from __future__ import annotations

import importlib.util
import re
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
from fake_plugins import write_distribution
from venv_layers import VenvLayer, build_distribution, repack

from rb_smooth.core import robustbench

pytestmark = pytest.mark.slow
OLD_ROBUSTBENCH = {
    "robustbench/__init__.py": """\
from .data import load_cifar10
from .utils import load_model
# from .eval import benchmark
""",
    "robustbench/eval.py": "# from autoattack import AutoAttack\n# def benchmark(model): ...\n",
}
"""As in torchattacks' wheel, which holds files of an old RobustBench: it is in these two that it shows."""
OLD_PKG_RESOURCES = """\
import os, sys

def resource_filename(module, path):
    return os.path.join(os.path.dirname(sys.modules[module].__file__), path)
"""
WORKS = """
import sys
import rb_smooth, rb_smooth.doctor
sys.argv = ["doctor"]
assert rb_smooth.doctor.main() == 0
import torch, torchattacks
import robustbench, robustbench.loaders
from robustbench.data import load_imagenet
from rb_smooth.components.objectives.at import AT

net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10))
x, y = torch.rand(2, 3, 2, 2), torch.tensor([1, 2])
assert AT(steps=1).craft(net, x, y).shape == x.shape
assert robustbench.benchmark and robustbench.load_model
for module in (rb_smooth, robustbench, torchattacks, robustbench.loaders.pkg_resources):
    print(module.__name__, "from", getattr(module, "__file__", None))
"""
ORIGINAL = {
    "__init__.py": "from .autoattack import AutoAttack\n",
    "state.py": "class EvaluationState: ...\n",
    "autoattack.py": """\
class AutoAttack:
    def __init__(self, model, norm="Linf", eps=.3, seed=None, verbose=True, attacks_to_run=[], version="standard",
                 is_tf_model=False, device="cuda", log_path=None):
        self.eps = eps

    def run_standard_evaluation(self, x_orig, y_orig, bs=250, return_labels=False, state_path=None):
        print("the original attacks", len(x_orig), "points,", bs, "at a time")
        return (x_orig + self.eps).clamp(0, 1)
""",
}
"""A package of the original's signatures. Its attack adds eps to every pixel."""
BENCHMARKED = """
import rb_smooth, torch
from rb_smooth import doctor
import robustbench
from robustbench import data
from robustbench.model_zoo.enums import BenchmarkDataset

x, y = torch.zeros(6, 3, 2, 2), torch.zeros(6, dtype=torch.long)
data._clean_dataset_loaders[BenchmarkDataset.cifar_10] = lambda n, data_dir, preprocessing: (x[:n], y[:n])

class Dark(torch.nn.Module):
    def forward(self, x):
        return torch.stack([x.sum((1, 2, 3)) == 0, x.sum((1, 2, 3)) > 0], 1).float()

print(robustbench.benchmark(Dark().eval(), n_examples=6, eps=8 / 255, batch_size=3))
print(doctor._autoattack().status)
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """By package."""
    out = tmp_path_factory.mktemp("wheels")
    assert OLD_ROBUSTBENCH.keys() <= {path.as_posix() for path in distribution("torchattacks").files}
    return {
        "rb_smooth": build_distribution("wheel", out),
        "robustbench": repack("robustbench", out),
        "torchattacks": repack("torchattacks", out, instead=OLD_ROBUSTBENCH),
    }


@pytest.fixture
def layer(wheels, tmp_path):
    return VenvLayer(tmp_path / "layer", wheels["rb_smooth"].parent)


def check_installation(layer, cwd):
    """Nothing is broken, says the doctor, and RobustBench, torchattacks and we work: (its words, module -> file)."""
    *said, ours, theirs, attacks, resources = layer.run("-c", WORKS, cwd=cwd).splitlines()
    return " ".join(" ".join(said).split()), dict(line.split(" from ") for line in (ours, theirs, attacks, resources))


@pytest.mark.parametrize(
    "order",
    [("torchattacks", "robustbench", "rb_smooth"), ("rb_smooth", "torchattacks", "robustbench")],
    ids=" then ".join,
)
def test_installed_after_robustbench_or_before_it_all_works(order, layer, wheels, tmp_path):
    layer.install(*(wheels[name] for name in order))
    said, files = check_installation(layer, tmp_path)
    assert f"RobustBench: {version('robustbench')}, whole" in said
    for name in order:
        assert Path(files[name]) == layer.site / name / "__init__.py"
    if importlib.util.find_spec("pkg_resources") is None:  # the running environment's setuptools is 82 or newer
        assert "rb_smooth stands in for it" in said
        assert files["pkg_resources"] == "None"


def test_with_torchattacks_last_the_doctor_names_a_cure_which_cures(layer, wheels, tmp_path):
    layer.install(*(wheels[name] for name in ("robustbench", "rb_smooth", "torchattacks")))
    said = layer.run("-m", "rb_smooth.doctor", cwd=tmp_path, code=1)
    assert "broken" in said
    (cure,) = set(re.findall(r"python (-m rb_smooth\.doctor --\w+)", said))
    assert f"{version('robustbench')}, whole" in layer.run(*cure.split(), cwd=tmp_path)
    where = "import importlib.util; print(importlib.util.find_spec('robustbench').origin)"
    assert Path(layer.run("-c", where, cwd=tmp_path).strip()).is_relative_to(layer.site)


def test_a_setuptools_that_still_has_pkg_resources_is_left_to_give_them(layer, wheels, tmp_path):
    layer.install(wheels["rb_smooth"])
    module = layer.site / "pkg_resources.py"
    module.write_text(OLD_PKG_RESOURCES)
    said, files = check_installation(layer, tmp_path)
    assert "pkg_resources: there" in said
    assert Path(files["pkg_resources"]) == module


def test_an_original_autoattack_is_left_alone_and_named(layer, wheels, tmp_path):
    layer.install(wheels["rb_smooth"])
    (layer.site / "autoattack").mkdir()
    for name, text in ORIGINAL.items():
        (layer.site / "autoattack" / name).write_text(text)
    write_distribution(layer.site, "autoattack", "0.1", entry_points={})
    *_, clean, attacked, robust, benchmarked, told = layer.run("-c", BENCHMARKED, cwd=tmp_path).splitlines()
    assert attacked == "the original attacks 6 points, 3 at a time"
    assert (clean, robust) == ("Clean accuracy: 100.00%", "Adversarial accuracy: 0.00%")
    assert benchmarked == "(1.0, 0.0)"
    assert (
        told == f"autoattack 0.1 in RobustBench's benchmark, {robustbench.evaluation_backend()} (the same code) in our "
        "evaluations"
    )
