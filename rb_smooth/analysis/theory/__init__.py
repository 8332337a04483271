"""The statements of Kanai et al., "Smoothness Analysis of Adversarial Training", arXiv 2103.01400, as numerical checks.

Problems whose statements have computable sides: linear.py, logistic regression under attack; implicit.py, a smooth loss
whose attack is differentiated implicitly; swish_toy.py; entropy.py, the loss of EntropySGD. The checks are in the three
files *_statements.py; `rb_smooth.theory` lists them. Imports what analysis may import, but no torch. Open results.py
first.
"""
