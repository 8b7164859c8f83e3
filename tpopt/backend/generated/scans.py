"""A loop carried over steps as one kernel: recurrent layers, and whatever else hands a state from step to step.

The stages of a step share the loop over steps, which runs in order; between them lies memory of one step. A state has
two places, one to read and one to write, which take turns. Where nothing goes from one row of a state to another (the
sequences of a batch know nothing of each other), each block of rows goes through all steps before the next one does, or
beside it on another thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from tpopt.backend.generated.fuse import SCRATCH_BYTES, composed
from tpopt.backend.generated.normal import two_pass
from tpopt.backend.generated.plan import Case, Work
from tpopt.backend.generated.sizes import extent, shape
from tpopt.errors import KernelUnsupported
from tpopt.ir import Atom, Compute, Index, Iter, Read, Reduce, Scalar, Scan, Tensor, index
from tpopt.ir.index import IndexLike
from tpopt.ir.walk import fresh_name, freshen, own_indices, postorder, rebuild, substitute_iters, tensors_of_indices
from tpopt.rewrite.stages import term_indices

TOGETHER_BYTES: Final = 1 << 22
"""Most memory of a step that all threads share."""
LARGE_BYTES: Final = 1 << 21
"""Constants of a step from which threads share it and read a part of them each, as no core's caches hold them all.

An LSTM of 256 states (1 MiB) takes 10 % less in blocks, one of 384 takes 20 % more, one of 512 twice as long (Zen 5).
"""


@dataclass(frozen=True)
class _Place:
    """What stands for a tensor of the step: another, at some leading indices; ``own`` if it has a block's rows."""

    tensor: Tensor
    first: tuple[Index, ...] = ()
    own: bool = False


