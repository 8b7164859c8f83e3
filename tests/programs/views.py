"""Stages that only move values: every kind of view as an index map."""

from __future__ import annotations

from collections.abc import Callable

import torch

from programs.maker import Env, Maker, Value
from tpopt.ir import Compute, DType, Index, Scalar, Size, Tensor, const, guard, index, select, size
from tpopt.ir.build import linear, unravel
from tpopt.ir.index import IndexLike, product

Torch = Callable[[torch.Tensor], torch.Tensor]


def moved(
    m: Maker, value: Value, shape: list[Size], at: Callable[..., list[IndexLike]], run: Torch, *, distinct: bool
) -> None:
    """Adds ``out[loops] = value[at(loops)]``."""
    loops = m.loops(shape, m.random.choice(("i", "v")))
    body = value.tensor.at([index(a) for a in at(*loops)])
    out, name = Tensor(m.name("v"), tuple(shape), value.dtype), value.tensor.name
    known = (value.low, value.high, value.exact, value.distinct and distinct)
    m.add(Compute((out,), loops, (body,)), lambda e: [run(e[name])], [known])


def view(m: Maker) -> None:
    """One random view of an existing tensor."""
    value = m.pick(lambda v: len(v.shape) > 0)
    if value is not None:
        m.random.choice((permuted, flipped, sliced, rolled, reshaped, repeated, unfolded, diagonal))(m, value)


def permuted(m: Maker, value: Value) -> None:
    """Axes in another order."""
    order = m.random.sample(range(len(value.shape)), len(value.shape))
    back = [order.index(a) for a in range(len(order))]
    moved(
        m,
        value,
        [value.shape[a] for a in order],
        lambda *i: [i[b] for b in back],
        lambda x: x.permute(order),
        distinct=True,
    )


def flipped(m: Maker, value: Value) -> None:
    """One axis backwards."""
    axis = m.random.randrange(len(value.shape))
    extent = value.shape[axis]
    moved(
        m, value, list(value.shape), lambda *i: [extent - 1 - j if a == axis else j for a, j in enumerate(i)],
        lambda x: x.flip(axis), distinct=True,
    )  # fmt: skip


