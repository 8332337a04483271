"""How fast gradients and attacks change with the weights, and the Hessian.

Imports what analysis may import. Open metrics.py first.
"""
