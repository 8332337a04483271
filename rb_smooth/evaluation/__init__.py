"""How robust a model is: accuracy, AutoAttack, what became of every point, trust checks.

Imports core, components, data and config. Open evaluator.py first.
"""
