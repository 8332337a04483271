"""Smoothness of the loss in the weights: Lipschitz constants, displacement of attacks, Hessian, sharpness.

Imports what analysis may import. Open metrics.py first.
"""
