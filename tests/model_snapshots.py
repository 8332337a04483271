"""What a method might leave changed in a model, to be compared before and after."""

from __future__ import annotations

import os

from torch import nn

from rb_smooth.components.conformance.fixtures import equal_snapshots, snapshot

__all__ = ["ExitingModule", "equal_snapshots", "snapshot"]


class ExitingModule(nn.Module):
    """Ends the process in which it computes, as the system does when memory is short."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x):
        os._exit(9)
