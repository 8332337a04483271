"""Averaging, one per file: which weights are deployed."""