class Loop:
    """The works of a loop, each with how many of its ``rows`` it shares: the blocks, if there are any, and the steps.

    ``private`` are the tensors that nobody else sees. The threads run blocks of rows, or each step ``together``. Raises
    :class:`KernelUnsupported` where a step is more than plain stages, or hands too much on.
    """

    def __init__(self, scan: Scan, threads: int) -> None:
        stages = [s for s in scan.body.stages if isinstance(s, Compute)]
        if len(stages) < len(scan.body.stages):
            raise KernelUnsupported("a step has stages that are no plain algebra")
        if len(set(scan.outs)) < len(scan.outs) or not extent(scan.over):
            raise KernelUnsupported("a loop without steps, or with a result that it makes twice")
        self._scan = scan
        self._stages = [two_pass(s) for s in composed(stages, scan.body.outputs)]
        if any(scan.body.tensors.keys() & _looked_up(s) for s in self._stages):
            raise KernelUnsupported("a step looks up a place by value")
        made = [o for s in self._stages for o in s.outs]
        held = _bytes((*scan.init, *scan.init, *made))
        count = _rows(scan, self._stages)
        self.blocks = 1 if count is None else _blocks(count, held, threads)
        large = _bytes(scan.captures) > LARGE_BYTES or self.blocks % threads > 0
        self.together = threads > 1 and large and held <= TOGETHER_BYTES
        if self.together:
            count, self.blocks = None, 1
        if held > SCRATCH_BYTES * self.blocks and not self.together:
            raise KernelUnsupported(f"a step hands {held // self.blocks} bytes on, at most {SCRATCH_BYTES} are kept")
        self._size = None if count is None else count // self.blocks
        self._names = {t.name: None for t in (*scan.init, *scan.xs, *scan.captures, *scan.outs)}
        iters = {i.name: None for s in self._stages for i in s.loops}
        self.steps = Iter(fresh_name("t", iters), scan.over.extent)
        self._block = Iter(fresh_name("b", iters), self.blocks)
        self.rows = (self._block, self.steps)
        self._turns = [self._tensor(f"{t.name}_turns", 2, t) for t in scan.init]
        self._made = {o: self._tensor(f"{o.name}_step", extent(self.steps), o) for o in made}
        self._places = self._placed()
        self.private = (*self._turns, *self._made.values())

    def works(self) -> Iterator[tuple[Work, int]]:
        """In the order in which they run."""
        scan, now = self._scan, index(self.steps)
        for turns, given in zip(self._turns, scan.init, strict=True):
            yield self._copied(_Place(given), self._turned(turns, index(0)), shape(given)), 1
        for stage in self._stages:
            yield self._in_step(stage), 2
        places = [self._turned(t, (now + 1) % 2) for t in self._turns]
        places += [_Place(o, (now,)) for o in scan.outs[len(self._turns) :]]
        for value, target in zip(scan.body.outputs, places, strict=True):
            yield self._copied(self._places[value], target, shape(value), self.steps), 2
        for turns, out in zip(self._turns, scan.outs, strict=False):
            yield self._copied(self._turned(turns, index(extent(self.steps) % 2)), _Place(out), shape(out)), 1

    def _tensor(self, base: str, places: int, like: Tensor) -> Tensor:
        """One of a block's own."""
        name = fresh_name(base, self._names)
        self._names[name] = None
        return Tensor(name, (self.blocks, places, *self._part(shape(like))), like.dtype)

    def _part(self, dims: Sequence[int]) -> tuple[int, ...]:
        """The shape of a block's part."""
        return tuple(dims) if self._size is None else (self._size, *dims[1:])

    def _turned(self, turns: Tensor, turn: Index) -> _Place:
        return _Place(turns, (index(self._block), turn), own=True)

    def _placed(self) -> dict[Tensor, _Place]:
        scan, now = self._scan, index(self.steps)
        inputs = [self._turned(t, now % 2) for t in self._turns]
        inputs += [_Place(t, (now,)) for t in scan.xs]
        inputs += [_Place(t) for t in scan.captures]
        made = {o: _Place(t, (index(self._block), now), own=True) for o, t in self._made.items()}
        return {**dict(zip(scan.body.inputs, inputs, strict=True)), **made}

    def _row(self, within: Iter) -> Index:
        """The row of the whole at a row of the block."""
        assert self._size is not None
        return index(self._block) * self._size + within

    def _in_step(self, stage: Compute) -> Work:
        """A stage of the step inside of the loop, on a block of rows."""
        within, moved = self.steps, dict[Atom, IndexLike]()
        loops = stage.loops
        if self._size is not None:
            taken = {i.name: None for i in (*stage.loops, *self.rows)}
            within = Iter(fresh_name("in_block", taken), self._size)
            loops, moved = (within, *loops[1:]), {loops[0]: self._row(within)}

        def one(term: Scalar) -> Scalar:
            if not isinstance(term, Read) or term.tensor not in self._places:
                return term
            place = self._places[term.tensor]
            at = (index(within), *term.indices[1:]) if place.own and moved else term.indices
            return place.tensor.at((*place.first, *at))

        names = [i.name for i in (*self.rows, within)]
        bodies = tuple(substitute_iters(rebuild(freshen(b, names), one), moved) for b in stage.bodies)
        where = (index(self._block), index(self.steps), *map(index, loops))
        return Work(tuple(self._made[o] for o in stage.outs), (*self.rows, *loops), (Case(bodies, where),))

    def _copied(self, source: _Place, target: _Place, dims: Sequence[int], *steps: Iter) -> Work:
        """A block's part of one tensor copied to another."""
        loops = tuple(Iter(f"i{n}", e) for n, e in enumerate(self._part(dims)))
        at = tuple(map(index, loops))
        whole = at if self._size is None else (self._row(loops[0]), *at[1:])
        read = source.tensor.at((*source.first, *(at if source.own else whole)))
        where = (*target.first, *(at if target.own else whole))
        return Work((target.tensor,), (self._block, *steps, *loops), (Case((read,), where),))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.dtype.itemsize * prod(shape(t)) for t in tensors)


def _looked_up(stage: Compute) -> set[str]:
    return {t.name for t in tensors_of_indices(term_indices(*stage.bodies))}


def _rows(scan: Scan, stages: Sequence[Compute]) -> int | None:
    """How many rows a state has that go through the steps without each other; ``None`` where they do not."""
    inside = {*scan.body.inputs[: len(scan.init) + len(scan.xs)], *(o for s in stages for o in s.outs)}
    if any(not t.shape for t in (*inside, *scan.body.outputs)):
        return None
    if len({shape(t)[0] for t in (*inside, *scan.body.outputs)}) > 1 or not scan.init:
        return None
    for stage in stages:
        row = stage.loops[0]
        for term in postorder(*stage.bodies):
            if isinstance(term, Reduce) and row in term.iters:
                return None
            if isinstance(term, Read) and term.tensor in inside:
                first, *others = own_indices(term)
                if first != index(row) or any(row in i.nested_atoms for i in others):
                    return None
    return shape(scan.init[0])[0]


def _blocks(rows: int, held: int, threads: int) -> int:
    """In how many equal blocks rows run: as few as keep what a step hands on in the caches, and threads busy."""
    fitting = [n for n in range(1, rows + 1) if rows % n == 0 and held <= SCRATCH_BYTES * n]
    return next((n for n in fitting if n % threads == 0), next(iter(fitting), rows))
