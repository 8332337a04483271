"""What a method might leave changed in a model, to be compared before and after."""

from __future__ import annotations

import os

import torch
from torch import nn

from rb_smooth.components.conformance.fixtures import equal_snapshots, snapshot

__all__ = ["ExitingModule", "ThreadCountingModule", "equal_snapshots", "snapshot"]


class ThreadCountingModule(nn.Module):
    """Fails with the number of torch's threads in its process."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, x):
        raise RuntimeError(f"{torch.get_num_threads()} threads")


class ExitingModule(nn.Module):
    """Ends the process in which it computes, as the system does when memory is short."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x):
        os._exit(9)
