"""Components that a recipe names: objectives, perturbations, optimizers, averaging, schedules, models.

Imports core only; methods do not import each other. Open interfaces.py first: the contract of each kind of method.
"""
