"""The order in which to multiply the operands of a sum of products, and the stages that follow it.

:mod:`~tpopt.passes.contraction.network` states the problem, :mod:`~tpopt.passes.contraction.exact` solves it for few
operands, :mod:`~tpopt.passes.contraction.search` for many.
"""

from __future__ import annotations

from tpopt.passes.contraction.cost import Cost
from tpopt.passes.contraction.network import Network, Order, Tree, evaluate_order
from tpopt.passes.contraction.order import best_order

__all__ = ["Cost", "Network", "Order", "Tree", "best_order", "evaluate_order"]