def sliced(m: Maker, value: Value) -> None:
    """Every ``step``-th position of an axis from ``start`` on."""
    axis, start, step = m.random.randrange(len(value.shape)), m.random.choice((0, 1)), m.random.choice((1, 2))
    extent = value.shape[axis]
    start, step = (min(start, extent), step) if isinstance(extent, int) else (0, 1)
    length = size(-((start - index(extent)) // step))
    shape = [length if a == axis else e for a, e in enumerate(value.shape)]
    cut = tuple(slice(start, None, step) if a == axis else slice(None) for a in range(len(shape)))
    moved(
        m, value, shape, lambda *i: [start + j * step if a == axis else j for a, j in enumerate(i)],
        lambda x: x[cut], distinct=True,
    )  # fmt: skip


def rolled(m: Maker, value: Value) -> None:
    """One axis turned round."""
    axis, by = m.random.randrange(len(value.shape)), m.random.choice((-1, 1, 2))
    extent = value.shape[axis]
    if m.dim(extent) == 0 or extent == 0:
        return
    moved(
        m, value, list(value.shape), lambda *i: [(j - by) % extent if a == axis else j for a, j in enumerate(i)],
        lambda x: x.roll(by, axis), distinct=True,
    )  # fmt: skip


def reshaped(m: Maker, value: Value) -> None:
    """Two neighbouring axes merged, or one split in two."""
    axis = m.random.randrange(len(value.shape))
    extent = value.shape[axis]
    before, after = list(value.shape[:axis]), list(value.shape[axis + 1 :])
    if isinstance(extent, int) and extent % 2 == 0 and m.random.random() < 0.6:
        shape = [*before, extent // 2, 2, *after]
    elif after:
        shape = [*before, product((extent, after[0])), *after[1:]]
    else:
        shape = [product(value.shape)]
    dims = m.dims(shape)
    at = lambda *i: list(unravel(linear(i, shape), value.shape))  # noqa: E731
    if all(m.dim(e) for e in value.shape):
        moved(m, value, shape, at, lambda x: x.reshape(dims), distinct=True)


def repeated(m: Maker, value: Value) -> None:
    """The tensor twice along an axis, or each position twice, or along a new axis."""
    axis, kind = m.random.randrange(len(value.shape)), m.random.choice(("tile", "each", "expand"))
    extent = value.shape[axis]
    if kind == "expand":
        shape = [*value.shape[:axis], 3, *value.shape[axis:]]
        run: Torch = lambda x: x.unsqueeze(axis).expand(m.dims(shape))  # noqa: E731
        moved(m, value, shape, lambda *i: [*i[:axis], *i[axis + 1 :]], run, distinct=False)
        return
    if m.dim(extent) == 0:
        return
    shape = [size(index(extent) * 2) if a == axis else e for a, e in enumerate(value.shape)]
    twice = (lambda x: torch.cat([x, x], axis)) if kind == "tile" else (lambda x: x.repeat_interleave(2, axis))
    moved(
        m, value, shape,
        lambda *i: [(j % extent if kind == "tile" else j // 2) if a == axis else j for a, j in enumerate(i)],
        twice, distinct=False,
    )  # fmt: skip


def unfolded(m: Maker, value: Value) -> None:
    """Overlapping windows as a new last axis."""
    axis = m.random.randrange(len(value.shape))
    extent = value.shape[axis]
    if not isinstance(extent, int) or extent < 2:
        return
    step = m.random.choice((1, 2))
    shape = [*((extent - 2) // step + 1 if a == axis else e for a, e in enumerate(value.shape)), 2]
    moved(
        m, value, shape, lambda *i: [j * step + i[-1] if a == axis else j for a, j in enumerate(i[:-1])],
        lambda x: x.unfold(axis, 2, step), distinct=False,
    )  # fmt: skip


def diagonal(m: Maker, value: Value) -> None:
    """Two equal axes read along their diagonal."""
    shape = value.shape
    pairs = [(a, b) for a in range(len(shape)) for b in range(a) if shape[a] == shape[b]]
    if not pairs:
        return
    high, low = m.random.choice(pairs)
    rest = [e for a, e in enumerate(shape) if a not in (high, low)]

    def at(*i: Index) -> list[IndexLike]:
        others = iter(i[:-1])
        return [i[-1] if a in (high, low) else next(others) for a in range(len(shape))]

    moved(m, value, [*rest, shape[high]], at, lambda x: x.diagonal(dim1=low, dim2=high), distinct=True)


def padded(m: Maker) -> None:
    """Zeros, or another constant, around a tensor."""
    value = m.pick(lambda v: len(v.shape) > 0)
    if value is None:
        return
    axis, before, after = m.random.randrange(len(value.shape)), m.random.choice((0, 1, 2)), m.random.choice((0, 1))
    extent = value.shape[axis]
    shape = [size(index(extent) + before + after) if a == axis else e for a, e in enumerate(value.shape)]
    loops = m.loops(shape)
    fill = _fill(m, value.dtype)
    at = [j - before if a == axis else index(j) for a, j in enumerate(loops)]
    body = select(guard((0, at[axis], extent)), value.tensor.at(at), const(fill, value.dtype))
    name, around = value.tensor.name, [0, 0] * (len(shape) - 1 - axis) + [before, after]

    def run(env: Env) -> list[torch.Tensor]:
        return [torch.nn.functional.pad(env[name], around, value=fill)]

    out = Tensor(m.name("v"), tuple(shape), value.dtype)
    known = (min(value.low, fill), max(value.high, fill), value.exact, False)
    m.add(Compute((out,), loops, (body,)), run, [known])


def _fill(m: Maker, dtype: DType) -> float | int | bool:
    if dtype is DType.BOOL:
        return True
    return 3 if dtype.is_integer else m.random.choice((0.0, -1.5))


def concatenated(m: Maker) -> None:
    """Two tensors of one type one after the other."""
    a = m.pick(lambda v: len(v.shape) > 0)
    b = a and m.pick(lambda v: v.dtype is a.dtype and len(v.shape) == len(a.shape) and _differ(v, a) is not None)
    if a is None or b is None:
        return
    axis = _differ(b, a)
    assert axis is not None
    first, second = a.shape[axis], b.shape[axis]
    shape = [size(index(first) + second) if n == axis else e for n, e in enumerate(a.shape)]
    loops = m.loops(shape)
    later = b.tensor.at([j - first if n == axis else index(j) for n, j in enumerate(loops)])
    body: Scalar = select(guard((0, loops[axis], first)), a.tensor.at(list(loops)), later)
    names = a.tensor.name, b.tensor.name

    def run(env: Env) -> list[torch.Tensor]:
        return [torch.cat([env[n] for n in names], axis)]

    out = Tensor(m.name("v"), tuple(shape), a.dtype)
    known = (min(a.low, b.low), max(a.high, b.high), a.exact and b.exact, False)
    m.add(Compute((out,), loops, (body,)), run, [known])


def _differ(a: Value, b: Value) -> int | None:
    """The axis along which two tensors fit together."""
    different = [n for n, (x, y) in enumerate(zip(a.shape, b.shape, strict=True)) if x != y]
    return 0 if not different else different[0] if len(different) == 1 else None
