"""What a trust check looks at, and what it says."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from rb_smooth.core.threat import Threat

Verdict = Literal["passed", "unreliable", "refused", "skipped"]
"""refused: the figures would mean nothing, or RobustBench's rules exclude such a model. unreliable: they bound the
model's robustness from above, and perhaps from far above. skipped: not made, for the reason that is given.
"""

CheckOutcome = tuple[Verdict, str]
"""A verdict, and one sentence of what was found."""


class Check(NamedTuple):
    """One trust check of one model. found: one sentence, with the figures by which it was decided."""

    name: str
    verdict: Verdict
    found: str

    def to_dict(self) -> dict[str, str]:
        """As an entry keeps it."""
        return {"name": self.name, "verdict": self.verdict, "found": self.found}


class CheckContext(NamedTuple):
    """A model on trial, in eval mode, its parameters frozen. x: (n, C, H, W) in [0, 1]; y: (n,); both where it is."""

    model: nn.Module
    x: Tensor
    y: Tensor
    threat: Threat
    classes: int
    seed: int

    def logits(self, x: Tensor) -> Tensor:
        """(B, classes), without gradient. The model gets a copy of x, in which it may write what it likes."""
        with torch.no_grad():
            return self.model(x.clone())

    def is_correct(self, x: Tensor) -> Tensor:
        """(n,) bool: which of the points are classified rightly when they look like x."""
        return self.logits(x).argmax(1) == self.y

    def margins(self, logits: Tensor) -> Tensor:
        """(n,): the logit of the right class minus the highest other one; the sign says who is classified rightly."""
        right = logits.gather(1, self.y[:, None]).squeeze(1)
        return right - logits.scatter(1, self.y[:, None], -torch.inf).amax(1)


def logit_differences(one: Tensor, other: Tensor) -> Tensor:
    """(B,): by how much two (B, classes) of logits differ, as a share of how far they spread; inf for what is NaN.

    A constant on all logits must not hide a difference, and rounding of logits that hardly spread must not look like
    one: so the spread counts as at least a thousandth of the largest logit.
    """
    spread = (one - one.mean(1, keepdim=True)).abs().amax(1)
    scale = torch.maximum(spread, 1e-3 * one.abs().amax(1)).clamp_min(torch.finfo(one.dtype).tiny)
    return ((one - other).abs().amax(1) / scale).nan_to_num(torch.inf)
