"""Kullback-Leibler divergence between two softmax outputs, where no probability can be too small for it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def kl_divergence(logits: Tensor, other_logits: Tensor) -> Tensor:
    """KL(p || q) of each row, p = softmax(logits), q = softmax(at): (B, classes), (B, classes) -> (B,), >= 0.

    Gradients flow through both. Everything stays in logarithms, which are finite for finite logits: p (log p - log q)
    and its derivatives tend to 0 with p, where p log(p / q) would be 0 log 0 and its derivative NaN. So nothing needs
    clamping, and nothing is biased by it. Raises ValueError for one class, of which every prediction is the same.
    """
    if logits.shape[1] < 2:
        raise ValueError(f"expected 2 classes or more, for TRADES and MART compare predictions, got {logits.shape[1]}")
    return F.kl_div(log_probabilities(other_logits), log_probabilities(logits), reduction="none", log_target=True).sum(
        1
    )


def log_probabilities(logits: Tensor) -> Tensor:
    """The logarithms of softmax(logits), in fp32 or better: bfloat16's eight bits would make divergences negative."""
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(1)
