"""Stages that move and combine: reductions, contractions, windows, views, lookups."""

from __future__ import annotations

import math

import torch

from programs.expressions import Expr
from programs.maker import FLOATS, Env, Maker, Value
from programs.pointwise import stage
from tpopt.ir import Apply, DType, Index, Iter, Lookup, Position, Reduce, Scalar, const, guard, index, select
from tpopt.ir.build import linear, total


def _axes(m: Maker, value: Value) -> list[int]:
    rank = len(value.shape)
    return sorted(m.random.sample(range(rank), m.random.randint(1, rank)))


def _split(m: Maker, value: Value, axes: list[int]) -> tuple[tuple[Iter, ...], tuple[Iter, ...], list[Index]]:
    """Loops over the kept axes, iterators over the reduced ones, and the indices that read the value."""
    kept = [a for a in range(len(value.shape)) if a not in axes]
    loops = m.loops([value.shape[a] for a in kept])
    iters = m.loops([value.shape[a] for a in axes], m.random.choice(("k", "r")))
    by_axis = {**dict(zip(kept, loops, strict=True)), **dict(zip(axes, iters, strict=True))}
    return loops, iters, [index(by_axis[a]) for a in range(len(value.shape))]


def _prod(x: torch.Tensor, axes: list[int]) -> torch.Tensor:
    for axis in reversed(axes):
        x = x.prod(axis)
    return x


def reduction(m: Maker) -> None:
    """sum, prod, max, min, any or all over some axes."""
    value = m.pick(lambda v: len(v.shape) > 0 and (v.bound < 1e3 or v.dtype.is_float))
    if value is None:
        return
    axes = _axes(m, value)
    loops, iters, where = _split(m, value, axes)
    count, name = m.count([value.shape[a] for a in axes]), value.tensor.name
    body: Scalar = value.tensor.at(where)
    before = (lambda e: e[name]) if value.bound < 1e3 else (lambda e: torch.tanh(e[name]))
    b = min(value.bound, 1e3)
    if value.bound >= 1e3:
        body = Apply("tanh", (body,))
    names = ["any", "all"] if value.dtype is DType.BOOL else ["sum"]
    if value.dtype is not DType.BOOL and not value.dtype.is_complex and count:
        names += ["max", "min"]
    if value.dtype.is_float and b ** max(count, 1) < 1e4:
        names.append("prod")
    if value.dtype.is_integer and count * b > 120:
        names = ["max", "min"] if count else []
    if not names:
        return
    monoid = m.random.choice(names)
    torched = {
        "sum": lambda x: x.sum(axes, dtype=x.dtype),
        "prod": lambda x: _prod(x, axes),
        "max": lambda x: x.amax(axes),
        "min": lambda x: x.amin(axes),
        "any": lambda x: _any(x, axes),
        "all": lambda x: ~_any(~x, axes),
    }[monoid]
    high = {"sum": b * count, "prod": 1e4, "any": 1, "all": 1}.get(monoid, b)
    exact = value.exact and b == value.bound and monoid not in ("sum", "prod")
    term = Reduce(monoid, iters, (body,))
    stage(m, monoid[0], loops, [Expr(term, lambda e: torched(before(e)), -high, high, exact)])


def _any(x: torch.Tensor, axes: list[int]) -> torch.Tensor:
    for axis in reversed(axes):
        x = x.any(axis)
    return x


