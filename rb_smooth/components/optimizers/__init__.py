"""Optimizers, one per file: the update of the weights from gradients."""
