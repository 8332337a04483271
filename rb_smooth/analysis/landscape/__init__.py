"""Loss landscapes: directions, grids of losses, surfaces, their pictures.

Imports what analysis may import. Open compute.py first.
"""
