"""Makes one kernel of several stages: what can be computed where it is read is, the rest shares rows.

A row is one point of the loops that all stages of a kernel have in common, the leading ones of each. What a stage hands
to another within a row lies in scratch memory of the size of a row, which stays in the first cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod

from tpopt.backend.generated.aligned import Aligned, aligned
from tpopt.backend.generated.sizes import extent, shape
from tpopt.backend.generated.unroll import reads_literals
from tpopt.errors import KernelUnsupported
from tpopt.ir import Apply, Compute, Index, Iter, Read, Reduce, Scalar, Tensor, index
from tpopt.ir.index import Atom, IndexLike, walk_atoms
from tpopt.ir.interpret.terms import iters_of
from tpopt.ir.walk import freshen, postorder, rebuild, stage_reads, substitute_iters, tensors_of_indices
from tpopt.rewrite.contraction import read_once
from tpopt.rewrite.stages import moved, term_indices

SCRATCH_BYTES = 64 * 1024
"""Most memory that stages of one row hand to each other: it should stay in the first two caches, and on the stack."""
STREAMED_BYTES = 192 * 1024
"""Most memory that one row reads over and over: what leaves the second cache is better read once for many rows."""
MAX_TERMS = 400
KEPT_STAGES = 4096
"""Stages remembered with another in them: groups that grow put the same ones together again and again."""
CHEAP_TERMS = 12
"""Terms of a pointwise stage that is computed again wherever it is read, if it holds no function but arithmetic."""
_ARITHMETIC = frozenset("add sub mul neg max min where eq ne lt le gt ge and or not abs".split())


@dataclass(frozen=True)
class Rows:
    """Stages that run row by row: their first loops are ``rows``, the same objects in each, or the leading ones.

    ``steps`` are the strides of results that stages index in another order of axes.
    """

    rows: tuple[Iter, ...]
    stages: tuple[Compute, ...]
    outs: tuple[Tensor, ...]
    steps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def depth(self, stage: Compute) -> int:
        """How many rows a stage has."""
        return sum(a is b for a, b in zip(stage.loops, self.rows, strict=False))

    @property
    def private(self) -> tuple[Tensor, ...]:
        """Tensors that no one outside needs."""
        return tuple(o for s in self.stages for o in s.outs if o not in self.outs)


def fused(stages: Sequence[Compute], outs: Sequence[Tensor]) -> Rows:
    """The kernel that computes ``outs`` by ``stages``, in order.

    Raises :class:`KernelUnsupported` where the stages have no rows in common, or hand too much to each other.
    """
    found = shared(stages, outs)
    if not found.depth:
        return Rows((), found.stages, tuple(outs))
    rows = tuple(Iter(f"r{n}", i.extent) for n, i in enumerate(found.stages[-1].loops[: found.depth]))
    return Rows(rows, tuple(_renamed(s, rows) for s in found.stages), found.outs, found.steps)


def shared(stages: Sequence[Compute], outs: Sequence[Tensor]) -> Aligned:
    """The stages that are left when what can be computed where it is read has been, and how many loops they share.

    One that is left alone shares none. Raises :class:`KernelUnsupported` as :func:`fused` does, which takes longer.
    """
    kept = tuple(composed(list(stages), outs))
    if len(kept) == 1:
        return Aligned(kept, tuple(outs), 0, {})
    if any(reads_literals(s) for s in kept):
        raise KernelUnsupported("a transform by a small matrix is a kernel of its own")
    try:
        return Aligned(kept, tuple(outs), _checked(kept, outs, _common(kept)), {})
    except KernelUnsupported:
        found = aligned(kept, outs, SCRATCH_BYTES)
        if found is None:
            raise
        _checked(found.stages, found.outs, found.depth)
        return found


def composed(stages: list[Compute], outs: Sequence[Tensor]) -> list[Compute]:
    """Stages after those that can be computed where they are read have been.

    From the last to the first: what had many readers has one where these have become one.
    """
    for position in reversed(range(len(stages) - 1)):
        stage = stages[position]
        readers = [n for n in range(position + 1, len(stages)) if stage.outs[0] in _sources(stages[n])]
        if stage.outs[0] in outs or len(stage.outs) > 1 or not _can_move(stage, [stages[n] for n in readers]):
            continue
        for n in readers:
            stages[n] = _with_body(stages[n], stage)
        del stages[position]
    return stages


def _can_move(stage: Compute, readers: Sequence[Compute]) -> bool:
    out, body = stage.outs[0], stage.bodies[0]
    if not readers or any(out in _index_sources(r) for r in readers):
        return False
    terms = postorder(body)
    if any(len(terms) + len(postorder(*r.bodies)) > MAX_TERMS for r in readers):
        return False
    summed = any(isinstance(t, Reduce) for t in terms)
    reads = [(r, t) for r in readers for t in postorder(*r.bodies) if isinstance(t, Read) and t.tensor is out]
    if len(reads) == 1 and read_once(reads[0][1], _scope(*reads[0])) is not None:
        return not (summed and _inside_reduction(*reads[0]))
    if summed:
        return False
    return len(terms) <= CHEAP_TERMS and all(t.function in _ARITHMETIC for t in terms if isinstance(t, Apply))


@lru_cache(maxsize=KEPT_STAGES)
def _sources(stage: Compute) -> frozenset[Tensor]:
    return frozenset(stage_reads(stage))


@lru_cache(maxsize=KEPT_STAGES)
def _index_sources(stage: Compute) -> frozenset[Tensor]:
    """What a stage reads to know where to read."""
    return frozenset(tensors_of_indices(term_indices(*stage.bodies)))


def _scope(reader: Compute, read: Read) -> list[Iter]:
    around = {
        i: None for t in postorder(*reader.bodies) if isinstance(t, Reduce) and read in postorder(t) for i in t.iters
    }
    return [*reader.loops, *around]


def _inside_reduction(reader: Compute, read: Read) -> bool:
    return any(isinstance(t, Reduce) and read in postorder(t) for t in postorder(*reader.bodies))


@lru_cache(maxsize=KEPT_STAGES)
def _with_body(reader: Compute, source: Compute) -> Compute:
    """A stage with another's body in place of every read of its result."""
    out = source.outs[0]
    names = [i.name for i in reader.loops]
    names += [i.name for t in postorder(*reader.bodies) if isinstance(t, Reduce) for i in t.iters]
    body = freshen(source.bodies[0], names)

    def one(term: Scalar) -> Scalar:
        return moved(body, source.loops, term.indices) if isinstance(term, Read) and term.tensor is out else term

    return replace(reader, bodies=tuple(rebuild(b, one) for b in reader.bodies))


