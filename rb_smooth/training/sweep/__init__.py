"""Sweeps: a queue of processes, comparison over seeds, tables.

Imports what training may import. Open sweep.py first.
"""
