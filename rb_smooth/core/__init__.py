"""Shared infrastructure: errors, command lines, files, random numbers, processes, RobustBench.

Imports nothing else of rb_smooth. Open errors.py first, then environment.py.
"""
