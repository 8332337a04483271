"""What a recipe can name: objectives, perturbations, optimizers, averaging, schedules, models.

Imports core alone; methods do not import each other. Open interfaces.py first: what each kind of method may rely on.
"""
