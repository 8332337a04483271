"""Trained networks looked at from outside: the loss around their weights, its gradient and its curvature.

Imports every other folder; none imports it. Open trained_model.py first, then a folder.
"""
