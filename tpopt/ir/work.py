"""How much a Program computes and moves: multiply-adds, other operations, bytes, and the peak of local memory.

Each distinct sub-term of a stage counts once for each point of the iterators that it depends on.
A sum of products counts one multiply-add for each product, point of the loops and point of the reduction, whatever its
guards exclude; a product of complex numbers is four real ones, that of a complex and a real number two, and half of
that where only a real or an imaginary part is used. A Fourier transform in a library counts as a fast one. Conversions,
selects and index arithmetic count nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, log2, prod
from typing import Any

from tpopt.errors import UsageError
from tpopt.ir.functions import function
from tpopt.ir.index import Index, IndexLike, Iter, evaluate
from tpopt.ir.interpret.terms import StageTerms, iters_of, shared
from tpopt.ir.program import Program
from tpopt.ir.stages import Compute, Cond, Kernel, Opaque, Scan, Scatter, Sort, Stage, TopK
from tpopt.ir.terms import Apply, Cast, Const, Read, Reduce, Scalar, Tensor
from tpopt.ir.walk import children, own_indices, postorder, stage_reads, tensors_of_indices

Sizes = Mapping[str, int]

_STEP = {"argmax": 1, "argmin": 1, "welford": 8, "logsumexp": 4}  # operations of one merge, where it is not one


@dataclass(frozen=True)
class StageWork:
    """Work of one stage. ``bytes_read`` counts each element of a tensor at most once."""

    name: str
    kind: str
    macs: int = 0
    flops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


@dataclass(frozen=True)
class Work:
    """Work of a program, printed as a table. ``temporaries`` are the most bytes of local tensors alive at once."""

    stages: tuple[StageWork, ...]
    temporaries: int
    opaque: tuple[str, ...]

    @property
    def macs(self) -> int:
        return sum(s.macs for s in self.stages)

    @property
    def flops(self) -> int:
        return sum(s.flops for s in self.stages)

    @property
    def bytes_read(self) -> int:
        return sum(s.bytes_read for s in self.stages)

    @property
    def bytes_written(self) -> int:
        return sum(s.bytes_written for s in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """The totals, the stages and the names of opaque calls, ready for JSON."""
        return {
            "macs": self.macs,
            "flops": self.flops,
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "temporaries": self.temporaries,
            "opaque": list(self.opaque),
            "stages": [asdict(s) for s in self.stages],
        }

    def __str__(self) -> str:
        header = ("macs", "flops", "bytes read", "bytes written", "kind", "stage")
        rows = [(s.macs, s.flops, s.bytes_read, s.bytes_written, s.kind, s.name) for s in self.stages]
        rows.append(
            (self.macs, self.flops, self.bytes_read, self.bytes_written, "total", f"temporaries {self.temporaries}")
        )
        cells = [header, *([f"{c:,}" if isinstance(c, int) else c for c in row] for row in rows)]
        widths = [max(len(row[n]) for row in cells) for n in range(len(header))]
        lines = [
            "  ".join(c.rjust(w) if n < 4 else c.ljust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in cells
        ]
        return "\n".join(line.rstrip() for line in lines)


def work(program: Program, sizes: Sizes | None = None) -> Work:
    """Work of a program with its symbols at ``sizes``. Raises :class:`UsageError` for a symbol that has no size."""
    known = dict(sizes or {})
    stages = tuple(stage_work(s, known) for s in program.stages)
    opaque = tuple(f"{_name(s)} ({s.target})" for s in program.stages if isinstance(s, Opaque))
    return Work(stages, _temporaries(program, known), opaque)


def stage_work(stage: Stage, sizes: Sizes) -> StageWork:
    """Work of one stage. Raises :class:`UsageError` for a symbol that has no size."""
    count = _Counter(sizes)
    macs, flops = count.stage(stage)
    written = sum(count.bytes(t) for t in stage.outs)
    return StageWork(_name(stage), type(stage).__name__.lower(), macs, flops, count.read(stage), written)


def _name(stage: Stage) -> str:
    return ", ".join(o.name for o in stage.outs)


def _temporaries(program: Program, sizes: Sizes) -> int:
    count = _Counter(sizes)
    last = {t: n for n, s in enumerate(program.stages) for t in (*s.outs, *stage_reads(s))}
    alive = most = 0
    for n, stage in enumerate(program.stages):
        local = [t for t in stage.outs if program.role(t) == "local"]
        alive += sum(count.bytes(t) for t in local)
        most = max(most, alive)
        ended = [
            t for t in dict.fromkeys((*stage.outs, *stage_reads(stage))) if last[t] == n and program.role(t) == "local"
        ]
        alive -= sum(count.bytes(t) for t in ended)
    return most


class _Counter:
    """Counts at given symbol values."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes

    def size(self, value: IndexLike) -> int:
        try:
            return max(0, evaluate(value, self._sizes))
        except KeyError as missing:
            raise UsageError(f"size {value}: symbol {missing.args[0]!r} has no value; pass it in sizes=") from None

    def points(self, iters: Iterable[Iter]) -> int:
        return prod(self.size(i.extent) for i in iters)

    def elements(self, tensor: Tensor) -> int:
        return prod(self.size(e) for e in tensor.shape)

    def bytes(self, tensor: Tensor) -> int:
        return self.elements(tensor) * tensor.dtype.itemsize

    def read(self, stage: Stage) -> int:
        """Bytes read: what a stage's reads can touch, at most the whole tensor."""
        if not isinstance(stage, (Compute, Scatter)):
            return sum(self.bytes(t) for t in stage_reads(stage))
        roots = stage.bodies if isinstance(stage, Compute) else (stage.value,)
        touched = dict.fromkeys(stage_reads(stage), 0)
        for term in postorder(*roots):
            indices = own_indices(term)
            if isinstance(term, Read):
                touched[term.tensor] += self.points(iters_of(indices))
            for table in tensors_of_indices(indices):
                touched[table] += self.points(iters_of(indices))
        if isinstance(stage, Scatter):
            touched[stage.base] = self.elements(stage.base)
            for table in tensors_of_indices(stage.at):
                touched[table] += self.points(stage.loops)
        return sum(min(n, self.elements(t)) * t.dtype.itemsize for t, n in touched.items())

    def stage(self, stage: Stage) -> tuple[int, int]:
        """Multiply-adds and other operations."""
        match stage:
            case Compute():
                return self.terms(StageTerms("", stage.loops, stage.bodies))
            case Scatter():
                macs, flops = self.terms(StageTerms("", stage.loops, (stage.value,)))
                return macs, flops + (self.points(stage.loops) if stage.op != "set" else 0)
            case Scan():
                steps = self.size(stage.over.extent)
                inside = _Counter({**self._sizes, stage.over.name: max(0, steps - 1)})
                macs, flops = inside.all(stage.body.stages)
                return steps * macs, steps * flops
            case Cond():
                return max(self.all(stage.then.stages), self.all(stage.otherwise.stages))
            case Sort():
                return 0, self.comparisons(stage.source, stage.axis, None)
            case TopK():
                return 0, self.comparisons(stage.source, stage.axis, self.size(stage.k))
            case Kernel(implementation="fft"):
                return 0, self.transform(stage)
            case Kernel():
                return self.all(stage.defines)
            case Opaque():
                return 0, 0

    def transform(self, stage: Kernel) -> int:
        """Operations of a fast transform by the usual count: ``5 n log2 n`` for ``n`` complex numbers."""
        lengths = dict(stage.parameters)["sizes"]
        assert isinstance(lengths, tuple)
        count = prod(self.size(n) for n in lengths if isinstance(n, (int, Index)))
        points = max(self.elements(t) / (1 if t.dtype.is_complex else 2) for t in (stage.reads[0], *stage.outs))
        return ceil(5 * points * log2(max(2.0, count)))

    def all(self, stages: Iterable[Stage]) -> tuple[int, int]:
        found = [self.stage(s) for s in stages]
        return sum(m for m, _ in found), sum(f for _, f in found)

    def comparisons(self, source: Tensor, axis: int, k: int | None) -> int:
        """Of a sort (``k`` is None) or of a heap of ``k``."""
        depth = self.size(source.shape[axis]) if k is None else k + 1
        return self.elements(source) * ceil(log2(max(2, depth))) if source.shape else 0

    def terms(self, terms: StageTerms) -> tuple[int, int]:
        """Multiply-adds and other operations of a stage's distinct terms."""
        macs = flops = 0
        absorbed: dict[Scalar, int] = {}
        halved = _halved(terms.postorder)
        for reduce in {shared(t): t for t in terms.postorder if isinstance(t, Reduce)}.values():
            each = self.points(terms.free(reduce)) * self.points(reduce.iters)
            if reduce.monoid != "sum":
                flops += each * _STEP.get(reduce.monoid, 1)
                continue
            products, others = _addends(reduce, absorbed)
            macs += each * products // (2 if reduce in halved else 1)
            flops += each * others
        for term in terms.postorder:
            if isinstance(term, Apply):
                operations = len(term.args) - 1 if function(term.function).arity < 0 else 1
                flops += (operations - absorbed.get(term, 0)) * self.points(terms.free(term))
        return macs, flops


