"""The CIFAR-10 path, from torchvision's files to RobustBench's load_model and benchmark, on ten images a file."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
import torch
from cifar_files import write_cifar10
from run_program import run_program

import rb_smooth
from rb_smooth import recipe
from rb_smooth.config.registry import build_model
from rb_smooth.core import errors, robustbench
from rb_smooth.leaderboard.reports import rows

SETTINGS = (
    "data.validation=10",
    "data.batch_size=16",
    "objective.steps=1",
    "model.name=small_preactresnet",
    "model.width=2",
    "evaluate.batch_size=5",
)
TINY = ["--epochs=1", *(f"--set={setting}" for setting in SETTINGS)]


@pytest.fixture
def trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path / "data", monkeypatch)
    monkeypatch.setattr(rows, "_PUBLISHED_POINTS", 10)  # as if published models had been measured on these files
    assert run_program(recipe.main, "cifar10", "at+awp+ensgd", *TINY) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_an_official_entry_is_ranked_and_loads_through_robustbench_without_network(trained, monkeypatch):
    assert re.search(r"\d+ +at\+awp\+ensgd_small_preactresnet_s0_[0-9a-f]{6}", trained)
    assert "Bartoldson2024Adversarial_WRN-94-16" in trained
    assert "https://github.com/RobustBench/robustbench" in trained

    def no_network(*_):
        raise AssertionError("touched the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    (name,) = rb_smooth.register()
    assert rb_smooth.register() == [name]
    from robustbench import benchmark
    from robustbench.utils import load_model

    model = load_model(name, model_dir="leaderboard/models", dataset="cifar10", threat_model="Linf")
    x = torch.rand(3, 3, 32, 32)
    assert torch.equal(model(x), rb_smooth.load_model(name)(x))
    clean, robust = benchmark(
        model, n_examples=10, dataset="cifar10", threat_model="Linf", eps=8 / 255, data_dir="data"
    )
    assert 0 <= robust <= clean <= 1


@pytest.mark.slow
def test_a_missing_checkpoint_makes_robustbenchs_own_error_name_the_cure(trained, monkeypatch):
    (name,) = rb_smooth.register()
    next(Path("leaderboard/models").rglob("*.pt")).unlink()
    entry = robustbench.zoo_table("cifar10", "Linf")[name]
    assert entry["gdrive_id"] == "leaderboard/models"
    with pytest.raises(errors.UserError, match="weights"):
        rb_smooth.load_model(name)


def test_preactresnet18_is_robustbenchs_with_batchnorm_before_the_last_layer_and_normalisation_inside():
    model = build_model("preactresnet18", {}, (3, 32, 32), 10, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    assert sum(p.numel() for p in model.parameters()) == 11_172_170
    assert model.net.bn_before_fc
    x = torch.rand(2, 3, 32, 32)
    mean = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)
    model.eval()
    torch.testing.assert_close(model(x), model.net((x - mean) / 0.2))


@pytest.mark.parametrize(("shape", "classes"), [((1, 8, 8), 10), ((3, 64, 64), 10)])
def test_images_that_the_net_cannot_take_are_refused(shape, classes):
    with pytest.raises(errors.UserError, match="small_preactresnet"):
        build_model("preactresnet18", {}, shape, classes)
    build_model("small_preactresnet", {}, shape, classes)
