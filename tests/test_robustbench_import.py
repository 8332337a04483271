"""The bridge: PyPI's packages as they are, RobustBench works; where it cannot, one line names the cure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rb_smooth.config.schema import parse_protocol
from rb_smooth.core import robustbench
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images
from rb_smooth.evaluation import evaluator


def python(code, **environment):
    import os

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_after_importing_us_robustbench_imports_and_pkg_resources_does_not_linger():
    python(
        "import rb_smooth, sys, importlib.util\n"
        "had = importlib.util.find_spec('pkg_resources') is not None\n"
        "import robustbench\n"
        "assert robustbench.benchmark and robustbench.load_model\n"
        "assert (importlib.util.find_spec('pkg_resources') is not None) == had\n"
        "from robustbench.loaders import make_custom_dataset, CustomImageFolder\n"
        "from autoattack.state import EvaluationState\n"
        "from robustbench.data import load_imagenet\n"
    )


def test_the_imagenet_list_is_found_through_the_stand_in(tmp_path):
    robustbench.import_robustbench()
    from robustbench import loaders

    assert Path(
        loaders.pkg_resources.resource_filename("robustbench.loaders", "helper_files/imagenet_test_image_ids.txt")
    ).exists()


@pytest.mark.slow
def test_a_real_autoattack_wins_over_the_stand_in(tmp_path):
    real = tmp_path / "autoattack"
    real.mkdir()
    (real / "__init__.py").write_text("class AutoAttack: real = True\n")
    (real / "state.py").write_text("class EvaluationState: ...\n")
    out = python(
        "from rb_smooth.core import robustbench\nimport autoattack; assert autoattack.AutoAttack.real\n"
        "print(robustbench.benchmark_backend())\n"
        "print(robustbench.evaluation_backend())",
        PYTHONPATH=str(tmp_path),
    )
    theirs, ours = out.splitlines()
    assert theirs.startswith("autoattack ")
    assert ours.startswith("pyautoattack ")  # an evaluation of ours imports no other


def test_what_is_recorded_are_the_attacks_that_we_run_not_those_that_robustbench_would(monkeypatch, net):
    monkeypatch.setattr(robustbench, "benchmark_backend", lambda: "autoattack 0.1")
    points = Images(torch.zeros(2, 2, 6, 6, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    told = evaluator.cache_key(net, points, Threat("Linf", 0.1, 0.02), parse_protocol({}), "0" * 64)
    assert told["backend"] == robustbench.evaluation_backend()


def test_installing_twice_is_once():
    finders = list(sys.meta_path)
    robustbench.install()
    assert sys.meta_path == finders


def test_torchattacks_copy_over_robustbench_is_named_with_its_repair(tmp_path):
    """The stub imports, but has no benchmark."""
    stub = tmp_path / "robustbench"
    stub.mkdir()
    (stub / "__init__.py").write_text("# from .eval import benchmark\n")
    code = (
        "from rb_smooth.core import robustbench\n"
        "try: robustbench.import_robustbench()\nexcept Exception as e: print(type(e).__name__, e)"
    )
    out = python(code, PYTHONPATH=str(tmp_path))
    assert out.startswith("UserError")
    assert "doctor --repair" in out


@pytest.mark.slow
def test_a_destroyed_robustbench_is_named_too(tmp_path, monkeypatch):
    """What `pip uninstall torchattacks` leaves: an empty namespace package."""
    (tmp_path / "robustbench" / "model_zoo").mkdir(parents=True)
    code = (
        "import sys; from rb_smooth.core import robustbench as bridge\n"
        f"sys.path[:] = [{str(tmp_path)!r}] + [p for p in sys.path if "
        "'site-packages' not in p]\n"
        "try: bridge.import_robustbench()\nexcept Exception as e: print(type(e).__name__, e)"
    )
    assert python(code).startswith("UserError")


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10))

    def forward(self, x):
        return self.net(x)


def test_the_stand_in_speaks_autoattacks_signature(tmp_path, capsys):
    import autoattack
    import pyautoattack

    model = Linear().eval()
    x = torch.rand(6, 3, 2, 2)
    y = model(x).argmax(1)
    log = tmp_path / "log.txt"
    adversary = autoattack.AutoAttack(
        model,
        "Linf",
        0.02,
        seed=1,
        verbose=True,
        attacks_to_run=["apgd-ce", "square"],
        version="custom",
        device="cpu",
        log_path=log,
    )
    theirs = pyautoattack.AutoAttack(
        model, attacks=["apgd-ce", "square"], norm="Linf", eps=0.02, seed=1, version="custom"
    )
    for each in (adversary, theirs):  # short: it is the signature that matters
        each.apgd.n_iter, each.square.n_queries = 10, 100
    x_adv, y_adv = adversary.run_standard_evaluation(x, y, bs=4, return_labels=True)
    expected, labels = theirs.run_standard_evaluation(x, y, batch_size=4)
    assert torch.equal(x_adv, expected)
    assert torch.equal(y_adv, labels)
    assert torch.is_tensor(adversary.run_standard_evaluation(x, y, bs=4))
    each = adversary.run_standard_evaluation_individual(x, y, bs=4)
    assert list(each) == ["apgd-ce", "square"]
    assert "robust accuracy" in capsys.readouterr().out
    assert "robust accuracy" in log.read_text()


def test_the_stand_in_refuses_what_it_cannot_do():
    import autoattack

    with pytest.raises(NotImplementedError):
        autoattack.AutoAttack(Linear(), is_tf_model=True, device="cpu")


def test_too_few_classes_are_refused(net):
    with pytest.raises(ValueError, match="4 classes"):
        robustbench.standard_attacks(net, None, 3, 0, torch.device("cpu"))
