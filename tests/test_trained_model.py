"""Runs and entries as TrainedModel: names, checkpoints, training and test images."""

from __future__ import annotations

import pytest
import torch
from fake_entries import add_weights, make_entry
from fake_runs import fake_run

from rb_smooth.analysis.trained_model import find_trained_model, first_images
from rb_smooth.config.schema import load_raw_dataset
from rb_smooth.core import files
from rb_smooth.core.errors import UserError
from rb_smooth.data.datasets import digits
from rb_smooth.data.images import Images
from rb_smooth.data.splits import split


def find_model(home, what):
    return find_trained_model(what, runs=home / "runs", leaderboard=home / "leaderboard", data_dir=home / "data")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run, and an entry of its best weights."""
    home = tmp_path_factory.mktemp("home")
    run = fake_run(home / "runs", "at", checkpoints=(10, 2))
    entry = make_entry(
        home / "leaderboard",
        "of-elsewhere",
        dataset="digits",
        model={"name": "small_preactresnet", "options": {"width": 2}, "shape": [1, 8, 8], "classes": 10},
        recipe={"data": {"name": "digits"}},
        own={"method": "found"},
    )
    del entry.own["recipe"]["train"]
    add_weights(entry, run.load("best"))
    return home


def the_run(home):
    return next((home / "runs/digits").iterdir())


def test_a_run_is_found_by_its_name_and_by_its_folder(home):
    path = the_run(home)
    for what in (path.name, f"digits/{path.name}", str(path)):
        trained_model = find_model(home, what)
        assert (trained_model.name, trained_model.method, trained_model.dataset, trained_model.seed) == (
            path.name,
            "at",
            "digits",
            0,
        )
        assert trained_model.threat == ("Linf", 0.15, 0.03)


def test_first_is_the_earliest_stored_epoch(home):
    trained_model = find_model(home, the_run(home).name)
    assert list(trained_model.weights) == ["first", "best", "last"]
    for which, file in (("first", "epoch-2"), ("best", "best"), ("last", "last")):
        model, kept = trained_model.load(which), files.load_tensors(the_run(home) / f"{file}.pt")
        assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
        assert not model.training


def test_the_training_images_are_the_training_split(home):
    trained_model = find_model(home, the_run(home).name)
    data = split(digits(home), validation=200, split_seed=0, select="validation", train_examples=128)
    assert torch.equal(trained_model.train.load().x, data.train.load().x)
    assert torch.equal(trained_model.test.load().x, data.test.load().x)


def test_an_entry_is_found_by_its_name_and_has_its_best_weights(home):
    trained_model = find_model(home, "of-elsewhere")
    assert (trained_model.method, list(trained_model.weights)) == ("found", ["best"])
    kept = files.load_tensors(the_run(home) / "best.pt")
    assert all(torch.equal(value, kept[name]) for name, value in trained_model.load().state_dict().items())
    with pytest.raises(UserError, match="expected weights of of-elsewhere, got 'last'"):
        trained_model.load("last")


def test_an_external_checkpoint_has_all_training_images(home):
    everything = load_raw_dataset({"name": "digits"}, home).train
    assert len(find_model(home, "of-elsewhere").train) == len(everything)


def test_first_images_cover_all_classes_of_images_sorted_by_class():
    x = torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1)
    mixed, sorted_by_class = (Images(x, y) for y in (torch.arange(60) % 3, torch.arange(60) // 20))
    assert first_images(mixed, 6).x.flatten().tolist() == list(range(6))
    taken = first_images(sorted_by_class, 12)
    assert len(set(taken.y.tolist())) == 3
    assert torch.equal(taken.y, taken.x.flatten().long() // 20)
    assert torch.equal(first_images(sorted_by_class, 12).x, taken.x)


def test_an_untrained_run_is_rejected(home):
    last = the_run(home) / "last.pt"
    kept = last.read_bytes()
    last.unlink()
    try:
        with pytest.raises(UserError, match=r"got one without last\.pt; repeat its recipe to resume it"):
            find_model(home, the_run(home).name)
    finally:
        last.write_bytes(kept)
