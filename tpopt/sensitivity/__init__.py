"""Sensitivity: how much a change of one value of a program moves what the program computes."""
