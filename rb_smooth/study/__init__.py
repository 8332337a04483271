"""Trained networks looked at from outside: the loss around their weights, its gradient and its curvature."""
