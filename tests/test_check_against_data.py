"""What cannot train on the data that a recipe names is refused before they are read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from run_program import run_program

from rb_smooth import recipe
from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.registry import build_component
from rb_smooth.core.errors import UserError
from rb_smooth.data.image_spec import known_image_spec
from rb_smooth.training import validate


def check_settings(method, *settings, dataset="digits"):
    return validate.check_recipe(*resolve_config(dataset, method, settings))


def folder(root, classes):
    """A training folder of which only the very first file is an image."""
    for label in range(classes):
        (root / "train" / f"class {label}").mkdir(parents=True)
        for i in range(3):
            (root / "train" / f"class {label}" / f"{i}.png").write_bytes(b"garbage")
    Image.new("RGB", (8, 8)).save(root / "train" / "class 0" / "0.png")
    return ["data.name=folder", f"data.root={root}"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["model.name=wideresnet"], "expected images that model 'wideresnet' can take, got 1x8x8"),
        (["model.name=wideresnet", "model.depth=29"], "expected depth 10, 16"),
    ],
)
def test_a_model_that_cannot_be_or_cannot_take_the_images_is_refused(settings, said):
    with pytest.raises(UserError, match=said):
        check_settings("at", *settings)


@pytest.mark.parametrize("objective", ["mart", "trades"])
def test_one_class_is_refused_naming_the_objective(tmp_path, objective):
    with pytest.raises(UserError, match=rf"2 classes or more for objective {objective}, got 1;"):
        check_settings(objective, *folder(tmp_path, 1))


@pytest.mark.parametrize("classes", [2, 3])
def test_too_few_classes_for_autoattack_are_refused(tmp_path, classes):
    with pytest.raises(UserError, match=rf"4 classes or more, for AutoAttack.*got {classes};"):
        check_settings("at", *folder(tmp_path, classes))


def test_four_classes_pass_and_no_image_but_the_first_is_opened(tmp_path):
    assert check_settings("at", *folder(tmp_path, 4)).data.options == {"root": str(tmp_path)}


def test_an_augmentation_that_does_not_fit_the_images_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"augmentation crop: .*padding below .*got 40 for 8x8; change data\.augment"):
        check_settings("at", "data.augment=[flip, {name: crop, padding: 40}]")
    with pytest.raises(UserError, match="got 10 for 8x8"):
        check_settings("at", *folder(tmp_path, 4), "data.augment=[{name: crop, padding: 10}]")
    check_settings(
        "at",
        f"data.root={tmp_path}",
        "data.name=folder",
        "data.image_size=11",
        "data.augment=[{name: crop, padding: 10}]",
    )
    check_settings("at", "data.augment=[{name: crop, padding: 40, border: zero}]")


@pytest.mark.parametrize("size", [-5, 3, 1025, 100_000])
def test_an_image_size_that_cannot_be_is_refused_by_name(tmp_path, size):
    with pytest.raises(UserError, match=r"data\.image_size from 4 to 1024"):
        build_component(
            "data",
            "folder",
            check_settings("at", *folder(tmp_path, 4), f"data.image_size={size}").data.options,
            tmp_path,
        )


def test_an_image_size_in_quotes_is_a_number(tmp_path):
    crop = "data.augment=[{name: crop, padding: 9}]"
    with pytest.raises(UserError, match="got 9 for 9x9"):
        check_settings("at", *folder(tmp_path, 4), "data.image_size='9'", crop)
    check_settings("at", "data.name=folder", f"data.root={tmp_path}", "data.image_size='10'", crop)


@pytest.mark.parametrize(
    ("classes", "settings", "said"),
    [
        (3, [], "4 classes or more, for AutoAttack.*got 3;"),
        (4, ["data.augment=[{name: crop, padding: 8}]"], "padding below .*got 8 for 8x8"),
        (4, ["train.start=absent.pt"], "weights to start from in absent.pt"),
        (4, ["data.extra={file: absent.npz, share: 0.5}"], "extra images in absent.npz"),
        (4, ["data.extra={file: absent.npz, share: 0.001}"], "images of both kinds"),
    ],
)
def test_what_only_reading_the_data_tells_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, capsys, classes, settings, said
):
    monkeypatch.chdir(tmp_path)
    for part in ("train", "test"):
        for label in range(classes):
            place = Path("pets", part, str(label), "deeper")
            place.mkdir(parents=True)
            for i in range(4):
                Image.effect_noise((8, 8), 50).convert("RGB").save(place / f"{i}.png")
    assert known_image_spec("folder", {"root": "pets"}) is None
    settings = ["data.name=folder", "data.root=pets", "data.validation=4", "data.batch_size=8", *settings]
    assert run_program(recipe.main, "digits", "at", *(f"--set={setting}" for setting in settings)) == 2
    assert re.search(said, capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["pets"]


def test_a_plan_of_a_folder_is_headed_by_its_board(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for part in ("train", "test"):
        for label in range(4):
            place = Path("pets", part, str(label))
            place.mkdir(parents=True)
            for i in range(4):
                Image.effect_noise((8, 8), 50).convert("RGB").save(place / f"{i}.png")
    settings = ["data.name=folder", "data.root=pets", "data.validation=4", "data.batch_size=8", "model.width=2"]
    assert run_program(recipe.main, "digits", "at", "--plan", *(f"--set={setting}" for setting in settings)) == 0
    assert "folder-pets at, seed 0; estimate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        ("[flop]", "known augmentation, got 'flop'; did you mean 'flip'"),
        ("[{name: crop, pading: 2}]", "option of augmentation crop, got 'pading'; did you mean 'padding'"),
        ("[{name: crop, border: wrap}]", "augmentation crop: border"),
        ("[{name: crop, padding: -1}]", "augmentation crop: expected padding >= 0"),
        ("[{name: rotate, degrees: 200}]", "augmentation rotate: .*degrees"),
        ("[{padding: 2}]", "{name: crop"),
        ("[3]", r"data\.augment"),
        ("flip", r"data\.augment"),
    ],
)
def test_an_unknown_augmentation_or_option_is_refused_with_the_nearest(augment, said):
    with pytest.raises(UserError, match=said):
        check_settings("at", f"data.augment={augment}")


def test_a_wrong_augmentation_is_refused_though_nothing_is_known_of_the_data(tmp_path):
    with pytest.raises(UserError, match="did you mean 'flip'"):
        check_settings("at", "data.name=folder", f"data.root={tmp_path}", "data.augment=[flop]")


def test_the_shipped_augmentations_are_words_or_words_with_options():
    assert check_settings("at", dataset="cifar10").data.augmentations == [("crop", {}), ("flip", {})]
    mixed = check_settings("at", dataset="cifar100").data.augmentations
    assert mixed == [("crop", {"border": "zero"}), ("flip", {}), ("rotate", {"degrees": 15})]
    assert check_settings("at", dataset="svhn").data.augmentations == []
