"""The statements of Kanai et al., "Smoothness Analysis of Adversarial Training", arXiv 2103.01400, as programs.

linear.py and entropy.py are the problems in which both sides of a statement can be computed. None of it needs torch.
"""
