"""Derivation: other programs for parts of a program, found by the laws of sums and products."""
