"""A run, from its recipe to its score: loop, step, run folder, sweeps of runs.

Imports every folder but leaderboard and analysis. Open loop.py first, then step.py and trainer.py.
"""
