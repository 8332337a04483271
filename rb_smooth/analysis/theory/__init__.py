"""The statements of Kanai et al., "Smoothness Analysis of Adversarial Training", arXiv 2103.01400, as programs.

Problems in which both sides of a statement can be computed: linear.py, logistic regression under attack; implicit.py, a
smooth loss whose attack is differentiated implicitly; entropy.py, the loss of EntropySGD. What is claimed of them, with
figures, is in the three files of statements; `rb_smooth.theory` knows their names, and tables.py prints them. None of
that needs torch.
"""
