"""Data sets of 8-bit images: loading, splits, augmentation, prefetching.

Imports core and components only. Open datasets.py first.
"""
