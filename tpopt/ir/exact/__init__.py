"""Programs over a finite field: equal results mean equal algebra, with a vanishing chance of accident."""

from __future__ import annotations

from tpopt.ir.exact.field import PRIME, Field
from tpopt.ir.exact.inputs import lookup_bounds, random_field_inputs
from tpopt.ir.exact.run import interpret_exact

__all__ = ["PRIME", "Field", "interpret_exact", "lookup_bounds", "random_field_inputs"]
