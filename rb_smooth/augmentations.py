"""Augmentations of a whole batch at once, where the batch lives. A recipe names the public functions here, in order."""

from __future__ import annotations

import torch
from torch import Tensor

_PADDING = 4


def crop(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image reflect-padded by 4 pixels, then cropped at random to its own size.

    x: (B, C, H, W), H and W >= 5. Offsets are drawn on the CPU, so that every device sees the same crops.
    """
    batch, _, height, width = x.shape
    shifts = torch.randint(-_PADDING, _PADDING + 1, (2, batch, 1), generator=generator).to(x.device)
    rows = _reflected(torch.arange(height, device=x.device) + shifts[0], height)  # (B, H)
    columns = _reflected(torch.arange(width, device=x.device) + shifts[1], width)  # (B, W)
    images = torch.arange(batch, device=x.device).view(-1, 1, 1)
    return x.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored left to right with probability 1/2. x: (B, C, H, W)."""
    mirrored = torch.rand(len(x), generator=generator).to(x.device) < 0.5
    return torch.where(mirrored.view(-1, 1, 1, 1), x.flip(-1), x)


def _reflected(index: Tensor, size: int) -> Tensor:
    """Indices beyond the border, mirrored at it (the border pixel itself not repeated)."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
