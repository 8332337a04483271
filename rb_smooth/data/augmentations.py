"""Batched augmentations, computed on the batch's device. A recipe lists public functions of this file, in order.

Each returns a function (x, generator) -> x of uint8 images (B, C, H, W). Random numbers are drawn on the CPU, so every
device gives the same images.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from rb_smooth.components import ranges
from rb_smooth.components.interfaces import Augmentation


def crop(*, padding: int = 4, border: Literal["reflect", "zero"] = "reflect") -> Augmentation:
    """Pad each image, then crop it at random to its original size. Source: the AWP authors' code.

    padding (pixels, >= 0): added on each side; below the image's size with a reflected border. Source: the AWP
        authors' code.
    border: padding values; reflect: the image mirrored at its edge, the edge not repeated; zero: black. Source: the AWP
        authors' code, reflect for CIFAR-10, zero for CIFAR-100 and TRADES.
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
    """Mirror each image left to right with probability 1/2. Source: the AWP authors' code."""

    def flipped(x: Tensor, generator: torch.Generator) -> Tensor:
        mirrored = _to_device(torch.rand(len(x), generator=generator), x.device) < 0.5
        return torch.where(mirrored.view(-1, 1, 1, 1), x.flip(-1), x)

    return flipped


def rotate(*, degrees: float = 15.0) -> Augmentation:
    """Rotate each image about its centre by a random angle; nearest pixel, black outside. Source: the AWP authors'
    code, for CIFAR-100.

    degrees (degrees, >= 0, <= 180): the angle is uniform in [-degrees, degrees]. Source: the AWP authors' code.
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
    """Copy to `device` without synchronising: a copy from pageable memory would wait for queued GPU work."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def _sample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x[b, :, rows[b], columns[b]], 0 outside the image. rows, columns: int64, broadcast to (B, H, W)."""
    height, width = x.shape[2:]
    images = torch.arange(len(x), device=x.device).view(-1, 1, 1)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    taken = x.permute(0, 2, 3, 1)[images, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    return (taken * inside[..., None]).permute(0, 3, 1, 2).contiguous()


def _reflect(index: Tensor, size: int) -> Tensor:
    """Indices outside [0, size), mirrored at the border pixel, which is not repeated."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