def wide_reduction(m: Maker) -> None:
    """Reductions with several outputs: argmax, argmin, Welford's moments, log-sum-exp."""
    value = m.pick(
        lambda v: len(v.shape) > 0 and v.dtype in (DType.F32, DType.F64) and v.bound < 50 and m.count(v.shape) > 0
    )
    if value is None:
        return
    loops, iters, where = _split(m, value, _axes(m, value))
    axes = [n for n, w in enumerate(where) if w.atoms and w.atoms[0] in iters]
    body, dtype, name = value.tensor.at(where), value.dtype, value.tensor.name
    kept, count = m.dims([i.extent for i in loops]), m.count([i.extent for i in iters])

    def flat(env: Env) -> torch.Tensor:
        order = [a for a in range(env[name].dim()) if a not in axes] + axes
        return env[name].permute(order).reshape(*kept, count)

    b, place = value.bound, linear(iters, [i.extent for i in iters])
    kind = m.random.choice(("argmax", "argmin", "welford", "logsumexp") if value.distinct else ("welford", "logsumexp"))
    bodies: tuple[Scalar, ...]
    if kind in ("argmax", "argmin"):
        bodies = (body, Position(place))
        pick = (lambda x: x.max(-1)) if kind == "argmax" else (lambda x: x.min(-1))
        parts = [(lambda e: pick(flat(e)).values, -b, b, True), (lambda e: pick(flat(e)).indices, 0, count, True)]
    elif kind == "welford":
        bodies = (body, const(0.0, dtype), const(1.0, dtype))
        parts = [
            (lambda e: flat(e).mean(-1), -b, b, False),
            (lambda e: flat(e).var(-1, correction=0) * count, 0, b * b * count, False),
            (lambda e: torch.full(kept, float(count), dtype=torch.float64), 0, count, True),
        ]
    else:
        bodies = (body, const(1.0, dtype))
        parts = [
            (lambda e: flat(e).amax(-1), -b, b, value.exact),
            (lambda e: (flat(e) - flat(e).amax(-1, keepdim=True)).exp().sum(-1), 0, count, False),
        ]
    stage(m, kind[:2], loops, [Expr(Reduce(kind, iters, bodies, n), *p) for n, p in enumerate(parts)])


def contraction(m: Maker) -> None:
    """A sum of products of two or three tensors: a random einsum."""
    dtype = m.random.choice((DType.F32, DType.F32, DType.F64, DType.C64))
    first = m.pick(lambda v: v.dtype is dtype and 0 < len(v.shape) <= 3 and v.bound <= 8)
    first = first or m.floats(m.shape(m.random.choice((1, 2, 3))), dtype)
    letters: list[list[str]] = [list("abc"[: len(first.shape)])]
    extents = dict(zip(letters[0], first.shape, strict=True))
    operands = [first]
    for _ in range(m.random.choice((1, 1, 2))):
        shared = m.random.sample(sorted(extents), m.random.randint(0, min(2, len(extents))))
        fresh = [c for c in "defg"[: m.random.choice((0, 1, 1))] if c not in extents]
        extents.update((c, m.random.choice((1, 2, 3, 4))) for c in fresh)
        mine = m.random.sample(shared + fresh, len(shared + fresh))
        letters.append(mine)
        operands.append(m.floats([extents[c] for c in mine], dtype, weight=m.random.random() < 0.6))
    kept = sorted(m.random.sample(sorted(extents), m.random.randint(0, len(extents))))
    summed = [c for c in sorted(extents) if c not in kept]
    loops = m.loops([extents[c] for c in kept])
    iters = tuple(Iter(c, extents[c]) for c in summed)
    at = {**dict(zip(kept, loops, strict=True)), **dict(zip(summed, iters, strict=True))}
    reads = tuple(o.tensor.at([index(at[c]) for c in cs]) for o, cs in zip(operands, letters, strict=True))
    term = total(iters, Apply("mul", reads))
    equation = f"{','.join(map(''.join, letters))}->{''.join(kept)}"
    names = [o.tensor.name for o in operands]
    bound = math.prod(o.bound for o in operands) * max(m.count([extents[c] for c in summed]), 1)

    def run(env: Env) -> torch.Tensor:
        return torch.einsum(equation, *(env[n] for n in names))

    made = Expr(term, run, -bound, bound, exact=False)
    stage(m, "e", loops, [_scaled(made)])


def _scaled(e: Expr) -> Expr:
    if e.bound <= 50:
        return e
    factor, inner = 0.5 ** math.ceil(math.log2(e.bound / 4)), e.run
    term = Apply("mul", (e.term, const(factor, e.dtype)))
    return Expr(term, lambda env: inner(env) * factor, -4, 4, exact=False)


