"""Loss landscapes: the loss on grids through the weights, means over runs and directions, and their plots.

Imports what analysis may import. Open compute.py first.
"""
