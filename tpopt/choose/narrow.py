"""Candidates on narrow values: the twins of library kernels, what is generated for the narrow form, conversions.

A library that has a kernel in one float type has it in the others; its twin reads and yields the narrow values of the
same tensors (:class:`tpopt.passes.precision.storage.Storage`). All of them are ``approximate``: they are admitted under
a budget alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from tpopt.backend.generated.candidates import KIND as GENERATED
from tpopt.backend.generated.candidates import converting
from tpopt.backend.machine import narrow_products
from tpopt.choose.candidate import ROW, Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Kernel, Program, Tensor
from tpopt.ir.walk import stage_reads
from tpopt.passes.precision.quantized import Quantized
from tpopt.passes.precision.storage import Storage
from tpopt.rewrite.numerics import Numerics

CONVERT: Final = "convert"
ONEDNN: Final = "onednn"
NO_PRODUCTS: Final = "oneDNN has no products of bf16 numbers on this processor"
_NO_TWIN: Final = frozenset({GENERATED, "layout", "mkl", "original", "torch"})
"""Kinds whose kernels are made for one program, are none of a library, or know one type (MKL's packed product)."""


def twins(found: Candidates, storage: Storage) -> None:
    """Adds the twin of every library kernel that computes something narrow."""
    for candidate in list(found.admitted):
        if candidate.kind in _NO_TWIN or not isinstance(candidate.stage, Kernel):
            continue
        if candidate.kind == ONEDNN and not narrow_products():
            found.refuse(f"{candidate.name}.{storage.dtype}", candidate.kind, candidate.covers, NO_PRODUCTS)
            continue
        stage = storage.kernel(candidate.stage)
        if stage is None or any(o in candidate.stage.outs for o in stage.outs):
            continue
        found.add(
            replace(
                candidate,
                name=f"{candidate.name}.{storage.dtype}",
                stage=stage,
                needs=tuple(_narrow(v, candidate.stage.reads, storage) for v in candidate.needs),
                produces=tuple(_narrow(v, candidate.stage.outs, storage) for v in candidate.produces),
                key=kernel_key(stage, _layouts(candidate)),
                numerics=Numerics.EXACT if candidate.free else Numerics.APPROXIMATE,
            )
        )


def _narrow(value: Value, tensors: Iterable[Tensor], storage: Storage) -> Value:
    tensor = next((t for t in tensors if t.name == value.name), None)
    return value if tensor is None else Value(storage.narrow(tensor).name, value.layout)


def _layouts(candidate: Candidate) -> str:
    """What a price depends on besides the operands."""
    return ">".join(",".join(v.layout for v in side) for side in (candidate.needs, candidate.produces))


def approximate(candidate: Candidate, storage: Storage) -> Candidate:
    """A candidate of a narrow form under its label."""
    return replace(candidate, numerics=Numerics.APPROXIMATE) if rounded(candidate, storage) else candidate


def rounded(candidate: Candidate, storage: Storage) -> tuple[str, ...]:
    """Names of the narrow values that a candidate computes, inside too, and of the narrow weights it reads."""
    if candidate.free or not isinstance(candidate.stage, Kernel):
        return ()
    makes = dict.fromkeys(o for s in (candidate.stage, *candidate.stage.defines) for o in s.outs)
    reads = (t for t in stage_reads(candidate.stage) if t.name in storage.origin)
    weights = (t for t in reads if storage.is_constant(storage.origin[t.name]))
    return tuple(t.name for t in (*(o for o in makes if o.name in storage.origin), *weights))


def conversions(found: Candidates, storages: Sequence[Storage], original: Program, *, generate: bool) -> None:
    """Adds conversions of every tensor that some candidate takes or makes narrow, in each layout in use.

    ``generate`` offers those of codes as generated kernels too: torch takes five operators for them, one for bf16.
    """
    layouts: dict[str, dict[str, None]] = {}
    for value in (v for c in found.admitted for v in (*c.needs, *c.produces)):
        layouts.setdefault(value.name, {})[value.layout] = None
    for tensor in (*original.inputs, *original.outputs):
        layouts.setdefault(tensor.name, {})[ROW] = None
    for storage in storages:
        found.weights.update(storage.constants())
        for wide in (t for t in list(storage.origin.values()) if not storage.is_constant(t)):
            found.wide[storage.narrow(wide).name] = wide.name
            for source, target in _pairs(wide, storage, storages):
                if target in original.inputs:
                    continue
                for have in layouts.get(source.name, ()):
                    for want in layouts.get(target.name, ()):
                        _convert(found, storage, (source, target), (have, want), generate=generate)


def _pairs(wide: Tensor, storage: Storage, storages: Sequence[Storage]) -> Iterator[tuple[Tensor, Tensor]]:
    """What may become what: a value its narrow form and the other way round, and other narrow forms its integers."""
    narrow = storage.narrow(wide)
    yield wide, narrow
    yield narrow, wide
    if isinstance(storage, Quantized):
        for other in (s.narrow(wide) for s in storages if s is not storage and not isinstance(s, Quantized)):
            if other is not wide:
                yield other, narrow


def _convert(
    found: Candidates, storage: Storage, ends: tuple[Tensor, Tensor], layouts: tuple[str, str], *, generate: bool
) -> None:
    (source, target), (have, want) = ends, layouts
    stage = storage.conversion(source, target)
    reads = tuple(stage_reads(stage))
    kernel = Kernel((target,), CONVERT, reads, (stage,), (("layout", want),))
    name = f"{source.name}:{have or 'row-major'}-to-{target.dtype}-{want or 'row-major'}"
    label = Numerics.APPROXIMATE if target.name in storage.origin else Numerics.EXACT
    needs, makes = (Value(source.name, have),), (Value(target.name, want),)
    found.add(Candidate(name, CONVERT, kernel, needs, makes, kernel_key(kernel, f"{have}>{want}"), label))
    if generate and isinstance(storage, Quantized) and have == want:
        made = converting(found.admitted[-1], fixed=tuple(range(1, len(reads))))
        found.admitted += [] if made is None else [made]
