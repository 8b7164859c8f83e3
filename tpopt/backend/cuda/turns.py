"""Stages that move axes: what is read along one loop and written along another goes through shared memory.

Source: Ruetsch, Micikevicius, "Optimizing Matrix Transpose in CUDA", NVIDIA 2009.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tpopt.backend.cuda.plan import Turn
from tpopt.backend.generated.access import Access
from tpopt.backend.generated.plan import Nest, Work
from tpopt.backend.generated.sizes import extent
from tpopt.ir import Iter, Lookup, Read, Select
from tpopt.ir.index import walk_atoms
from tpopt.ir.walk import own_indices, postorder

LEAST: Final = 16
"""Points along either loop below which a block would be mostly empty."""


def turned(work: Work, strides: Mapping[str, tuple[int, ...]]) -> Turn | None:
    """How a work moves axes; ``None`` where it sums, reads nothing across, or reads under guards or by data."""
    access = Access(work, strides)
    guarded = {t for s in access.terms if isinstance(s, Select) for t in postorder(s)}
    target = next((i for i in work.loops if access.out_step(i) == 1), None)
    if access.reduces or len(work.cases) != 1 or work.cases[0].guard is not None or target is None:
        return None
    found: dict[Iter, list[Read]] = {}
    for read in access.reads:
        by_data = any(isinstance(a, Lookup) for w in own_indices(read) for a in walk_atoms(w))
        if read in guarded or by_data or read.dtype.is_complex or access.step(read, target) in (0, 1):
            continue
        source = next((i for i in work.loops if i is not target and access.step(read, i) == 1), None)
        if source is not None and min(extent(source), extent(target)) >= LEAST:
            found.setdefault(source, []).append(read)
    if not found:
        return None
    source = max(found, key=lambda i: len(found[i]))
    others = tuple(i for i in work.loops if i is not source and i is not target)
    return Turn(Nest(work, 0, work.loops), tuple(found[source]), target, source, others)
