"""The folder of a run: recipe, log, states to resume from, curves, summary.

Imports what training may import. Open run.py first.
"""
