"""Analysis of trained networks and of the theory: loss landscapes, smoothness, and the statements of Kanai et al.

Imports every other folder; no other folder imports it. Open trained_model.py first, then a subfolder.
"""
