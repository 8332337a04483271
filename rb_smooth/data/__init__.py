"""Data sets of 8-bit images: loaded, split, augmented, read ahead.

Imports core and components. Open datasets.py first.
"""
