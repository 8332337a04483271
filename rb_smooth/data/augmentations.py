"""Augmentations of a whole batch at once, where the batch lives. A recipe names the public functions here, in order.

Each makes a function (x, generator) -> x of 8-bit images (B, C, H, W). What is drawn is drawn on the CPU, so that every
device sees the same images.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from rb_smooth.components import ranges
from rb_smooth.components.interfaces import Augmentation


def crop(*, padding: int = 4, border: Literal["reflect", "zero"] = "reflect") -> Augmentation:
    """Each image padded, then cropped at random to its own size. Source: the AWP authors' code.

    padding (pixels, >= 0): added on each side; fewer than the image has where it is reflected. Source: the AWP
        authors' code.
    border: what is padded: reflect, the image mirrored at its edge (the edge itself not repeated); zero, black. Source:
        the AWP authors' code, reflect for CIFAR-10, zero for CIFAR-100 and TRADES.
    """
    ranges.at_least(0, padding=padding)

    def cropped(x: Tensor, generator: torch.Generator) -> Tensor:
        batch, _, height, width = x.shape
        if border == "reflect" and padding >= min(height, width):
            raise ValueError(f"expected padding below the image's size, got {padding} for {height}x{width}")
        shifts = _to_device(torch.randint(-padding, padding + 1, (2, batch, 1), generator=generator), x.device)
        rows = torch.arange(height, device=x.device) + shifts[0]  # (B, H)
        columns = torch.arange(width, device=x.device) + shifts[1]  # (B, W)
        if border == "reflect":
            rows, columns = _reflect(rows, height), _reflect(columns, width)
        return _sample(x, rows[:, :, None], columns[:, None, :])

    return cropped


def flip() -> Augmentation:
    """Each image mirrored left to right with probability 1/2. Source: the AWP authors' code."""

    def flipped(x: Tensor, generator: torch.Generator) -> Tensor:
        mirrored = _to_device(torch.rand(len(x), generator=generator), x.device) < 0.5
        return torch.where(mirrored.view(-1, 1, 1, 1), x.flip(-1), x)

    return flipped


def rotate(*, degrees: float = 15.0) -> Augmentation:
    """Each image turned about its centre by a random angle; nearest pixel, black outside. Source: the AWP authors'
    code, for CIFAR-100.

    degrees (degrees, >= 0, <= 180): the angle is uniform between minus and plus this. Source: the AWP authors' code.
    """
    if not 0 <= degrees <= 180:
        raise ValueError(f"expected 0 <= degrees <= 180, got {degrees}")

    def rotated(x: Tensor, generator: torch.Generator) -> Tensor:
        batch, _, height, width = x.shape
        angles = (torch.rand(batch, 1, 1, generator=generator) * 2 - 1) * math.radians(degrees)
        sine, cosine = _to_device(torch.stack([angles.sin(), angles.cos()]), x.device)
        down = (torch.arange(height, device=x.device) - (height - 1) / 2).view(1, -1, 1)
        across = (torch.arange(width, device=x.device) - (width - 1) / 2).view(1, 1, -1)
        rows = sine * across + cosine * down + (height - 1) / 2
        columns = cosine * across - sine * down + (width - 1) / 2
        return _sample(x, rows.round().long(), columns.round().long())

    return rotated


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`. From pageable memory the copy would wait for all that the GPU has still to do."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def _sample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x[b, :, rows[b], columns[b]], black where that is outside. rows, columns: broadcast to (B, H, W)."""
    height, width = x.shape[2:]
    images = torch.arange(len(x), device=x.device).view(-1, 1, 1)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    taken = x.permute(0, 2, 3, 1)[images, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    return (taken * inside[..., None]).permute(0, 3, 1, 2).contiguous()


def _reflect(index: Tensor, size: int) -> Tensor:
    """Indices beyond the border, mirrored at it (the border pixel itself not repeated)."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
