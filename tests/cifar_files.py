"""CIFAR-10 in its own file format, tiny and made here, with torchvision told the checksums."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np


def write_cifar10(root, monkeypatch):
    """Ten images a file in CIFAR-10's own pickle format, and torchvision told their checksums."""
    from torchvision.datasets import CIFAR10

    base = root / CIFAR10.base_folder
    base.mkdir(parents=True)
    generator = np.random.default_rng(0)

    def written(name, content):
        (base / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((base / name).read_bytes()).hexdigest()

    lists = []
    for names in (CIFAR10.train_list, CIFAR10.test_list):
        lists.append([])
        for name, _ in names:
            pixels = generator.integers(0, 256, (10, 3072), dtype=np.uint8)
            lists[-1].append([name, written(name, {"data": pixels, "labels": list(range(10))})])
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    meta = CIFAR10.meta | {"md5": written(CIFAR10.meta["filename"], {"label_names": names})}
    for key, value in (("train_list", lists[0]), ("test_list", lists[1]), ("meta", meta)):
        monkeypatch.setattr(CIFAR10, key, value)
