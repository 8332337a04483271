"""Weight perturbations, one per file: the gradient is taken at w' + v."""
