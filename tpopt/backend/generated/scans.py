"""A loop carried over steps as one kernel: recurrent layers, and whatever else hands a state from step to step.

The stages of a step share the loop over steps, which runs in order; between them lies memory of one step. A state has
two places, one to read and one to write, which take turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from tpopt.backend.generated.fuse import SCRATCH_BYTES, composed
from tpopt.backend.generated.normal import two_pass
from tpopt.backend.generated.plan import Case, Work
from tpopt.backend.generated.sizes import extent, shape
from tpopt.errors import KernelUnsupported
from tpopt.ir import Compute, Index, Iter, Read, Scalar, Scan, Tensor, index
from tpopt.ir.walk import fresh_name, freshen, rebuild, tensors_of_indices
from tpopt.rewrite.stages import term_indices


class Loop:
    """The works of a loop, each with how many loops it shares: 1 inside of the loop over ``steps``, 0 around it.

    ``private`` are the tensors that nobody else sees. Raises :class:`KernelUnsupported` where a step is more than plain
    stages, or hands too much on.
    """

    def __init__(self, scan: Scan) -> None:
        stages = [s for s in scan.body.stages if isinstance(s, Compute)]
        if len(stages) < len(scan.body.stages):
            raise KernelUnsupported("a step has stages that are no plain algebra")
        if len(set(scan.outs)) < len(scan.outs) or not extent(scan.over):
            raise KernelUnsupported("a loop without steps, or with a result that it makes twice")
        self._scan = scan
        self._stages = [two_pass(s) for s in composed(stages, scan.body.outputs)]
        self._names = {t.name: None for t in (*scan.init, *scan.xs, *scan.captures, *scan.outs)}
        names = {i.name: None for s in self._stages for i in s.loops}
        self.steps = Iter(fresh_name("t", names), scan.over.extent)
        self._turns = [self._tensor(f"{t.name}_turns", (2, *shape(t)), t) for t in scan.init]
        made = [o for s in self._stages for o in s.outs]
        self._rows = {o: self._tensor(f"{o.name}_step", (extent(self.steps), *shape(o)), o) for o in made}
        self._places = self._placed()
        if any(t in self._places for s in self._stages for t in tensors_of_indices(term_indices(*s.bodies))):
            raise KernelUnsupported("a step looks up a place by value")
        self.private = (*self._turns, *self._rows.values())
        held = sum(t.dtype.itemsize * prod(shape(t)[1:]) for t in (*self._turns, *self.private))
        if held > SCRATCH_BYTES:
            raise KernelUnsupported(f"a step hands {held} bytes on, at most {SCRATCH_BYTES} are kept")

    def works(self) -> Iterator[tuple[Work, int]]:
        """In the order in which they run."""
        scan, now = self._scan, index(self.steps)
        for turns, given in zip(self._turns, scan.init, strict=True):
            yield _copied(given, (), turns, (index(0),)), 0
        for stage in self._stages:
            yield self._in_step(stage), 1
        places = [(t, (now + 1) % 2) for t in self._turns] + [(o, now) for o in scan.outs[len(self._turns) :]]
        for value, (target, where) in zip(scan.body.outputs, places, strict=True):
            yield _copied(*self._places[value], target, (where,), self.steps), 1
        for turns, out in zip(self._turns, scan.outs, strict=False):
            yield _copied(turns, (index(extent(self.steps) % 2),), out, ()), 0

    def _tensor(self, base: str, dims: tuple[int, ...], like: Tensor) -> Tensor:
        name = fresh_name(base, self._names)
        self._names[name] = None
        return Tensor(name, dims, like.dtype)

    def _placed(self) -> dict[Tensor, tuple[Tensor, tuple[Index, ...]]]:
        """What stands for each tensor of a step, and the leading indices at which it does."""
        scan, now = self._scan, index(self.steps)
        inputs: list[tuple[Tensor, tuple[Index, ...]]] = [(t, (now % 2,)) for t in self._turns]
        inputs += [(t, (now,)) for t in scan.xs]
        inputs += [(t, ()) for t in scan.captures]
        rows = {o: (row, (now,)) for o, row in self._rows.items()}
        return {**dict(zip(scan.body.inputs, inputs, strict=True)), **rows}

    def _in_step(self, stage: Compute) -> Work:
        """A stage of the step inside of the loop."""

        def one(term: Scalar) -> Scalar:
            if not isinstance(term, Read) or term.tensor not in self._places:
                return term
            tensor, first = self._places[term.tensor]
            return tensor.at((*first, *term.indices))

        bodies = tuple(rebuild(freshen(b, [self.steps.name]), one) for b in stage.bodies)
        where = (index(self.steps), *map(index, stage.loops))
        return Work(tuple(self._rows[o] for o in stage.outs), (self.steps, *stage.loops), (Case(bodies, where),))


def _copied(source: Tensor, at: tuple[Index, ...], target: Tensor, to: tuple[Index, ...], *shared: Iter) -> Work:
    """What lies in a tensor at some leading indices, copied to those of another."""
    own = tuple(Iter(f"i{n}", e) for n, e in enumerate(source.shape[len(at) :]))
    rest = tuple(map(index, own))
    return Work((target,), (*shared, *own), (Case((source.at((*at, *rest)),), (*to, *rest)),))
