"""The search for hyperparameters on validation images: the space, and the trials of a study of Optuna.

Imports what training may import. Open trials.py first.
"""
