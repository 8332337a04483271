"""Objectives, one per file: the attack that crafts adversarial examples, and the loss."""
