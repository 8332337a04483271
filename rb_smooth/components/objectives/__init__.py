"""Objectives, one per file: what is minimised, and against which adversary."""
