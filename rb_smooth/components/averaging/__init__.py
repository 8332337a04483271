"""Weight averaging, one per file: which weights are evaluated and saved."""
