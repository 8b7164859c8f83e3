"""A second choice after a failed verification: accuracy as a budget that kernels with long sums spend.

oneDNN's channels-last kernels add a reduction of length ``K`` up in order, so their relative error grows with its
square root (measured in f32 on two CPUs: 1.15e-8 to 1.25e-8 times sqrt(K)); the original operators make 1.5e-7 to
1.9e-7 at any length, as much as a sum of ``FREE`` terms. Products of transformed tiles multiply that. The errors of a
model's layers add up in quadrature, so the squares of what kernels add to the original's error add up plainly: a linear
constraint of the cover program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tpopt.backend.generated.candidates import KIND
from tpopt.backend.generated.plan import BLOCK, LONG_SUM
from tpopt.choose.candidate import Candidate
from tpopt.ir import Compute, Kernel, Read, Reduce, Stage, postorder, strassen, toom_cook
from tpopt.ir.index import evaluate, index, product

FREE = 150
"""Terms of a sum that lose no more in one accumulator than the original operator does."""
_MARGIN = 0.9
"""Aim at this part of the admitted error: the square-root law is an average."""


def excess_terms(candidate: Candidate, sizes: Mapping[str, int]) -> int:
    """What a candidate spends of the budget: the terms of its longest sum beyond :data:`FREE`; 0 for an original."""
    if not isinstance(candidate.stage, Kernel) or candidate.kind in ("view", "layout", "original"):
        return 0
    parts = dict(candidate.stage.parameters).get("parts", 1)
    assert isinstance(parts, int)
    length = max((reduction_length(s, sizes) for s in candidate.stage.defines), default=0) // parts
    if candidate.kind == KIND and length > LONG_SUM:
        length = BLOCK + length // BLOCK  # one block in one accumulator, then the blocks in another
    return max(0, length - FREE, *(int(FREE * (growth(s) ** 2 - 1)) for s in candidate.stage.defines))


def growth(stage: Stage) -> float:
    """How many times the error of a plain sum a stage makes that puts a sum together from transformed products."""
    reads = (t for t in postorder(*stage.bodies) if isinstance(t, Read)) if isinstance(stage, Compute) else ()
    total = 1.0
    for structure in (r.tensor.structure for r in reads):
        match structure.kind, structure.parameters:
            case "toom_cook", ("sums", int(m), int(r)):
                total *= toom_cook.amplification(m, r)
            case "strassen", ("sums",):
                total *= strassen.amplification()
    return total


def reduction_length(stage: Stage, sizes: Mapping[str, int]) -> int:
    """The terms of the longest sum in a stage; 0 where there is none."""
    bodies = stage.bodies if isinstance(stage, Compute) else ()
    sums = [term.iters for term in postorder(*bodies) if isinstance(term, Reduce)]
    return max((evaluate(index(product(i.extent for i in iters)), sizes) for iters in sums), default=0)


def affordable(picked: Sequence[Candidate], sizes: Mapping[str, int], error: float, tolerance: float) -> int | None:
    """How many terms all kernels of the next cover may spend, when this one made ``error``; ``None``: nothing to save.

    The original operators make half the tolerance at most: the tolerance is twice eager's error, or more.
    """
    spent = sum(excess_terms(c, sizes) for c in picked)
    if not spent:
        return None
    own = (tolerance / 2) ** 2
    return int(spent * max(0.0, (_MARGIN * tolerance) ** 2 - own) / (error**2 - own))
