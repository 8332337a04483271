"""Optimizers, one per file: how gradients become weights."""
