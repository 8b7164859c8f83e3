"""Small choices made by hand: candidates by what they need and make, with a price."""

from __future__ import annotations

from tpopt.choose import layouts
from tpopt.choose.candidate import Candidate, Price, Value
from tpopt.ir import DType, Kernel, Opaque, Tensor
from tpopt.ir.walk import stage_reads


def value(text: str) -> Value:
    """``x`` or ``x@channels_last``."""
    name, _, layout = text.partition("@")
    return Value(name, layout)


def tensor(name: str) -> Tensor:
    """An image."""
    return Tensor(name, (2, 3, 5, 7), DType.F32)


def candidate(name: str, needs: str, makes: str, kind: str = "gemm") -> Candidate:
    """A candidate; ``needs`` and ``makes`` are values separated by blanks. Its price is named like it."""
    wanted, made = (tuple(map(value, text.split())) for text in (needs, makes))
    reads = tuple(tensor(n) for n in dict.fromkeys(v.name for v in wanted))
    stage = Opaque(tuple(tensor(v.name) for v in made), f"aten.{name}.default", reads)
    return Candidate(name, kind, stage, wanted, made, name)


def wide(name: str, first: Candidate, second: Candidate) -> Candidate:
    """One kernel in place of two, of which the second needs what the first makes; nobody else sees that."""
    needs = tuple(dict.fromkeys((*first.needs, *(v for v in second.needs if v not in first.produces))))
    inside = (first.stage, second.stage)
    made = set(first.stage.outs)
    reads = tuple(dict.fromkeys(t for s in inside for t in stage_reads(s) if t not in made))
    return Candidate(name, "gemm", Kernel(second.stage.outs, name, reads, inside), needs, second.produces, name)


def conversion(name: str, source: str, target: str) -> Candidate:
    """A copy of a value into another layout."""
    need, make = value(source), value(target)
    return Candidate(name, "layout", layouts.conversion(tensor(need.name), make.layout), (need,), (make,), name)


def prices(**us: float) -> dict[str, Price]:
    """Prices by name."""
    return {name: Price(figure) for name, figure in us.items()}
