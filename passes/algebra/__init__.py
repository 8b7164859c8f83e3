"""Families of laws about scalar terms. Each file ends with its rules, in the order in which they are tried."""

from __future__ import annotations
