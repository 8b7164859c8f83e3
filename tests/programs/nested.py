"""Terms with reductions inside: softmax in one line, reductions of reductions, stencils, triangles, index products."""

from __future__ import annotations

import torch

from programs.expressions import Expr
from programs.maker import Env, Maker, Value
from programs.pointwise import stage
from tpopt.ir import DType, Iter, Reduce, apply, const, guard, index, select
from tpopt.ir.build import total


def _row(m: Maker) -> Value | None:
    """A float tensor whose last axis is not empty."""
    return m.pick(
        lambda v: bool(v.shape) and v.dtype in (DType.F32, DType.F64) and v.bound < 50 and m.dim(v.shape[-1]) > 0
    )


def softmax(m: Maker) -> None:
    """``exp(x - max x) / sum exp(x - max x)`` along the last axis, as one term."""
    value = _row(m)
    if value is None:
        return
    x, loops, name = value.tensor, m.loops(value.shape), value.tensor.name
    k, r = Iter("k", value.shape[-1]), Iter("r", value.shape[-1])
    highest = Reduce("max", (k,), (x.at([*loops[:-1], k]),))
    row = total((r,), apply("exp", apply("sub", x.at([*loops[:-1], r]), highest)))
    term = apply("div", apply("exp", apply("sub", x.at(list(loops)), highest)), row)
    stage(m, "softmax", loops, [Expr(term, lambda e: e[name].softmax(-1), 0, 1, exact=False)])


def reduction_of_reduction(m: Maker) -> None:
    """``sum[k]{ tanh(x[i, k]) * max[r]{ y[k, r] } }``."""
    value = _row(m)
    if value is None:
        return
    inner, axis = m.random.choice((1, 2, 3)), value.shape[-1]
    y = m.floats((axis, inner), value.dtype, weight=m.random.random() < 0.5)
    k, r, loops = Iter("k", axis), Iter("r", inner), m.loops(value.shape[:-1])
    monoid = m.random.choice(("max", "min", "sum"))
    body = apply("mul", apply("tanh", value.tensor.at([*loops, k])), Reduce(monoid, (r,), (y.tensor[k, r],)))
    names = value.tensor.name, y.tensor.name

    def run(e: Env) -> torch.Tensor:
        reduced = {"max": torch.amax, "min": torch.amin, "sum": torch.sum}[monoid](e[names[1]], -1)
        return (e[names[0]].tanh() * reduced).sum(-1)

    bound = y.bound * inner * m.dim(axis)
    stage(m, "rr", loops, [Expr(total((k,), body), run, -bound, bound, exact=False)])


def stencil(m: Maker) -> None:
    """Neighbours along the last axis, with a constant beyond the ends."""
    value = _row(m)
    if value is None:
        return
    x, loops, name, extent = value.tensor, m.loops(value.shape), value.tensor.name, value.shape[-1]
    reach, edge = m.random.choice((1, 2)), m.random.choice((0.0, 2.0))

    def beside(shift: int) -> object:
        at = loops[-1] + shift
        return select(guard((0, at, extent)), x.at([*loops[:-1], at]), const(edge, value.dtype))

    term = apply("add", beside(-reach), apply("mul", x.at(list(loops)), -2.0), beside(reach))

    def run(e: Env) -> torch.Tensor:
        wide = torch.nn.functional.pad(e[name], (reach, reach), value=edge)
        return wide[..., : -2 * reach] - 2.0 * e[name] + wide[..., 2 * reach :]

    bound = 4 * value.bound + 4
    stage(m, "st", loops, [Expr(term, run, -bound, bound, exact=False)])


def triangle(m: Maker) -> None:
    """A cumulative sum or maximum as a reduction under a triangular guard."""
    value = _row(m)
    if value is None:
        return
    x, loops, name, extent = value.tensor, m.loops(value.shape), value.tensor.name, value.shape[-1]
    k, monoid = Iter("k", extent), m.random.choice(("sum", "max"))
    neutral = const(0.0 if monoid == "sum" else float("-inf"), value.dtype)
    inside = select(guard((0, loops[-1] - k, extent)), x.at([*loops[:-1], k]), neutral)
    bound = value.bound * (m.dim(extent) if monoid == "sum" else 1)

    def run(e: Env) -> torch.Tensor:
        return e[name].cumsum(-1) if monoid == "sum" else e[name].cummax(-1).values

    exact = value.exact and monoid == "max"
    stage(m, "tri", loops, [Expr(Reduce(monoid, (k,), (inside,)), run, -bound, bound, exact)])


def toeplitz(m: Maker) -> None:
    """``sum[k]{ w[i - k + n - 1] * x[k] }``: a convolution written by its matrix."""
    value = _row(m)
    if value is None:
        return
    extent = value.shape[-1]
    w = m.floats((2 * index(extent) - 1,), value.dtype)
    loops, k = m.loops(value.shape), Iter("k", extent)
    term = total((k,), apply("mul", w.tensor[loops[-1] - k + extent - 1], value.tensor.at([*loops[:-1], k])))
    names, n = (w.tensor.name, value.tensor.name), m.dim(extent)
    at = torch.arange(n)[:, None] - torch.arange(n) + n - 1
    bound = w.bound * value.bound * n
    stage(m, "tp", loops, [Expr(term, lambda e: e[names[1]] @ e[names[0]][at].T, -bound, bound, exact=False)])


def index_product(m: Maker) -> None:
    """``sum[k]{ w[(i * k) % n] * x[k] }``: the shape of a Fourier transform."""
    value = _row(m)
    if value is None or not isinstance(value.shape[-1], int):
        return
    n = value.shape[-1]
    w = m.floats((n,), value.dtype)
    loops, k = m.loops((*value.shape[:-1], 4)), Iter("k", n)
    term = total((k,), apply("mul", w.tensor[(loops[-1] * k) % n], value.tensor.at([*loops[:-1], k])))
    names = w.tensor.name, value.tensor.name
    at = (torch.arange(4)[:, None] * torch.arange(n)) % n
    bound = w.bound * value.bound * n
    stage(m, "ft", loops, [Expr(term, lambda e: e[names[1]] @ e[names[0]][at].T, -bound, bound, exact=False)])


def nested(m: Maker) -> None:
    """One of these."""
    m.random.choice((softmax, reduction_of_reduction, stencil, triangle, toeplitz, index_product))(m)
