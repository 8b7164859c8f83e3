"""Factorization: weights as products of smaller ones, of the shapes that lose least within a budget."""
