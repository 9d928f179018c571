"""Clocks and scales: nnlib beside PyTorch, in one run."""
