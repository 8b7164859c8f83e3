"""Searching for faster loops of generated kernels: the trials, what a model can see of them, and the search."""
