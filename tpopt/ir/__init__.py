"""The tensor-algebra IR. The grammar, on one screen::

Program  = (inputs, weights, stages*, outputs, aliases, symbols)
Stage    = Compute(outs+, loops: Iter*, bodies: Scalar+)
         | Scatter(out, base, op, loops: Iter*, at: Index*, value: Scalar, guard)
         | Scan(outs, init, xs, captures, over: Iter, body: Program) | Cond(outs, predicate, captures, then, otherwise)
         | Sort(values, indices, source, axis, …) | TopK(values, indices, source, k, axis, …)
         | Kernel(outs, implementation, reads, defines: Stage*, parameters, layouts)
         | Opaque(outs, target, args, kwargs, effectful)
Scalar   = Const(value, dtype) | Read(tensor, Index*) | Apply(function, Scalar*) | Reduce(monoid, Iter*, Scalar+, pick)
         | Select(Guard, Scalar, Scalar) | Cast(dtype, Scalar) | Position(Index)
Index    = sum of integer * product of Atom
Atom     = Iter(name, extent) | Symbol(name, low, high) | FloorDiv | Mod | Lookup(tensor, Index*, low, high)
Guard    = conjunction of low <= Index < high
Tensor   = (name, shape, dtype, layout, structure)
"""

from __future__ import annotations

from tpopt.ir.bounds import interval, nonnegative, within
from tpopt.ir.build import Builder, apply, compute, guard, iters, position, reduce, select, tensor, total, where
from tpopt.ir.division import ceildiv, floordiv, mod
from tpopt.ir.dtypes import DType
from tpopt.ir.index import Atom, FloorDiv, Index, Iter, Lookup, Mod, Size, Symbol, index, size, substitute
from tpopt.ir.program import Alias, Origin, Program
from tpopt.ir.stages import Compute, Cond, Kernel, Opaque, Scan, Scatter, Sort, Stage, TopK
from tpopt.ir.structure import DENSE, Structure
from tpopt.ir.terms import (
    Apply,
    Bound,
    Cast,
    Const,
    Guard,
    Position,
    Read,
    Reduce,
    Scalar,
    Select,
    Tensor,
    cast,
    const,
)
from tpopt.ir.validate import validate
from tpopt.ir.walk import postorder, rebuild, stage_reads, tensors_read

__all__ = [
    "DENSE", "Alias", "Apply", "Atom", "Bound", "Builder", "Cast", "Compute", "Cond", "Const", "DType", "FloorDiv",
    "Guard", "Index", "Iter", "Kernel", "Lookup", "Mod", "Opaque", "Origin", "Position", "Program", "Read",
    "Reduce", "Scalar", "Scan", "Scatter", "Select", "Size", "Sort", "Stage", "Structure", "Symbol", "Tensor",
    "TopK", "apply", "cast", "ceildiv", "compute", "const", "floordiv", "guard", "index", "interval", "iters",
    "mod", "nonnegative", "position", "postorder", "rebuild", "reduce", "select", "size", "stage_reads",
    "substitute", "tensor", "tensors_read", "total", "validate", "where", "within",
]  # fmt: skip