def _halved(terms: Sequence[Scalar]) -> set[Scalar]:
    """Complex terms of which one part alone is used."""
    used: dict[Scalar, set[bool]] = {}
    halved: set[Scalar] = set()
    for term in reversed(terms):
        uses = used.get(term, {False})
        if term.dtype.is_complex and uses == {True}:
            halved.add(term)
        function = term.function if isinstance(term, Apply) else ""
        half = function in ("real", "imag") or (term in halved and function in ("add", "sub", "neg"))
        for operand in children(term):
            used.setdefault(operand, set()).add(half)
    return halved


def _addends(reduce: Reduce, absorbed: dict[Scalar, int]) -> tuple[int, int]:
    """How many products and other terms a sum adds at each point; ``absorbed`` gets the operations it includes."""
    products = others = 0
    pending: list[Scalar] = [reduce.bodies[0]]
    while pending:
        term = pending.pop()
        match term:
            case Cast():
                pending.append(term.value)
            case Apply(function="add" | "sub" | "neg"):
                absorbed[term] = max(1, len(term.args) - 1)
                pending += term.args
            case Apply(function="mul") if len(factors := _varying_factors(term)) > 1:
                absorbed[term] = 1
                products += min(4, 2 ** sum(f.dtype.is_complex for f in factors))
            case _:
                others += 1
    return products, others


def _varying_factors(product: Scalar) -> list[Scalar]:
    """Factors of a product that are no literals, through nested products; as they are before conversions."""
    found: list[Scalar] = []
    pending = [product]
    while pending:
        term = pending.pop()
        match term:
            case Apply(function="mul" | "neg"):
                pending += term.args
            case Cast():
                pending.append(term.value)
            case Const():
                continue
            case _:
                found.append(term)
    return found
