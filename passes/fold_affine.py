"""Fold scales and shifts into the contractions beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import ClassVar

from tpopt.ir import (
    DENSE,
    Apply,
    Builder,
    Compute,
    Index,
    Iter,
    Program,
    Read,
    Reduce,
    Scalar,
    Select,
    Stage,
    Tensor,
    index,
    iters,
    tensors_read,
)
from tpopt.ir.walk import freshen, is_literal, postorder, rebuild
from tpopt.passes.fold_constants import MAX_BYTES
from tpopt.rewrite import Numerics, Pass, Refusal, Trace
from tpopt.rewrite.affine import Affine, affine_in, plus, times
from tpopt.rewrite.contraction import Contraction, axis_of, contraction, read_once
from tpopt.rewrite.stages import constant_tensors, free_iters, moved, reads_of, without_unread

AFTER, BEFORE = "FoldAffineOfContraction", "FoldContractionOfAffine"


@dataclass(frozen=True)
class FoldAffine(Pass):
    """Replaces ``s*sum{x*w} + b`` with ``sum{x*(s*w)} + b``, and ``sum{(s*x + b)*w}`` with ``sum{x*(s*w)} + sum{b*w}``.

    Scale and shift are functions of weights that vary along axes of the weight ``w`` alone, as a batch norm's do along
    output channels. It looks at terms, never at operators: convolutions of every kind, linear layers and einsums fold.
    The scaled weight and the bias are new stages over weights, for ``fold-constants`` to evaluate. Numerics: rounding.

    Given::

        y: f32[9,4] = L[i0:9,i1:4] sum[k:8]{ x[i0,k] * w[i1,k] }
        z: f32[9,4] = L[i0:9,i1:4] (y[i0,i1] - m[i1]) * s[i1]

    Result::

        z.weight: f32[4,8] = L[i0:4,i1:8] w[i0,i1] * s[i0]
        z.bias: f32[4] = L[i0:4] s[i0] * -m[i0]
        z: f32[9,4] = L[i0:9,i1:4] sum[k:8]{ x[i0,k] * z.weight[i1,k] } + z.bias[i1]

    An affine map after the product folds only when nothing else reads the product; one before it only when all that
    read its result are such products, and a shift only where no padding guard reads zeros in its place. ``max_bytes``
    bounds a scaled weight.
    """

    name: ClassVar[str] = "fold-affine"
    numerics: ClassVar[Numerics] = Numerics.ROUNDING
    max_bytes: int = MAX_BYTES

    def run(self, program: Program, trace: Trace) -> Program:
        folder = _Folder(self, program, trace, constant_tensors(program), Builder(program.tensors))
        for stage in program.stages:
            folder.visit(stage)
        if not folder.spare:
            return program
        return program.with_stages(without_unread(folder.builder.stages, folder.spare, program.outputs))


@dataclass(frozen=True)
class _Plan:
    """A contraction to write: ``out[loops] = sum[summed]{ factors, the weight times scale } + shift``."""

    out: Tensor
    loops: tuple[Iter, ...]
    summed: tuple[Iter, ...]
    factors: tuple[Scalar, ...]
    weight: Read
    scale: Scalar | None
    shift: Scalar | None


@dataclass
class _Folder:
    """One run. ``products`` are contractions by output, ``maps`` affine stages that all their readers can absorb."""

    options: FoldAffine
    program: Program
    trace: Trace
    constants: dict[Tensor, None]
    builder: Builder
    products: dict[Tensor, Compute] = field(default_factory=dict)
    maps: dict[Tensor, Compute] = field(default_factory=dict)
    spare: dict[Tensor, None] = field(default_factory=dict)

    def visit(self, stage: Stage) -> None:
        """Emits a stage, or the contraction that it becomes."""
        if not isinstance(stage, Compute) or len(stage.outs) != 1 or stage.outs[0] in self.constants:
            self.builder.add(stage)
            return
        stage = self._absorb_maps(stage)
        pointwise = not any(isinstance(t, Reduce) for t in postorder(stage.bodies[0]))
        if pointwise:
            stage = self._into_product(stage)
        self.builder.add(stage)
        if contraction(stage) is not None:
            self.products[stage.outs[0]] = stage
        elif pointwise:
            self._offer(stage)

    # -- an affine map of a contraction

    def _into_product(self, stage: Compute) -> Compute:
        body = stage.bodies[0]
        for read in [t for t in postorder(body) if isinstance(t, Read) and t.tensor in self.products]:
            form = affine_in(body, read)
            if isinstance(form, Refusal) or form == Affine():
                continue
            plan = self._after(stage, read, form)
            names = [stage.outs[0].name, read.tensor.name]
            if isinstance(plan, Refusal):
                self.trace.refused(AFTER, plan, names)
                continue
            self.trace.applied(AFTER, names, numerics=Numerics.ROUNDING)
            self.spare[read.tensor] = None
            return self._write(plan)
        return stage

    def _after(self, stage: Compute, read: Read, form: Affine) -> _Plan | Refusal:
        source = read.tensor
        if source in self.program.outputs:
            return Refusal("the product is an output of the program")
        if len(self.program.consumers[source]) > 1:
            return Refusal("the product has other readers")
        places = read_once(read, stage.loops)
        if places is None:
            return Refusal("the product is read through an index map")
        product = self.products[source]
        body = freshen(product.bodies[0], [l.name for l in stage.loops])
        inner = Compute(stage.outs, stage.loops, (moved(body, product.loops, places),))
        found = contraction(inner)
        assert found is not None, "a contraction stays one over other loops"
        if isinstance(found.form, Refusal):
            return Refusal(f"the product is no affine part of its stage: {found.form}")
        return self._plan(found, found.factors, form.of(found.form), Affine())

    # -- a contraction of an affine map

    def _offer(self, stage: Compute) -> None:
        """Remembers an affine map of one tensor when every reader of its result can absorb it."""
        out = stage.outs[0]
        form = self._map(stage)
        readers = self.program.consumers.get(out, ())
        if form is None or not any(isinstance(r, Compute) and contraction(r) for r in readers):
            return
        if out in self.program.outputs:
            self.trace.refused(BEFORE, "the map's result is an output of the program", [out.name])
            return
        self.maps[out] = stage
        for reader in readers:
            plan = self._before(reader, stage)
            if isinstance(plan, Refusal):
                self.trace.refused(BEFORE, plan, [out.name, *(o.name for o in reader.outs)])
                del self.maps[out]
                return

    def _map(self, stage: Compute) -> tuple[Read, Affine] | None:
        """The one varying read of a stage, and the affine function of it that the stage computes."""
        body = stage.bodies[0]
        reads = [t for t in postorder(body) if isinstance(t, Read) and t.tensor not in self.constants]
        form = affine_in(body, reads[0]) if len(reads) == 1 else Affine()
        return None if isinstance(form, Refusal) or form == Affine() else (reads[0], form)

    def _absorb_maps(self, stage: Compute) -> Compute:
        for source in [t for t in tensors_read(stage.bodies[0]) if t in self.maps]:
            plan = self._before(stage, self.maps[source])
            if isinstance(plan, _Plan):
                stage = self._write(plan)
                self.spare[source] = None
                self.trace.applied(BEFORE, [stage.outs[0].name, source.name], numerics=Numerics.ROUNDING)
        return stage

    def _before(self, reader: Stage, source: Compute) -> _Plan | Refusal:
        out = source.outs[0]
        found = contraction(reader) if isinstance(reader, Compute) else None
        if found is None or not isinstance(reader, Compute):
            return Refusal("the map's result is also read by a stage that is no contraction")
        if isinstance(found.form, Refusal):
            return Refusal(f"the product is no affine part of its stage: {found.form}")
        reads, holding = reads_of(reader.bodies[0], out), [f for f in found.factors if reads_of(f, out)]
        if len(holding) != 1 or len(reads) != 1:
            return Refusal("the map's result is read more than once")
        old, read = holding[0], reads[0]
        guarded = isinstance(old, Select) and old.inside is read and is_literal(old.outside, 0)
        if old is not read and not guarded:
            return Refusal("the map's result is read inside another function")
        mapped = self._map(source)
        assert mapped is not None, "only affine maps are offered"
        terms = (mapped[1].scale, mapped[1].shift)
        inner = Affine(*(None if t is None else moved(t, source.loops, read.indices) for t in terms))
        if inner.shift is not None and guarded:
            return Refusal("a padding guard reads zero where the map gives its shift")
        if inner.shift is not None and len(found.factors) != 2:
            return Refusal("the shift would meet more than one factor")
        new = moved(mapped[0], source.loops, read.indices)
        if isinstance(old, Select):
            new = Select(old.guard, new, old.outside)
        factors = tuple(new if f is old else f for f in found.factors)
        return self._plan(found, factors, found.form, inner)

    # -- both

    def _plan(self, found: Contraction, factors: tuple[Scalar, ...], form: Affine, inner: Affine) -> _Plan | Refusal:
        """``form`` of the sum of ``factors``, one of which is to become ``inner`` of itself."""
        for kind, term in (*_parts(form), *_parts(inner)):
            if any(t not in self.constants for t in tensors_read(term)):
                return Refusal(f"the {kind} is no function of weights alone")
        plans = [self._with_weight(found, factors, f, w, form, inner) for f, w in found.weights(self.constants)]
        accepted = [p for p in plans if isinstance(p, _Plan)]
        return (*accepted, *plans, Refusal("no factor of the product is a weight"))[0]

    def _with_weight(
        self, found: Contraction, factors: tuple[Scalar, ...], factor: Scalar, weight: Read, form: Affine, inner: Affine
    ) -> _Plan | Refusal:
        """The plan that scales one of the weights, or why its axes do not carry the map."""
        scale, shift = times(form.scale, inner.scale), form.shift
        if inner.shift is not None:
            shifted = Reduce("sum", found.summed, (Apply("mul", (inner.shift, factor)),))
            shift = plus(times(form.scale, shifted), shift)
        for kind, term in _parts(Affine(scale, shift)):
            for iterator in free_iters(term):
                if axis_of(weight, iterator) is None or (kind == "shift" and iterator not in found.loops):
                    return Refusal(f"the {kind} varies along a loop that is no axis of the weight alone")
        if scale is not None and weight.tensor.structure is not DENSE:
            return Refusal("the weight is given by a formula")
        size = _bytes(weight.tensor)
        if scale is not None and size > self.options.max_bytes:
            return Refusal(f"the scaled weight takes {size} bytes, more than max_bytes={self.options.max_bytes}")
        return _Plan(found.out, found.loops, found.summed, factors, weight, scale, shift)

    def _write(self, plan: _Plan) -> Compute:
        """Emits the stages that a contraction's weight and bias come from; returns the contraction."""
        weight = plan.weight if plan.scale is None else self._scaled(plan, plan.scale)
        factors = tuple(rebuild(f, lambda t: weight if t is plan.weight else t) for f in plan.factors)
        total: Scalar = Reduce("sum", plan.summed, (Apply("mul", factors),))
        if plan.shift is not None:
            total = Apply("add", (total, self._bias(plan, plan.shift)))
        return Compute((plan.out,), plan.loops, (total,))

    def _scaled(self, plan: _Plan, scale: Scalar) -> Read:
        weight = plan.weight
        loops = iters("i", weight.tensor.shape)
        own = freshen(scale, [l.name for l in loops])
        axes = {i: axis for i in free_iters(own) if (axis := axis_of(weight, i)) is not None}
        body = Apply("mul", (weight.tensor.at(loops), moved(own, axes, [loops[a] for a in axes.values()])))
        return Read(self._constant(f"{plan.out.name}.weight", loops, body), weight.indices)

    def _bias(self, plan: _Plan, shift: Scalar) -> Scalar:
        if isinstance(shift, Read) and shift.indices and all(w in _whole(shift, plan.loops) for w in shift.indices):
            return shift
        channels = [l for l in plan.loops if axis_of(plan.weight, l) is not None]
        free = free_iters(shift)
        over = [l for l in plan.loops if l in free] or channels[:1]
        loops = iters("i", [l.extent for l in over])
        body = moved(freshen(shift, [l.name for l in loops]), over, loops)
        return self._constant(f"{plan.out.name}.bias", loops, body).at(over)

    def _constant(self, name: str, loops: tuple[Iter, ...], body: Scalar) -> Tensor:
        out = Tensor(self.builder.name(name), tuple(l.extent for l in loops), body.dtype)
        self.builder.add(Compute((out,), loops, (body,)))
        self.constants[out] = None
        return out


def _whole(read: Read, loops: tuple[Iter, ...]) -> tuple[Index, ...]:
    """The indices of a read that are loops running over a whole axis."""
    return tuple(index(l) for l in loops if axis_of(read, l) is not None)


def _parts(form: Affine) -> tuple[tuple[str, Scalar], ...]:
    """The scale and the shift, where there are such."""
    return tuple((kind, term) for kind, term in (("scale", form.scale), ("shift", form.shift)) if term is not None)


def _bytes(tensor: Tensor) -> int:
    """Bytes of a tensor; a run-time extent counts as one."""
    return prod(e for e in tensor.shape if isinstance(e, int)) * tensor.dtype.itemsize
