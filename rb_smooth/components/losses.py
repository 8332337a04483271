"""Kullback-Leibler divergence between softmax outputs, from log-probabilities."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def kl_divergence(logits: Tensor, other_logits: Tensor) -> Tensor:
    """KL(p || q) per row, p = softmax(logits), q = softmax(other_logits): (B, classes), (B, classes) -> (B,), >= 0.

    Gradients flow through both. Log-probabilities are finite for finite logits, and p (log p - log q) and its
    derivatives tend to 0 with p; p log(p / q) would be 0 log 0, with derivative NaN. So nothing is clamped, and there
    is no bias. Raises ValueError for fewer than two classes.
    """
    if logits.shape[1] < 2:
        raise ValueError(f"expected at least 2 classes for TRADES and MART, got {logits.shape[1]}")
    terms = F.kl_div(log_probabilities(other_logits), log_probabilities(logits), reduction="none", log_target=True)
    return terms.sum(1)


def log_probabilities(logits: Tensor) -> Tensor:
    """log softmax(logits), in fp32 or better: rounding to bfloat16 can make divergences negative."""
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(1)
