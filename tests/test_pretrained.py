"""Training starts from a model of RobustBench's zoo; what is trained then needs the zoo's file no more."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from cifar_files import write_cifar10
from run_program import run_program

import rb_smooth
from rb_smooth import recipe
from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.registry import build_model
from rb_smooth.core import files, robustbench
from rb_smooth.core.errors import UserError
from rb_smooth.data import datasets
from rb_smooth.data.splits import split
from rb_smooth.leaderboard.metadata import architecture_name, used_extra_data
from rb_smooth.training import trainer, validate
from rb_smooth.training.model_setup import ZooModel

pytestmark = pytest.mark.usefixtures("no_curve_plots")
SETTINGS = [
    *("model.name=robustbench", "model.id=Theirs2020", "train.epochs=1", "schedule.drops=[]"),
    *("data.validation=10", "data.batch_size=16", "objective.steps=1"),
    *("evaluate.batch_size=5", "evaluate.version=quick", "evaluate.n_examples=5"),
]
IMAGE = (3, 32, 32)


def published():
    """A small network that normalises by itself, as many in the zoo do."""

    class Theirs(robustbench.architectures("wide_resnet").WideResNet):
        def __init__(self):
            super().__init__(depth=10, num_classes=10, widen_factor=1)
            self.register_buffer("mu", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
            self.register_buffer("sigma", torch.tensor([0.2, 0.3, 0.2]).view(1, 3, 1, 1))

        def forward(self, x):
            return super().forward((x - self.mu) / self.sigma)

    return Theirs()


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder with CIFAR-10 and with the weights that its user has downloaded, in the form in which many are kept."""
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path / "data", monkeypatch)
    table = robustbench.zoo_table("cifar10", "Linf")
    monkeypatch.setitem(table, "Theirs2020", {"model": published, "gdrive_id": "x"})
    state = {f"module.{key}": value for key, value in published().state_dict().items()}
    files.save_tensors(Path("models/cifar10/Linf/Theirs2020.pt"), {"state_dict": state})
    return Path("models/cifar10/Linf/Theirs2020.pt")


def start_trainer(*settings, progress="new"):
    """A session of that recipe, of a run which is as far as that."""
    declared = validate.check_recipe(*resolve_config("cifar10", "at", [*SETTINGS, *settings]), progress)
    source = datasets.cifar10(Path("data"))
    images = split(source, validation=10, split_seed=0, select="validation", batch_size=16)
    return trainer.Trainer(declared, images, torch.device("cpu"), starts_training=progress == "new")


def fine_tune(*arguments):
    """The program's exit code, in this process."""
    return run_program(recipe.main, "cifar10", "at", *(f"--set={each}" for each in SETTINGS), *arguments)


def test_training_starts_from_the_published_model_bit_for_bit_and_every_layer_trains(weights):
    started, theirs = (
        start_trainer("train.channels_last=false"),
        ZooModel("Theirs2020", "cifar10", "Linf", Path("models")).load(),
    )
    assert all(module.training for module in started.model.modules())
    x = torch.rand(4, *IMAGE)
    with torch.no_grad():
        assert torch.equal(started.model.eval()(x), theirs(x))  # the data's own moments come nowhere in between
    assert started.input_hashes["start"] == files.sha256(weights)
    assert "start" not in start_trainer(progress="begun").input_hashes


def test_weights_named_by_the_recipe_win_over_the_published(weights):
    other = build_model("robustbench", {"id": "Theirs2020"}, IMAGE, 10)
    files.save_tensors(Path("mine.pt"), other.state_dict())
    started = start_trainer("train.start=mine.pt")
    assert torch.equal(started.model.net.conv1.weight, other.net.conv1.weight)
    assert torch.equal(started.model.net.mu, other.net.mu)
    assert started.input_hashes["start"] == files.sha256(Path("mine.pt"))


@pytest.mark.slow
def test_what_was_fine_tuned_is_measured_entered_and_loaded_without_the_zoos_file(weights, short_attacks, capsys):
    assert fine_tune("--no-submit") == 0
    shutil.rmtree("models")
    assert fine_tune("--n-examples=6") == 0
    (path,) = Path("leaderboard/model_info/cifar10/Linf").glob("*.json")
    info = json.loads(path.read_text())
    assert info["name"].startswith("at (from Theirs2020)")
    assert info["additional_data"] is True  # nothing is known of this one
    assert info["rb_smooth"]["score"]["n"] == 6
    model = rb_smooth.load_model(path.stem)
    assert type(model.net).__name__ == "Theirs"
    assert fine_tune("--fresh") == 2
    assert "got no file; download them" in capsys.readouterr().err


