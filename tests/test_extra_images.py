"""Extra images: file checks, mixing of minibatches, pseudo-labels."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from interruptions import stop_after
from PIL import Image
from run_program import run_program
from tiers import mark_slow_except

from rb_smooth import recipe as program
from rb_smooth.config import yaml
from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.registry import build_model
from rb_smooth.core.determinism import AUGMENT, derive_seed
from rb_smooth.core.errors import Interrupted, UserError
from rb_smooth.data.augmentations import crop
from rb_smooth.data.datasets import digits
from rb_smooth.data.extra_images import check_extra, read_images, read_labels
from rb_smooth.data.image_spec import ImageSpec
from rb_smooth.data.splits import fingerprint, split
from rb_smooth.training import loop, trainer, validate
from rb_smooth.training.batches import load_extra_images
from rb_smooth.training.run_folder.run import Run

CPU = torch.device("cpu")
DIGITS = ImageSpec((1, 8, 8), 10)
QUICK = ["data.train_examples=200", "data.validation=60", "objective.steps=1", "train.epochs=2", "model.width=4"]
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
LABELS = np.array([3, 0, 9, 1, 4, 4])

pytestmark = pytest.mark.usefixtures("no_curve_plots")


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def source():
    return digits(Path("unused"))


@pytest.fixture(scope="module")
def good_file(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("good") / "extra.npz", image=PIXELS, label=LABELS)


def test_images_and_labels_are_read_as_written(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "e.npz", image=pixels, label=np.arange(5, dtype=np.uint8))
        check_extra(tmp_path / "e.npz", ImageSpec((3, 4, 6), 5), labelled=True)
        images, labels = read_images(tmp_path / "e.npz"), read_labels(tmp_path / "e.npz")
        assert (images.shape, images.dtype) == ((5, 3, 4, 6), torch.uint8)
        assert all(
            images[n, c, i, j] == pixels[n, i, j, c] for n, i, j, c in [(0, 0, 0, 0), (4, 3, 5, 2), (2, 1, 4, 1)]
        )
        assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), pixels)
        assert (labels.tolist(), labels.dtype) == ([0, 1, 2, 3, 4], torch.int64)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"label": LABELS}, "no array 'image'"),
        ({"image": PIXELS[..., 0], "label": LABELS}, r"uint8 of shape \(6, 8, 8\)"),
        (
            {"image": PIXELS.transpose(0, 3, 1, 2), "label": LABELS},
            r"\(N, 8, 8, 1\), .*got uint8 of shape \(6, 1, 8, 8\)",
        ),
        ({"image": PIXELS[:, :7], "label": LABELS}, r"shape \(6, 7, 8, 1\)"),
        ({"image": PIXELS.repeat(3, 3), "label": LABELS}, r"shape \(6, 8, 8, 3\)"),
        ({"image": np.float32(PIXELS), "label": LABELS}, "got float32"),
        ({"image": np.int8(PIXELS), "label": LABELS}, "got int8"),
        ({"image": PIXELS}, r"'label' in .*got no labels; set data\.extra\.labels=pseudo"),
        ({"image": PIXELS, "label": LABELS[:5]}, r"6 integers, got int64 of shape \(5,\)"),
        ({"image": PIXELS, "label": LABELS[:, None]}, r"6 integers, got int64 of shape \(6, 1\)"),
        ({"image": PIXELS, "label": np.float32(LABELS)}, "6 integers, got float32"),
        ({"image": PIXELS, "label": LABELS + 1}, "labels 0 to 9 in .*got 1 to 10"),
        ({"image": PIXELS, "label": LABELS - 1}, "labels 0 to 9 in .*got -1 to 8"),
        ({"image": PIXELS[:0], "label": LABELS[:0]}, "an empty array"),
    ],
)
def test_a_file_that_does_not_match_the_data_raises_an_error_that_names_the_fault(tmp_path, arrays, said):
    path = write_npz(tmp_path / "extra.npz", **arrays)
    with pytest.raises(UserError, match=said) as refused:
        check_extra(path, DIGITS, labelled=True)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_labels_are_not_checked_with_pseudo_labels(tmp_path):
    check_extra(write_npz(tmp_path / "bare.npz", image=PIXELS), DIGITS, labelled=False)
    check_extra(write_npz(tmp_path / "wrong.npz", image=PIXELS, label=LABELS + 100), DIGITS, labelled=False)
    with pytest.raises(UserError, match="uint8"):
        check_extra(write_npz(tmp_path / "float.npz", image=PIXELS / 255), DIGITS, labelled=False)


def test_an_empty_file_raises_an_error_with_pseudo_labels(tmp_path):
    with pytest.raises(UserError):
        check_extra(write_npz(tmp_path / "empty.npz", image=PIXELS[:0]), DIGITS, labelled=False)


def test_a_missing_or_invalid_file_raises_an_error(tmp_path, good_file):
    with pytest.raises(UserError, match=r"absent\.npz, got nothing there; correct data\.extra\.file"):
        check_extra(tmp_path / "absent.npz", DIGITS, labelled=True)
    (tmp_path / "text.npz").write_text("not a zip file")
    np.save(tmp_path / "one.npy", PIXELS)
    (tmp_path / "cut.npz").write_bytes(good_file.read_bytes()[:-100])
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("text.npz", "one.npy", "cut.npz", "empty.npz"):
        with pytest.raises(UserError, match=rf"\.npz file in .*{name}"):
            check_extra(tmp_path / name, DIGITS, labelled=True)
    with pytest.raises(UserError, match=r"expected the file .*, got a folder"):
        check_extra(tmp_path, DIGITS, labelled=True)


def test_damaged_pixels_raise_an_error_when_read(tmp_path):
    content = bytearray(write_npz(tmp_path / "e.npz", image=np.tile(PIXELS, (1000, 1, 1, 1))).read_bytes())
    content[200_000] ^= 255
    (tmp_path / "e.npz").write_bytes(content)
    check_extra(tmp_path / "e.npz", DIGITS, labelled=False)
    with pytest.raises(UserError, match=r"whole array 'image' in .*e\.npz"):
        read_images(tmp_path / "e.npz")
    with pytest.raises(UserError, match=r"whole array 'label' in .*e\.npz"):
        read_labels(tmp_path / "e.npz")


@pytest.mark.parametrize("levels", [2, 16])
def test_damage_anywhere_in_a_compressed_file_raises_an_error(tmp_path, levels):
    path = tmp_path / "e.npz"
    np.savez_compressed(path, image=np.random.default_rng(0).integers(0, levels, (300, 8, 8, 1), dtype=np.uint8))
    whole = path.read_bytes()
    for place in range(60, len(whole) - 200, 140):
        for rubbish in (bytes(40), bytes([255]) * 40):
            path.write_bytes(whole[:place] + rubbish + whole[place + 40 :])
            with pytest.raises(UserError, match=r"e\.npz"):
                check_extra(path, DIGITS, labelled=False)
                read_images(path)


@pytest.mark.parametrize(("field", "value"), [(8, 1), (10, 99)], ids=["locked", "packed"])
def test_encryption_or_unknown_compression_raises_an_error(tmp_path, good_file, field, value):
    content = bytearray(good_file.read_bytes())
    content[content.index(b"PK\x01\x02") + field] = value
    (tmp_path / "e.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"\.npz file in .*e\.npz"):
        check_extra(tmp_path / "e.npz", DIGITS, labelled=True)


@pytest.mark.parametrize("header", ["(", "  a\n b\n", "{'descr': '|u1'}", "[]", "\0"])
def test_an_invalid_header_raises_an_error(tmp_path, header):
    with zipfile.ZipFile(tmp_path / "e.npz", "w") as archive:
        archive.writestr("image.npy", b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode())
    with pytest.raises(UserError, match=r"\.npz file in .*e\.npz"):
        check_extra(tmp_path / "e.npz", DIGITS, labelled=True)


class Pickled:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["image", "label"])
def test_object_arrays_raise_an_error_and_are_never_unpickled(tmp_path, name):
    objects = np.empty(6, dtype=object)
    objects[:] = Pickled(tmp_path / "ran")
    path = write_npz(tmp_path / "e.npz", **({"image": PIXELS, "label": LABELS} | {name: objects}))
    with pytest.raises(UserError, match="got object of shape"):
        check_extra(path, DIGITS, labelled=True)
    with pytest.raises(UserError, match="whole array"):
        {"image": read_images, "label": read_labels}[name](path)
    assert not (tmp_path / "ran").exists()


def check_recipe_settings(*settings):
    return validate.check_recipe(*resolve_config("digits", "at", [*QUICK, *settings]))


def extra(file, **options):
    return "data.extra=" + json.dumps({"file": str(file)} | options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"share": 0.5, "shar": 0.5}, r"key of .*data\.extra, got 'shar'; did you mean 'share'"),
        ({"share": 0}, r"data\.extra\.share to be greater than 0"),
        ({"share": 1}, r"data\.extra\.share to be less than 1"),
        ({"share": 0.007}, r"images of both kinds in a minibatch of 64, got 0\.007"),
        ({"share": 0.993}, r"images of both kinds in a minibatch of 64, got 0\.993"),
        ({}, r"data\.extra\.share, got nothing"),
        ({"share": 0.5, "labels": "guessed"}, r"data\.extra\.labels to be 'given' or 'pseudo'"),
        ({"share": 0.5, "labels": "pseudo"}, "labeller if and only if .* labels pseudo and labeller None"),
        ({"share": 0.5, "labeller": "somewhere"}, "labeller if and only if .* labels given and labeller somewhere"),
        ({"share": 0.5, "labels": "pseudo", "labeller": "absent"}, "finished run in absent, got an unfinished one"),
    ],
)
def test_invalid_extra_options_raise_an_error_that_names_the_key(good_file, options, said):
    with pytest.raises(UserError, match=said):
        check_recipe_settings(extra(good_file, **options))


def test_a_recipe_with_an_unsuitable_extra_file_raises_an_error(tmp_path, good_file):
    assert (
        check_recipe_settings(extra(good_file, share=0.008)).data.extra.labels == "given"
    )  # rounds to one image of 64
    with pytest.raises(UserError, match="got no labels"):
        check_recipe_settings(extra(write_npz(tmp_path / "e.npz", image=PIXELS), share=0.5))
    with pytest.raises(UserError, match="got nothing there"):
        check_recipe_settings(extra(tmp_path / "absent.npz", share=0.5))


def test_a_misspelt_required_key_is_reported_with_a_suggestion():
    with pytest.raises(UserError, match="did you mean 'file'"):
        check_recipe_settings('data.extra={"fiel": "e.npz", "share": 0.5}')


def test_an_impossible_mix_raises_an_error_also_with_other_files_in_the_folder(tmp_path, good_file):
    for label in range(4):
        (tmp_path / "train" / str(label)).mkdir(parents=True)
        (tmp_path / "train" / str(label) / ".hidden").write_bytes(b"")
        Image.new("RGB", (8, 8)).save(tmp_path / "train" / str(label) / "1.png")
    with pytest.raises(UserError, match="images of both kinds"):
        check_recipe_settings("data.name=folder", f"data.root={tmp_path}", extra(good_file, share=0.001))


def mixed_data(source, file, *settings, share=0.25, count=100, **options):
    """A recipe with a share of white images, whose labels ascend and begin again, and the data that it names."""
    np.savez(file, image=np.full((count, 8, 8, 1), 255, np.uint8), label=np.arange(count) % 10)
    recipe = check_recipe_settings(extra(file, share=share, **options), *settings)
    data = split(source, validation=60, split_seed=0, select="validation", train_examples=200)
    return recipe, replace(data, extra=load_extra_images(recipe.data.extra, DIGITS, CPU))


def white(x):
    return (x == 1).flatten(1).all(1)


@pytest.mark.parametrize(("share", "few"), [(0.25, 16), (0.3, 19), (0.008, 1), (0.9, 58)])
def test_each_minibatch_has_the_requested_share_of_extra_images(source, tmp_path, share, few):
    state = trainer.Trainer(*mixed_data(source, tmp_path / "e.npz", share=share), CPU)
    order = state.batch_order()
    assert state.batches == 3  # as without extra images
    assert (order.train.shape, order.extra.shape) == ((3, 64 - few), (3, few))
    for batch in range(3):
        state.run_batch(order)
        x, _, y = state.calibration_batches[-1]
        assert white(x).sum() == few
        assert torch.equal(y[white(x)], order.extra[batch] % 10)
        assert torch.equal(x[~white(x)], state.data.train.x[order.train[batch]].float() / 255)
        assert torch.equal(y[~white(x)], state.data.train.y[order.train[batch]])


def test_an_epochs_training_images_are_distinct_and_few_extra_ones_come_equally_often(source, tmp_path):
    state = trainer.Trainer(*mixed_data(source, tmp_path / "e.npz", share=0.25, count=7), CPU)
    order = state.batch_order()
    assert len(set(order.train.flatten().tolist())) == 3 * 48
    assert order.train.min(1).values.max() < 60  # each minibatch is drawn from all 200
    assert order.train.max(1).values.min() > 140
    assert sorted(torch.bincount(order.extra.flatten(), minlength=7).tolist()) == [6] + [7] * 6
    many = trainer.Trainer(*mixed_data(source, tmp_path / "m.npz", share=0.25, count=50), CPU).batch_order()
    assert len(set(many.extra.flatten().tolist())) == 3 * 16


def test_the_order_depends_on_seed_and_epoch_alone(source, tmp_path):
    state = trainer.Trainer(*mixed_data(source, tmp_path / "e.npz"), CPU)
    first = state.batch_order()
    state.run_batch(first)
    torch.rand(3)
    again = state.batch_order()
    assert all(torch.equal(one, other) for one, other in zip(first, again))
    state.epoch = 1
    reseeded = trainer.Trainer(*mixed_data(source, tmp_path / "e.npz", "train.seed=1"), CPU)
    for other in (state.batch_order(), reseeded.batch_order()):
        assert not torch.equal(first.train, other.train)
        assert not torch.equal(first.extra, other.extra)


def test_extra_images_are_augmented_too(source, tmp_path):
    recipe, data = mixed_data(source, tmp_path / "e.npz", "data.augment=[{name: crop, border: zero}]")
    state = trainer.Trainer(recipe, data, CPU)
    order = state.batch_order()
    state.run_batch(order)
    joined = torch.cat([data.train.x[order.train[0]], data.extra.x[order.extra[0]]])
    drawing = torch.Generator().manual_seed(derive_seed(0, AUGMENT, 0))
    expected = crop(border="zero")(joined, drawing).float() / 255
    assert torch.equal(state.calibration_batches[-1][0], expected)
    assert not white(expected[-16:]).all()


@pytest.mark.parametrize("batches", mark_slow_except([4], [1, 4]))  # inside the first epoch, in the second
def test_a_stopped_run_with_extra_images_resumes_to_the_same_weights(source, tmp_path, monkeypatch, batches):
    recipe, data = mixed_data(source, tmp_path / "e.npz", "data.augment=[{name: crop, padding: 1}]", count=20)
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    loop.train(recipe, whole, data, CPU)
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        stop_after(patched, batches)
        loop.train(recipe, parts, data, CPU)
    torch.rand(5)
    loop.train(recipe, parts, data, CPU)
    for name in ("best", "last"):
        one, other = whole.load(name), parts.load(name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    losses = [[row["loss"] for row in csv.DictReader((run.path / "log.csv").open())] for run in (whole, parts)]
    assert losses[0] == losses[1]


def test_a_run_cannot_be_resumed_with_other_extra_images(source, tmp_path, monkeypatch):
    recipe, data = mixed_data(source, tmp_path / "e.npz", count=20)
    run = Run(tmp_path / "run")
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        stop_after(patched, 0)
        loop.train(recipe, run, data, CPU)
    relabelled = replace(data, extra=replace(data.extra, y=(data.extra.y + 1) % 10))
    with pytest.raises(UserError, match=r"extra images and labels of the run in .*resume\.pt"):
        loop.train(recipe, run, relabelled, CPU)
    loop.train(recipe, run, data, CPU)
    origins = json.loads((run.path / "training.json").read_text())["origins"]
    assert origins["extra"] == fingerprint(data.extra)


@pytest.fixture(scope="module")
def labeller(source, tmp_path_factory):
    """A finished run whose last weights predict class 3 for every image."""
    resolved = resolve_config("digits", "at", [*QUICK, "optimizer.lr=0.05"])
    run = Run(tmp_path_factory.mktemp("labeller") / "run")
    run.begin(resolved)
    data = split(source, validation=60, split_seed=0, select="validation", train_examples=200)
    loop.train(validate.check_recipe(*resolved), run, data, CPU)
    last = run.load("last")
    last["net.8.bias"][3] += 1000
    run.save("last", last)
    return run


def pseudo_label_options(file, run):
    return extra(file, share=0.5, labels="pseudo", labeller=str(run.path))


def test_pseudo_labels_are_the_predictions_of_the_labellers_best_weights(source, tmp_path, labeller):
    images = source.test.x.repeat(2, 1, 1, 1)  # more than are labelled at once
    file = write_npz(tmp_path / "e.npz", image=images.permute(0, 2, 3, 1).numpy(), label=np.full(len(images), 77))
    ours = load_extra_images(check_recipe_settings(pseudo_label_options(file, labeller)).data.extra, DIGITS, CPU)
    best = labeller.load("best")
    model = build_model("small_preactresnet", {"width": 4}, (1, 8, 8), 10)
    model.load_state_dict(best)
    with torch.no_grad():
        logits = model.eval().net((images.float() / 255 - best["mean"]) / best["std"])
    assert torch.equal(ours.x, images)
    assert torch.equal(ours.y, logits.argmax(1))
    assert ours.y.dtype == torch.int64
    assert len(ours.y.unique()) > 2


def test_a_labeller_of_other_classes_raises_an_error_that_names_its_weights(good_file, labeller):
    with pytest.raises(UserError, match=r"run's weights in .*best\.pt"):
        load_extra_images(
            check_recipe_settings(pseudo_label_options(good_file, labeller)).data.extra, DIGITS._replace(classes=7), CPU
        )


def test_a_labeller_of_other_data_raises_an_error_that_names_both(tmp_path, good_file, labeller):
    shutil.copytree(labeller.path, tmp_path / "run")
    header = labeller.header
    header["data"]["name"] = "svhn"
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.dump_sections(header))
    with pytest.raises(UserError, match=r"trained on \{'name': 'digits'\}, got one trained on \{'name': 'svhn'\}"):
        check_recipe_settings(pseudo_label_options(good_file, Run(tmp_path / "run")))


def test_a_damaged_labeller_raises_an_error_before_data_are_loaded(tmp_path, good_file, labeller):
    shutil.copytree(labeller.path, tmp_path / "run")
    (tmp_path / "run" / "best.pt").write_bytes(b"half")
    with pytest.raises(UserError, match=r"best\.pt"):
        check_recipe_settings(pseudo_label_options(good_file, Run(tmp_path / "run")))


def test_a_labeller_does_not_need_its_own_training_inputs(source, tmp_path, good_file, labeller):
    shutil.copytree(labeller.path, tmp_path / "run")
    header = labeller.header
    header["train"]["start"] = "gone.pt"
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.dump_sections(header))
    assert (
        len(
            load_extra_images(
                check_recipe_settings(pseudo_label_options(good_file, Run(tmp_path / "run"))).data.extra, DIGITS, CPU
            )
        )
        == 6
    )


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["given", "pseudo"])
def test_an_entry_with_extra_images_is_marked_as_using_additional_data(
    tmp_path, monkeypatch, good_file, labeller, labels
):
    monkeypatch.chdir(tmp_path)
    named = pseudo_label_options(good_file, labeller) if labels == "pseudo" else extra(good_file, share=0.5)
    settings = [*QUICK, "evaluate.batch_size=2", "model.width=2", named]
    arguments = ["--epochs=1", "--n-examples=2", *(f"--set={setting}" for setting in settings)]
    assert run_program(program.main, "digits", "at", *arguments) == 0
    (entry,) = Path("leaderboard/model_info/digits/Linf").glob("*.json")
    info = json.loads(entry.read_text())
    assert info["additional_data"] is True
    assert info["rb_smooth"]["recipe"]["data"]["extra"]["file"] == str(good_file)
    moved = good_file.rename(good_file.with_name("moved.npz"))
    try:  # a finished run is evaluated again without what it was trained on
        assert run_program(program.main, "digits", "at", *arguments, "--n-examples=3") == 0
    finally:
        moved.rename(good_file)
