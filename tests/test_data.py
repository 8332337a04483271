"""Data sets: loading, splits, fingerprints, download errors, augmentations."""

from __future__ import annotations

import pickle
import socket
import threading
import time

import numpy as np
import pytest
import torch
from cifar_files import write_cifar10, write_cifar100, write_svhn
from PIL import Image, ImageOps

from rb_smooth.core.errors import UserError
from rb_smooth.data import augmentations, datasets, downloads, image_spec
from rb_smooth.data.splits import fingerprint, split


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return datasets.digits(tmp_path_factory.mktemp("none"))


def split_source(source, **changed):
    return split(
        source, **({"validation": 200, "split_seed": 0, "select": "validation", "train_examples": None} | changed)
    )


def test_digits_are_1797_images_with_a_test_set_of_360(digits):
    assert digits.train.x.shape == (1437, 1, 8, 8)
    assert digits.test.x.shape == (360, 1, 8, 8)
    assert digits.train.x.dtype == torch.uint8
    assert digits.train.x.max() == 255
    assert torch.bincount(digits.test.y).min() >= 34  # stratified
    pixels = digits.train.x.double() / 255
    mean, std = digits.normalisation
    assert mean == pytest.approx([pixels.mean().item()])
    assert std == pytest.approx([pixels.std().item()])


def test_validation_is_stratified_disjoint_and_depends_on_split_seed_only(digits):
    one = split_source(digits)
    assert (len(one.train), len(one.validation)) == (1237, 200)
    assert torch.bincount(one.validation.y).min() >= 19
    rows = {tuple(image.flatten().tolist()) for image in one.validation.x}
    assert not rows & {tuple(image.flatten().tolist()) for image in one.train.x}
    assert torch.equal(one.validation.x, split_source(digits, train_examples=400).validation.x)
    assert not torch.equal(one.validation.x, split_source(digits, split_seed=1).validation.x)
    assert len(split_source(digits, train_examples=400).train) == 400


def test_selecting_on_the_test_set_trains_on_everything(digits):
    chosen = split_source(digits, select="test")
    assert len(chosen.train) == 1437
    assert torch.equal(chosen.validation.x, digits.test.x)


def test_an_impossible_split_raises_an_error_that_names_the_key(digits):
    with pytest.raises(UserError, match=r"divide 1437 images .* got 2000; for example --set data\.validation=287$"):
        split_source(digits, validation=2000)
    assert len(split_source(digits, validation=287).validation) == 287
    with pytest.raises(UserError, match=r"data\.batch_size"):
        split_source(digits, batch_size=2000)


def test_the_fingerprint_depends_on_points_labels_and_order_only(digits):
    points = digits.test[:50]
    assert fingerprint(points) == fingerprint(digits.test[torch.arange(50)])
    assert fingerprint(points) == fingerprint(digits.test[:20], digits.test[20:50])
    assert fingerprint(points) != fingerprint(digits.test[:49])
    assert fingerprint(points) != fingerprint(points[torch.arange(49, -1, -1)])
    relabelled = datasets.Images(points.x, (points.y + 1) % 10)
    assert fingerprint(points) != fingerprint(relabelled)
    assert fingerprint(points) != fingerprint(datasets.Images(points.x.reshape(50, 1, 4, 16), points.y))
    moved = datasets.Images(points.x.roll(1, 0), points.y)
    assert fingerprint(points) != fingerprint(moved)


def write_folder(root, classes=("cat", "dog"), size=(6, 6), split_names=("train", "test"), each=4):
    for name in split_names:
        for label, kind in enumerate(classes):
            (root / name / kind).mkdir(parents=True)
            for i in range(each):
                pixels = np.full((*size, 3), 40 * label + i, np.uint8)
                Image.fromarray(pixels).save(root / name / kind / f"{i}.png")
    return root