def test_a_fine_tuned_run_goes_on_without_the_zoos_file(weights):
    first = start_trainer()
    order = first.batch_order()
    first.run_batch(order)
    state = copy.deepcopy(first.state_dict())
    weights.unlink()
    again = start_trainer(progress="begun")
    again.resume(state, Path("resume.pt"))
    for each in (first, again):
        each.run_batch(order)
    ours, theirs = first.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_missing_weights_stop_a_run_before_it_writes_anything(weights, capsys):
    assert fine_tune("--set=model.zoo_dir=elsewhere") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the weights of Theirs2020 in elsewhere/cifar10/Linf/Theirs2020.pt, got no file" in line
    assert "robustbench.load_model('Theirs2020', 'elsewhere', 'cifar10', 'Linf')" in line
    assert not Path("runs").exists()


@pytest.mark.parametrize("content", ["<!DOCTYPE html><title>Quota exceeded</title>", ""])
def test_a_web_page_in_the_place_of_weights_is_one_line_that_says_so(weights, capsys, content):
    """What Google Drive answers when too many have asked, kept under the name of the weights."""
    weights.write_text(content)
    assert fine_tune() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the weights of Theirs2020 in {weights}, got a damaged or foreign file (such as the web page" in line
    assert "delete it and download them again with robustbench.load_model('Theirs2020'" in line


def test_an_unknown_model_is_refused_with_the_nearest_and_an_ensemble_by_name(weights):
    with pytest.raises(UserError, match="did you mean 'Theirs2020'"):
        start_trainer("model.id=Their2020")
    with pytest.raises(UserError, match="one file of weights, got Chen2020Adversarial"):
        start_trainer("model.id=Chen2020Adversarial")
    with pytest.raises(UserError, match="model robustbench: threat to be 'Linf', 'L2'"):
        start_trainer("model.threat=L1")


def test_a_network_that_looks_at_its_numbers_as_it_answers_is_checked_in_earnest(weights, monkeypatch):
    class Looking(type(published())):
        def forward(self, x):
            return super().forward(x) * (1.0 if x.sum().item() < 1e9 else 0.0)  # which no meta tensor can tell

    monkeypatch.setitem(robustbench.zoo_table("cifar10", "Linf")["Theirs2020"], "model", Looking)
    assert start_trainer().batches == 2


MODEL = {"name": "robustbench", "options": {"id": "Wong2020Fast", "threat": "Linf"}, "classes": 10}


@pytest.mark.parametrize(
    ("name", "board", "more"),
    [
        ("Wong2020Fast", "cifar10", False),
        ("Wong2020Fast", "svhn", True),
        ("Carmon2019Unlabeled", "cifar10", True),
        ("Nobody2020", "cifar10", True),
    ],
)
def test_an_entry_tells_of_the_data_that_the_published_model_saw(name, board, more):
    model = MODEL | {"options": {"id": name, "threat": "Linf"}}
    sections = {"data": {"name": board}, "train": {}}
    assert used_extra_data(sections, {"model": model, "board": board}) is more


def test_an_architecture_is_called_as_robustbench_calls_the_published_models():
    assert architecture_name(MODEL) == "PreActResNet-18"
    assert architecture_name(MODEL | {"options": {"id": "Nobody2020", "threat": "Linf"}}) == "Nobody2020"


def test_networks_of_timms_go_by_their_names():
    model = build_model("timm", {"id": "test_byobnet"}, (1, 8, 8), 5).eval()
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 5)
    with pytest.raises(UserError, match=r"model timm: expected id from timm.* got 'resnet_18'"):
        build_model("timm", {"id": "resnet_18"}, (1, 8, 8), 5)
    with pytest.raises(UserError, match="model 'timm' can take, got 3x32x32"):  # a net of one image size
        build_model("timm", {"id": "test_vit"}, IMAGE, 10)
