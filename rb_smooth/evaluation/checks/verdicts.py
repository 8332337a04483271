"""Inputs and outcomes of trust checks."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from rb_smooth.core.threat import Threat

Verdict = Literal["passed", "unreliable", "failed", "skipped"]
"""failed: accuracies of the model are meaningless, or RobustBench's rules exclude it (earlier versions: "refused").
unreliable: robust accuracy may be too high. skipped: not run, for the stated reason.
"""

CheckOutcome = tuple[Verdict, str]
"""A verdict and one sentence with the evidence."""


class Check(NamedTuple):
    """The outcome of one trust check. found: one sentence with the numbers behind the verdict."""

    name: str
    verdict: Verdict
    found: str


class CheckContext(NamedTuple):
    """A model in eval mode, without parameter gradients, and points x (n, C, H, W) in [0, 1], y (n,) on its device."""

    model: nn.Module
    x: Tensor
    y: Tensor
    threat: Threat
    classes: int
    seed: int

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits (B, classes) of a copy of x, which the model may modify, without gradients."""
        with torch.no_grad():
            return self.model(x.clone())

    def is_correct(self, x: Tensor) -> Tensor:
        """Return (n,) bool: whether each x is classified as y."""
        return self.logits(x).argmax(1) == self.y

    def margins(self, logits: Tensor) -> Tensor:
        """Return (n,): logit of the correct class minus the largest other logit; positive if classified correctly."""
        correct = logits.gather(1, self.y[:, None]).squeeze(1)
        return correct - logits.scatter(1, self.y[:, None], -torch.inf).amax(1)


def logit_differences(one: Tensor, other: Tensor) -> Tensor:
    """Return (B,): the largest difference of two (B, classes) logits relative to their spread; inf for NaN.

    Spread is the largest deviation from the row's mean, so that a constant offset does not hide a difference; it is at
    least a thousandth of the largest logit, so that rounding of nearly constant logits does not count as one.
    """
    spread = (one - one.mean(1, keepdim=True)).abs().amax(1)
    scale = torch.maximum(spread, 1e-3 * one.abs().amax(1)).clamp_min(torch.finfo(one.dtype).tiny)
    return ((one - other).abs().amax(1) / scale).nan_to_num(torch.inf)
