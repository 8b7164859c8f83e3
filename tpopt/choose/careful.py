"""A second choice after a failed verification: without the kernels that add up the longest rows in one accumulator.

oneDNN's channels-last kernels sum a reduction of length ``K`` in order, so their relative error grows with its square
root (measured: 1.25e-8 * sqrt(K) in f32, against 1.8e-7 at any length for the original operators). Errors of the layers
of a model add up in quadrature, so barring the longest reductions first buys the most accuracy for the least speed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tpopt.choose.candidate import Candidate
from tpopt.ir import Compute, Kernel, Reduce, postorder
from tpopt.ir.index import evaluate, index, product

_MARGIN = 0.6
"""Aim at this part of the admitted error: the square-root law is an average."""
_ORIGINAL = 0.05
"""Squared error of an original operator relative to that of a sequential kernel of the same (long) length."""


def reduction_length(candidate: Candidate, sizes: Mapping[str, int]) -> int:
    """The longest sum in the algebra of a library kernel; 0 for anything else."""
    if not isinstance(candidate.stage, Kernel) or candidate.kind in ("view", "layout", "original"):
        return 0
    bodies = [b for stage in candidate.stage.defines if isinstance(stage, Compute) for b in stage.bodies]
    sums = [term.iters for term in postorder(*bodies) if isinstance(term, Reduce)]
    return max((evaluate(index(product(i.extent for i in iters)), sizes) for iters in sums), default=0)


def longest_allowed(picked: Sequence[Candidate], sizes: Mapping[str, int], excess: float) -> int | None:
    """The reduction length above which kernels are barred so that an error ``excess`` times too large fits again.

    ``None`` when there is nothing to bar.
    """
    lengths = sorted((n for n in (reduction_length(c, sizes) for c in picked) if n), reverse=True)
    budget = sum(lengths) * (_MARGIN / max(excess, 1.0)) ** 2
    kept = float(sum(lengths))
    for length in dict.fromkeys(lengths):
        if kept <= budget:
            return length
        kept -= (1 - _ORIGINAL) * length * lengths.count(length)
    return 0 if lengths else None
