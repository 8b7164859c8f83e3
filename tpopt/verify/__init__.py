"""Whether a compiled program still computes what the user's model computes."""

from __future__ import annotations

from tpopt.verify.check import check, verify
from tpopt.verify.divergence import Divergence, first_divergence
from tpopt.verify.inputs import KINDS, generate_inputs
from tpopt.verify.verification import OutputRow, Verification

__all__ = ["KINDS", "Divergence", "OutputRow", "Verification", "check", "first_divergence", "generate_inputs", "verify"]