def _common(stages: Sequence[Compute]) -> int:
    """How many leading loops stages have in common."""
    makers = {o: s for s in stages for o in s.outs}
    depth = min(len(s.loops) for s in stages)
    for stage in stages:
        for read in _reads(stage, makers):
            depth = min(depth, _shared(read, stage, makers[read.tensor], depth))
    first = stages[-1]
    for stage in stages:
        same = 0
        while same < depth and stage.loops[same].extent == first.loops[same].extent:
            same += 1
        depth = same
    return depth


def _checked(stages: Sequence[Compute], outs: Sequence[Tensor], depth: int) -> int:
    """The number of loops that stages share. Raises :class:`KernelUnsupported` where that makes no kernel."""
    makers = {o: s for s in stages for o in s.outs}
    if any(t in makers for s in stages for t in _index_sources(s)):
        raise KernelUnsupported("a result of the kernel is used as an index in it")
    if depth == 0:
        raise KernelUnsupported("the stages share no loops, so that one would have to end before the next begins")
    held = sum(t.dtype.itemsize * prod(shape(t)[depth:]) for t in makers if t not in outs)
    if held > SCRATCH_BYTES:
        raise KernelUnsupported(f"stages would hand {held} bytes a row to each other, at most {SCRATCH_BYTES} are kept")
    for stage in stages:
        for read in (t for t in postorder(*stage.bodies) if isinstance(t, Read) and t.tensor not in makers):
            again = _again(read, stage.loops[:depth])
            if again > STREAMED_BYTES:
                raise KernelUnsupported(f"each row would read {again} bytes of {read.tensor.name} anew")
    return depth


def _again(read: Read, rows: tuple[Iter, ...]) -> int:
    """Bytes that every row reads of a tensor, where neighbouring rows read (nearly) the same ones."""
    iters = iters_of(read.indices)
    if rows[-1] in iters and all(i in rows for i in iters):
        return 0
    points = prod(extent(i) for i in iters if i not in rows)
    return points * read.tensor.dtype.itemsize


def _reads(stage: Compute, makers: Mapping[Tensor, Compute]) -> list[Read]:
    return [t for t in postorder(*stage.bodies) if isinstance(t, Read) and t.tensor in makers]


def _shared(read: Read, reader: Compute, maker: Compute, most: int) -> int:
    """How many leading loops of a reader a read takes from the same row: index ``n`` is loop ``n`` of both."""
    count = 0
    while count < min(most, len(maker.loops), len(reader.loops)):
        where, loop = read.indices[count], reader.loops[count]
        alone = where is index(loop) or (where.constant == 0 and loop.extent == 1)
        if not alone or any(_mentions(i, loop) for i in read.indices[count + 1 :]):
            break
        count += 1
    return count


def _mentions(where: Index, loop: Iter) -> bool:
    return loop in walk_atoms(where)


def _renamed(stage: Compute, rows: tuple[Iter, ...]) -> Compute:
    bound: dict[Atom, IndexLike] = dict(zip(stage.loops, rows, strict=False))
    inner = list(stage.loops[len(rows) :])
    bodies: Iterable[Scalar] = (substitute_iters(freshen(b, [r.name for r in rows]), bound) for b in stage.bodies)
    taken = {r.name for r in rows}
    own = [Iter(f"{i.name}_", i.extent) if i.name in taken else i for i in inner]
    moves: dict[Atom, IndexLike] = dict(zip(inner, own, strict=True))
    return Compute(stage.outs, (*rows, *own), tuple(substitute_iters(b, moves) for b in bodies))
