"""A module that is no suite."""
