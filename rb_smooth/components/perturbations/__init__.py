"""Perturbations, one per file: where, around the weights, the gradient is taken."""
