"""Pictures of what was measured, drawn from files alone: nothing here imports torch."""