def test_any_image_folder_is_a_data_set(tmp_path):
    source = datasets.folder(tmp_path, root=str(write_folder(tmp_path / "pets")))
    assert source.board == "folder-pets"
    assert source.classes == ("cat", "dog")
    train, test = source.train.load(), source.test.load()
    assert train.x.shape == (8, 3, 6, 6)
    assert train.x[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 40, 41, 42, 43]
    assert train.y.tolist() == [0] * 4 + [1] * 4
    assert sorted(test.y.tolist()) == train.y.tolist()
    assert test.y.tolist() != train.y.tolist()  # permuted: the first n are a fair sample
    assert torch.equal(test.x[:, 0, 0, 0] // 40, test.y)
    assert not source.official
    resized = datasets.folder(tmp_path, root=str(tmp_path / "pets"), image_size=4).train.load()
    assert resized.x.shape == (8, 3, 4, 4)


def test_an_invalid_folder_raises_an_error_that_names_the_fault(tmp_path):
    with pytest.raises(UserError, match="image folders"):
        datasets.folder(tmp_path, root=str(tmp_path / "absent"))
    root = write_folder(tmp_path / "a")
    (root / "test" / "dog").rename(root / "test" / "cow")
    with pytest.raises(UserError, match="classes"):
        datasets.folder(tmp_path, root=str(root))
    root = write_folder(tmp_path / "b")
    Image.new("RGB", (9, 9)).save(root / "train" / "cat" / "9.png")
    with pytest.raises(UserError, match="image_size"):
        datasets.folder(tmp_path, root=str(root))
    (root / "train" / "cat" / "9.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"9\.png"):
        datasets.folder(tmp_path, root=str(root))
    with pytest.raises(UserError, match=r"data\.label"):
        datasets.folder(tmp_path, root=str(root), label="../up")


def test_cifar10_is_read_from_the_folder_that_robustbench_reads(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch)
    source = datasets.cifar10(tmp_path)
    assert source.train.x.shape == (50, 3, 32, 32)
    assert source.test.x.shape == (10, 3, 32, 32)
    assert source.official
    raw = pickle.loads((tmp_path / "cifar-10-batches-py" / "test_batch").read_bytes())
    assert torch.equal(source.test.x, torch.from_numpy(raw["data"].reshape(-1, 3, 32, 32)))  # through ToTensor and back
    assert source.classes[3] == "cat"


def test_cifar100_is_read_with_its_fine_labels(tmp_path, monkeypatch):
    write_cifar100(tmp_path, monkeypatch)
    source = datasets.cifar100(tmp_path)
    for name, images in (("train", source.train), ("test", source.test)):
        raw = pickle.loads((tmp_path / "cifar-100-python" / name).read_bytes())
        assert torch.equal(images.x, torch.from_numpy(raw["data"].reshape(-1, 3, 32, 32)))
        assert images.y.tolist() == raw["fine_labels"]
        assert images.y.dtype == torch.int64
    assert source.board == "cifar100"
    assert source.classes == tuple(f"fine {label}" for label in range(100))
    assert source.official
    mean, std = source.normalisation
    assert mean == pytest.approx((0.5070751592371323, 0.48654887331495095, 0.4409178433670343))
    assert std == pytest.approx((0.2673342858792401, 0.2564384629170883, 0.27615047132568404))
    assert torch.bincount(split_source(source, validation=100).validation.y).tolist() == [1] * 100


def test_svhn_is_read_with_label_10_as_the_digit_0(tmp_path, monkeypatch):
    from scipy.io import loadmat

    write_svhn(tmp_path, monkeypatch)
    source = datasets.svhn(tmp_path)
    for part, images in (("train", source.train), ("test", source.test)):
        raw = loadmat(tmp_path / f"{part}_32x32.mat")
        assert raw["y"].max() == 10
        assert images.x.shape[1:] == (3, 32, 32)
        assert all(np.array_equal(image.permute(1, 2, 0), raw["X"][..., i]) for i, image in enumerate(images.x))
        assert images.y.tolist() == (raw["y"][:, 0] % 10).tolist()
        assert images.y.dtype == torch.int64
    assert len(source.train) == 60
    assert len(source.test) == 20
    assert source.board == "svhn"
    assert source.classes == tuple("0123456789")
    assert source.official
    assert source.normalisation == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert torch.bincount(split_source(source, validation=20).validation.y).tolist() == [2] * 10


def test_without_network_the_error_names_file_url_and_folder(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")  # nobody listens
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"half a download")
    with pytest.raises(UserError, match=r"cifar-10-python\.tar\.gz from .*digits") as refused:
        datasets.cifar10(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_cifar100_raises_an_error_that_names_it(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR100

    monkeypatch.setattr(CIFAR100, "url", "http://127.0.0.1:9/cifar-100-python.tar.gz")
    with pytest.raises(UserError, match=r"CIFAR-100 in .*put cifar-100-python\.tar\.gz from http.*digits") as refused:
        datasets.cifar100(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_missing_one_of_svhns_two_files_is_named(tmp_path, monkeypatch, part):
    from torchvision.datasets import SVHN

    write_svhn(tmp_path, monkeypatch)
    lists = {key: [f"http://127.0.0.1:9/{name}", name, md5] for key, (_, name, md5) in SVHN.split_list.items()}
    monkeypatch.setattr(SVHN, "split_list", lists)
    (tmp_path / f"{part}_32x32.mat").unlink()
    with pytest.raises(UserError, match=rf"SVHN in .*put {part}_32x32\.mat from http.*digits") as refused:
        datasets.svhn(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_stalled_download_is_aborted(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    with socket.create_server(("127.0.0.1", 0)) as silent:
        threading.Thread(target=lambda: silent.accept()[0], daemon=True).start()
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{silent.getsockname()[1]}/cifar-10-python.tar.gz")
        monkeypatch.setattr(downloads, "_DOWNLOAD_TIMEOUT_S", 0.5)
        start = time.monotonic()
        with pytest.raises(UserError, match="no download"):
            datasets.cifar10(tmp_path)
    assert time.monotonic() - start < 300  # half a second, and whatever the machine takes for the rest
    assert socket.getdefaulttimeout() is None


def test_a_crop_is_a_window_of_the_reflect_padded_image():
    x = torch.randint(0, 256, (40, 3, 8, 9), dtype=torch.uint8)
    cropped = augmentations.crop()(x, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x.float(), (4, 4, 4, 4), mode="reflect").byte()
    seen = set()
    for image, window in zip(padded, cropped):
        places = [(i, j) for i in range(9) for j in range(9) if torch.equal(image[:, i : i + 8, j : j + 9], window)]
        assert places
        seen.add(places[0])
    assert len(seen) > 20
    assert cropped.dtype == torch.uint8


def test_a_crop_with_a_black_border_is_a_window_of_the_zero_padded_image():
    x = torch.randint(1, 256, (40, 3, 8, 9), dtype=torch.uint8)
    cropped = augmentations.crop(padding=2, border="zero")(x, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    places = [
        [(i, j) for i in range(5) for j in range(5) if torch.equal(image[:, i : i + 8, j : j + 9], window)]
        for image, window in zip(padded, cropped)
    ]
    assert all(len(found) == 1 for found in places)
    assert len({found[0] for found in places}) > 12
    assert cropped.dtype == torch.uint8


def test_only_a_reflected_border_must_be_below_the_images_size():
    x, generator = torch.ones(2, 1, 6, 9, dtype=torch.uint8), torch.Generator().manual_seed(0)
    assert augmentations.crop(padding=5)(x, generator).shape == x.shape
    with pytest.raises(ValueError, match="padding"):
        augmentations.crop(padding=6)(x, generator)
    assert augmentations.crop(padding=6, border="zero")(x, generator).shape == x.shape
    with pytest.raises(ValueError, match="padding"):
        augmentations.crop(padding=-1, border="zero")


def test_rotation_is_torchvisions_counterclockwise_about_the_centre():
    from torchvision.transforms.functional import rotate

    x = torch.randint(1, 256, (12, 3, 20, 31), dtype=torch.uint8)
    turned = augmentations.rotate(degrees=60)(x, torch.Generator().manual_seed(3))
    angles = (torch.rand(12, 1, 1, generator=torch.Generator().manual_seed(3)).flatten() * 2 - 1) * 60
    expected = torch.stack([rotate(image, angle.item()) for image, angle in zip(x, angles)])
    assert (turned != expected).double().mean() < 0.01  # ties in rounding
    assert turned.dtype == torch.uint8


def test_rotation_angles_are_uniform_in_the_range():
    """Pixels encode their coordinates, from which the angle is computed."""
    places = torch.arange(41, dtype=torch.uint8)
    x = torch.stack([places[:, None].expand(41, 41), places[None].expand(41, 41)]).expand(200, 2, 41, 41)
    turned = augmentations.rotate(degrees=20)(x, torch.Generator().manual_seed(0))[:, :, 10:31, 10:31].double() - 20
    down, across = torch.meshgrid(torch.arange(-10.0, 11), torch.arange(-10.0, 11), indexing="ij")
    rows, columns = turned.unbind(1)
    sines, cosines = (rows * across - columns * down).sum((1, 2)), (rows * down + columns * across).sum((1, 2))
    angles = torch.atan2(sines, cosines).rad2deg()
    assert -20.5 < angles.min() < -18
    assert 18 < angles.max() < 20.5
    assert abs(angles.mean()) < 3
    assert (angles.abs() < 5).double().mean() == pytest.approx(0.25, abs=0.12)


def test_rotation_by_0_degrees_is_the_identity():
    x = torch.randint(0, 256, (4, 3, 8, 9), dtype=torch.uint8)
    assert torch.equal(augmentations.rotate(degrees=0)(x, torch.Generator().manual_seed(0)), x)
    with pytest.raises(ValueError, match="degrees"):
        augmentations.rotate(degrees=-1)


@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar100", "svhn"])
def test_the_image_spec_of_a_data_set_is_that_of_the_loaded_images(tmp_path, monkeypatch, name):
    write = {"cifar10": write_cifar10, "cifar100": write_cifar100, "svhn": write_svhn}.get(name)
    if write is not None:
        write(tmp_path, monkeypatch)
    source = getattr(datasets, name)(tmp_path)
    assert image_spec.known_image_spec(name, {}) == (tuple(source.train.x.shape[1:]), len(source.classes))


@pytest.mark.parametrize("options", [{}, {"image_size": 5}])
def test_the_image_spec_of_a_folder_is_that_of_the_loaded_images(tmp_path, options):
    root = write_folder(tmp_path, classes=("cat", "dog", "cow"), size=(6, 9))
    (root / "train" / "notes.txt").write_text("not a class")
    source = datasets.folder(tmp_path, root=str(root), **options)
    known = image_spec.known_image_spec("folder", {"root": str(root), "label": "pets", **options})
    assert known == (source.train.shape, len(source.classes))
    assert known == ((3, 5, 5) if options else (3, 6, 9), 3)


def test_the_image_spec_of_unreadable_or_unknown_data_is_none(tmp_path):
    assert image_spec.known_image_spec("folder", {"root": str(tmp_path / "absent")}) is None
    root = write_folder(tmp_path / "pets")
    (root / "train" / "cat" / "0.png").write_bytes(b"not an image")
    assert image_spec.known_image_spec("folder", {"root": str(root)}) is None
    assert image_spec.known_image_spec("other", {}) is None


def test_a_flip_mirrors_about_half_of_the_images():
    x = torch.rand(400, 1, 2, 3)
    flipped = augmentations.flip()(x, torch.Generator().manual_seed(0))
    mirrored = (flipped == x.flip(-1)).flatten(1).all(1)
    assert torch.equal(flipped[~mirrored], x[~mirrored])
    assert 150 < mirrored.sum() < 250


SMALL = {"classes": ("cat", "ship", "dog"), "image_size": 8}


def test_cifar10_small_holds_the_chosen_classes_resized_with_labels_in_cifar10s_order(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch)
    whole, small = datasets.cifar10(tmp_path), datasets.cifar10_small(tmp_path, **SMALL)
    assert small.board == "cifar10-small"
    assert small.classes == ("cat", "dog", "ship")
    assert not small.official
    chosen = whole.train.x[torch.isin(whole.train.y, torch.tensor([3, 5, 8]))]
    assert small.train.y.tolist() == [0, 1, 2] * 5
    assert small.test.y.tolist() == [0, 1, 2]
    for image, resized in zip(chosen, small.train.x, strict=True):
        mine = ImageOps.fit(Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()), (8, 8))
        assert torch.equal(resized, torch.from_numpy(np.array(mine)).permute(2, 0, 1))


def test_another_choice_of_classes_or_size_is_another_fingerprint(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch)
    choices = [SMALL, SMALL | {"image_size": 16}, SMALL | {"classes": ("cat", "ship", "frog")}]
    assert len({fingerprint(datasets.cifar10_small(tmp_path, **choice).test) for choice in choices}) == 3


def test_a_folder_of_cifar10s_images_gives_the_same_small_images_on_another_board(tmp_path, monkeypatch):
    write_cifar10(tmp_path / "data", monkeypatch)
    whole = datasets.cifar10(tmp_path / "data")
    for part, images in (("train", whole.train), ("test", whole.test)):
        for i, (image, label) in enumerate(zip(images.x, images.y.tolist(), strict=True)):
            (place := tmp_path / "copies" / part / whole.classes[label]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(place / f"{i:04}.png")
    small = datasets.cifar10_small(tmp_path / "data", **SMALL)
    copies = datasets.folder(tmp_path, root=str(tmp_path / "copies"), **SMALL)
    assert (copies.board, copies.classes) == ("folder-copies", small.classes)
    by_class = small.train.y.argsort(stable=True)
    assert torch.equal(copies.train.load().x, small.train.x[by_class])
    assert torch.equal(copies.train.y, small.train.y[by_class])
    options = {"root": str(tmp_path / "copies"), **SMALL}
    for name, source, given in (("cifar10_small", small, SMALL), ("folder", copies, options)):
        assert image_spec.known_image_spec(name, given) == (source.train.shape, 3)


def test_a_class_that_the_data_lack_is_named_with_the_nearest(tmp_path, monkeypatch):
    write_cifar10(tmp_path / "data", monkeypatch)
    root = write_folder(tmp_path / "pets", size=(8, 8))
    with pytest.raises(UserError, match=r"data\.classes of the data set, got 'car'; did you mean 'cat'\? valid: airpl"):
        datasets.cifar10_small(tmp_path / "data", classes=("ship", "car"))
    with pytest.raises(UserError, match=r"data\.classes of the data set, got 'cow'; "):
        datasets.folder(tmp_path, root=str(root), classes=("cat", "cow"))
    assert image_spec.known_image_spec("folder", {"root": str(root), "classes": ["cat", "cow"]}) is None
    with pytest.raises(UserError, match=r"data\.image_size from 4 to 1024, got 2"):
        datasets.cifar10_small(tmp_path / "data", image_size=2)
