"""Programs, reproducible kernels, commitments and the replay of one training step."""
