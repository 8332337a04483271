"""Evaluate a model: clean and PGD accuracy, AutoAttack, per-example results, trust checks.

Imports core, components, data and config. Open evaluator.py first.
"""
