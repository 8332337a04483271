"""CIFAR-10, CIFAR-100 and SVHN in their own file formats, tiny and made here, with torchvision told the checksums."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np


def write_cifar10(root, monkeypatch):
    """Ten images a file, one of each class."""
    from torchvision.datasets import CIFAR10

    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    labels = {name: {"labels": list(range(10))} for name, _ in CIFAR10.train_list + CIFAR10.test_list}
    _write_cifar(CIFAR10, root, monkeypatch, labels, {"label_names": names})


def write_cifar100(root, monkeypatch):
    """Four training images and one test image of each class, class by class; the coarse labels say something else."""
    from torchvision.datasets import CIFAR100

    fine = {"train": [label for label in range(100) for _ in range(4)], "test": list(range(99, -1, -1))}
    labels = {name: {"fine_labels": each, "coarse_labels": [k % 20 for k in each]} for name, each in fine.items()}
    names = [f"fine {label}" for label in range(100)]
    _write_cifar(
        CIFAR100,
        root,
        monkeypatch,
        labels,
        {"fine_label_names": names, "coarse_label_names": [f"coarse {label}" for label in range(20)]},
    )


def write_svhn(root, monkeypatch):
    """Six training and two test images of each digit, in turn from 1 to 9 and then 0, whose label is 10."""
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    root.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    lists = dict(SVHN.split_list)
    for part, each in (("train", 6), ("test", 2)):
        url, name, _ = SVHN.split_list[part]
        pixels = generator.integers(0, 256, (32, 32, 3, 10 * each), dtype=np.uint8)
        labels = np.tile(np.arange(1, 11, dtype=np.uint8), each)[:, None]
        savemat(root / name, {"X": pixels, "y": labels})
        lists[part] = [url, name, _md5(root / name)]
    monkeypatch.setattr(SVHN, "split_list", lists)


def _write_cifar(dataset, root, monkeypatch, labels, names):
    """labels: what each file holds beside the pixels; names: what the file of the class names holds."""
    base = root / dataset.base_folder
    base.mkdir(parents=True)
    generator = np.random.default_rng(0)

    def written(name, content):
        (base / name).write_bytes(pickle.dumps(content))
        return _md5(base / name)

    def images(name):
        count = len(next(iter(labels[name].values())))
        return {"data": generator.integers(0, 256, (count, 3072), dtype=np.uint8), **labels[name]}

    for key in ("train_list", "test_list"):
        listed = [[name, written(name, images(name))] for name, _ in getattr(dataset, key)]
        monkeypatch.setattr(dataset, key, listed)
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": written(dataset.meta["filename"], names)})


def _md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()
