"""Precision: a program whose values are stored in fewer bits, as algebra like any other."""
