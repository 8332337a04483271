"""Images for the GPU benchmarks: synthetic classes that can be learnt, or a folder."""

from __future__ import annotations

from pathlib import Path

import torch

from rb_smooth.data.datasets import RawDataset, folder
from rb_smooth.data.images import Images
from rb_smooth.data.splits import DataSplits, split

CLASSES = 10


def random_images(train: int, test: int, size: int) -> DataSplits:
    """Each class has a texture, of random strength in each image, so that attacks succeed on some images only.

    size: height and width, multiples of 4. Pixels do not matter for speed, except that AutoAttack takes longer on
    robust points.
    """
    generator = torch.Generator().manual_seed(0)
    textures = (torch.rand(CLASSES, 3, 4, 4, generator=generator).round() * 2 - 1).tile(size // 4, size // 4)

    def drawn(n: int) -> Images:
        y = torch.arange(n) % CLASSES
        strength = 64 / 255 * torch.rand(n, 1, 1, 1, generator=generator)  # eps is 8/255
        x = 0.5 + strength * textures[y] + 0.05 * torch.randn(n, 3, size, size, generator=generator)
        return Images((x.clamp(0, 1) * 255).round().to(torch.uint8), y)

    moments = ((0.5,) * 3, (0.15,) * 3)
    source = RawDataset("random", drawn(train), drawn(test), tuple(map(str, range(CLASSES))), *moments)
    return split(source, validation=CLASSES, split_seed=0, select="validation")


def images_of(where: str, train: int, test: int, size: int) -> DataSplits:
    """`random`, or a folder with train/<class>/ and test/<class>/; all its training images are used."""
    if where == "random":
        return random_images(train, test, size)
    source = folder(Path("data"), root=where, stream=False)
    return split(source, validation=1000, split_seed=0, select="validation").load()