def window(m: Maker) -> None:
    """A strided, padded, dilated convolution or maximum over windows, or a transposed convolution, in one dimension."""
    x = m.floats(
        (m.random.choice((1, 2)), m.random.choice((1, 2, 3)), m.random.randint(5, 9)), m.random.choice(FLOATS[:4])
    )
    taps, stride, pad, dilation = (
        m.random.choice((1, 2, 3)),
        m.random.choice((1, 2, 3)),
        m.random.choice((0, 1, 2)),
        m.random.choice((1, 2)),
    )
    pad = min(pad, taps // 2)
    batch, channels, length = m.dims(x.shape)
    kind = m.random.choice(("convolution", "convolution", "transposed", "maximum"))
    out = (
        (length - 1) * stride + dilation * (taps - 1) + 1
        if kind == "transposed"
        else (length + 2 * pad - dilation * (taps - 1) - 1) // stride + 1
    )
    if out <= 0:
        return
    r, c, name = Iter("r", taps), Iter("c", channels), x.tensor.name
    if kind == "maximum":
        loops = m.loops((batch, channels, out))
        at = loops[2] * stride + r * dilation - pad
        inside = select(guard((0, at, length)), x.tensor[loops[0], loops[1], at], const(-math.inf, x.dtype))
        term: Scalar = Reduce("max", (r,), (inside,))

        def pooled(env: Env) -> torch.Tensor:
            padded = torch.nn.functional.pad(env[name], (pad, pad), value=-math.inf)
            return torch.nn.functional.max_pool1d(padded, taps, stride, 0, dilation)

        stage(m, "w", loops, [Expr(term, pooled, -x.bound, x.bound, exact=True)])
        return
    w = m.floats((m.random.choice((1, 2)), channels, taps), x.dtype, weight=True)
    loops = m.loops((batch, w.shape[0], out))
    if kind == "transposed":
        offset = loops[2] - r * dilation
        inside = select(
            guard((0, offset % stride, 1), (0, offset // stride, length)),
            x.tensor[loops[0], c, offset // stride],
            const(0.0, x.dtype),
        )
    else:
        at = loops[2] * stride + r * dilation - pad
        inside = select(guard((0, at, length)), x.tensor[loops[0], c, at], const(0.0, x.dtype))
    term = total((c, r), Apply("mul", (inside, w.tensor[loops[1], c, r])))
    weight, bound = w.tensor.name, x.bound * w.bound * channels * taps

    def convolved(env: Env) -> torch.Tensor:
        if kind == "transposed":
            return torch.nn.functional.conv_transpose1d(
                env[name], env[weight].transpose(0, 1), stride=stride, dilation=dilation
            )
        return torch.nn.functional.conv1d(env[name], env[weight], stride=stride, padding=pad, dilation=dilation)

    stage(m, "w", loops, [_scaled(Expr(term, convolved, -bound, bound, exact=False))])


def lookup(m: Maker) -> None:
    """Rows of a tensor at positions read from another, at times by an affine function of them, guarded or not."""
    value = m.pick(lambda v: len(v.shape) > 0 and m.count(v.shape) > 0)
    if value is None:
        return
    axis = m.random.randrange(len(value.shape))
    extent = value.shape[axis]
    where = m.positions(m.shape(m.random.choice((0, 1, 2))), extent)
    kept = [a for a in range(len(value.shape)) if a != axis]
    loops = m.loops((*where.shape, *(value.shape[a] for a in kept)))
    rank = len(where.shape)
    row = Lookup(where.tensor, tuple(map(index, loops[:rank])), index(0), index(extent))
    shift = m.random.choice((0, 0, 1))
    at = dict(zip(kept, map(index, loops[rank:]), strict=True)) | {axis: row + shift}
    body: Scalar = value.tensor.at([at[a] for a in range(len(value.shape))])
    body = select(guard((0, row + shift, extent)), body, _zero(value.dtype)) if shift else body
    name, ids = value.tensor.name, where.tensor.name

    def run(env: Env) -> torch.Tensor:
        moved = env[name].movedim(axis, 0)
        if shift:
            moved = torch.cat([moved[1:], torch.zeros_like(moved[:1])])
        return moved[env[ids]]

    stage(m, "g", loops, [Expr(body, run, min(value.low, 0), max(value.high, 0), value.exact)])


def _zero(dtype: DType) -> Scalar:
    return const(False if dtype is DType.BOOL else 0, dtype)
