"""The coordinator program: the round, checkpoints, the store, and the seam to the sites."""
