"""Pictures of what the studies found. Read files or arrays, and cost no torch."""
