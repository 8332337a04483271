"""What is studied: a run or an entry, with the images that training saw and did not see."""

from __future__ import annotations

import pytest
import torch
from made_entries import entered, with_weights
from made_runs import made_run

from rb_smooth.analysis.trained_model import find_specimen, first_images
from rb_smooth.config.schema import source_of
from rb_smooth.core import files
from rb_smooth.core.errors import Refused
from rb_smooth.data.datasets import digits
from rb_smooth.data.images import Images
from rb_smooth.data.splits import split


def find(home, what):
    return find_specimen(what, runs=home / "runs", leaderboard=home / "leaderboard", data_dir=home / "data")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run, and an entry of its best weights."""
    home = tmp_path_factory.mktemp("specimens")
    run = made_run(home / "runs", "at", kept=(10, 2))
    entry = entered(
        home / "leaderboard",
        "of-elsewhere",
        dataset="digits",
        model={"name": "small_preactresnet", "options": {"width": 2}, "shape": [1, 8, 8], "classes": 10},
        recipe={"data": {"name": "digits"}},
        own={"method": "found"},
    )
    del entry.own["recipe"]["train"]
    with_weights(entry, run.load("best"))
    return home


def the_run(home):
    return next((home / "runs/digits").iterdir())


def test_a_run_is_found_by_its_name_and_by_its_folder(home):
    path = the_run(home)
    for what in (path.name, f"digits/{path.name}", str(path)):
        specimen = find(home, what)
        assert (specimen.name, specimen.method, specimen.dataset, specimen.seed) == (path.name, "at", "digits", 0)
        assert specimen.threat == ("Linf", 0.15, 0.03)


def test_first_is_the_earliest_epoch_that_was_kept(home):
    specimen = find(home, the_run(home).name)
    assert list(specimen.weights) == ["first", "best", "last"]
    for which, file in (("first", "epoch-2"), ("best", "best"), ("last", "last")):
        model, kept = specimen.load(which), files.load_tensors(the_run(home) / f"{file}.pt")
        assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
        assert not model.training


def test_the_training_images_are_those_that_training_saw(home):
    specimen = find(home, the_run(home).name)
    data = split(digits(home), validation=200, split_seed=0, select="validation", train_examples=128)
    assert torch.equal(specimen.train.loaded().x, data.train.loaded().x)
    assert torch.equal(specimen.test.loaded().x, data.test.loaded().x)


def test_an_entry_is_found_by_its_name_and_has_its_best_weights(home):
    specimen = find(home, "of-elsewhere")
    assert (specimen.method, list(specimen.weights)) == ("found", ["best"])
    kept = files.load_tensors(the_run(home) / "best.pt")
    assert all(torch.equal(value, kept[name]) for name, value in specimen.load().state_dict().items())
    with pytest.raises(Refused, match="expected weights of of-elsewhere, got 'last'"):
        specimen.load("last")


def test_of_a_checkpoint_from_elsewhere_all_training_images_are_taken(home):
    everything = source_of({"name": "digits"}, home).train
    assert len(find(home, "of-elsewhere").train) == len(everything)


def test_the_first_images_are_of_all_classes_even_where_they_lie_class_by_class():
    x = torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1)
    mixed, sorted_by_class = (Images(x, y) for y in (torch.arange(60) % 3, torch.arange(60) // 20))
    assert first_images(mixed, 6).x.flatten().tolist() == list(range(6))
    taken = first_images(sorted_by_class, 12)
    assert len(set(taken.y.tolist())) == 3
    assert torch.equal(taken.y, taken.x.flatten().long() // 20)
    assert torch.equal(first_images(sorted_by_class, 12).x, taken.x)


def test_a_run_that_is_not_trained_is_refused(home):
    last = the_run(home) / "last.pt"
    kept = last.read_bytes()
    last.unlink()
    try:
        with pytest.raises(Refused, match=r"a trained run in .*, got one without last\.pt; run its recipe again"):
            find(home, the_run(home).name)
    finally:
        last.write_bytes(kept)
