from __future__ import annotations

import pytest
import torch
from frontend.checking import check_lowering, check_table

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(deprecated|beta):UserWarning"
)  # what torch says of its own operators
aten = torch.ops.aten
I = torch.tensor([[0, 2], [-1, 1]])
J = torch.tensor([1, -3])
MASK = torch.tensor([[True, False, True, True], [False, False, True, False], [True, True, False, False]])


def numbered(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)


READS = {
    "one": lambda x, i, j: x[i],
    "second": lambda x, i, j: x[:, j],
    "last": lambda x, i, j: x[..., j],
    "neighbours": lambda x, i, j: x[i, j],
    "neighbours behind": lambda x, i, j: x[:, i, j],
    "apart": lambda x, i, j: x[i, :, j],
    "apart with none": lambda x, i, j: x[i, None, 1:, j],
    "with a number": lambda x, i, j: x[0, i],
    "three": lambda x, i, j: x[i, j, j],
    "narrow types": lambda x, i, j: x[i.int(), j],
    "scalar": lambda x, i, j: x[j[0]],
    "unsafe": lambda x, i, j: aten._unsafe_index.Tensor(x, [None, i.abs()]),
    "index_select": lambda x, i, j: x.index_select(1, j.abs()),
    "index_select scalar": lambda x, i, j: x.index_select(0, j[0]),
    "take": lambda x, i, j: x.take(i * 7),
    "embedding": lambda x, i, j: torch.nn.functional.embedding(i.abs(), x[0]),
    "embedding padded": lambda x, i, j: torch.nn.functional.embedding(i.abs(), x[0], padding_idx=1),
    "take_along_dim": lambda x, i, j: torch.take_along_dim(x, x.long() % 3, 0),
    "gather": lambda x, i, j: x.gather(1, x.long() % 4),
    "gather part": lambda x, i, j: x.gather(-1, x[:2, :3, :2].long() % 5),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.complex64], ids=str)
def test_reads(dtype):
    table = {k: f for k, f in READS.items() if not dtype.is_complex or "long" not in f.__code__.co_names}
    check_table(table, numbered(3, 4, 5, dtype=dtype), I, J)


def test_reads_at_run_time_extents():
    axes = ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}, None, {0: torch.export.Dim.AUTO})
    table = {k: f for k, f in READS.items() if k != "take_along_dim"}  # torch fixes the extents of its index
    check_table(table, numbered(3, 4, 5), I, J, dynamic=axes, also=[(numbered(6, 7, 5), I, torch.tensor([2, -1]))])
    tokens = torch.tensor([[1, 2, 3], [0, 0, 4]])
    sizes = ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}, None)
    check_lowering(
        lambda t, w: torch.nn.functional.embedding(t, w), tokens, torch.randn(5, 4), dynamic=sizes,
        also=[(torch.tensor([[4, 1], [2, 2], [0, 3]]), torch.randn(5, 4))],
    )  # fmt: skip


def test_no_axes_and_no_elements():
    none = torch.empty(0, dtype=torch.int64)
    check_lowering(lambda x, i: (x[i], x.index_select(0, i), x.take(i)), numbered(3, 4), none)
    check_lowering(lambda x, i: x.gather(0, i), torch.tensor(2.0), torch.tensor(0))
    check_lowering(lambda x, i: (x.take(i), x.index_select(0, i)), torch.tensor(2.0), torch.tensor([0]))
    check_lowering(lambda x, i: x[i], torch.empty(0, 3), none)
    check_lowering(lambda x, i: (x.gather(0, i), x.scatter(0, i, 1.0), x.scatter_add(0, i, x[:0])), numbered(5), none)
    check_lowering(lambda x, i: x.gather(0, i), numbered(5), torch.empty(0, 5, dtype=torch.int64))


def test_a_mask_selects_how_many_depends_on_data():
    traced = check_lowering(lambda x, m: x[m], numbered(3, 4), MASK, opaque=["aten.index.Tensor"])
    assert list(traced.reasons.values()) == ["indexing with a mask: the shape of the result depends on data"]


def put(x: torch.Tensor, where: object, value: object, accumulate: bool = False) -> torch.Tensor:
    indices = where if isinstance(where, tuple) else (where,)
    return torch.index_put(x, indices, value, accumulate)


P = torch.tensor([2, 0])  # distinct positions, so that no write hides another
WRITES = {
    "index_put": lambda x, v: put(x, P, v[:2]),
    "index_put negative": lambda x, v: put(x, torch.tensor([-1, 1]), v[:2]),
    "index_put broadcast": lambda x, v: put(x, P, v[0]),
    "index_put two": lambda x, v: put(x, (P, P), v[0, 0]),
    "index_put added": lambda x, v: put(x, torch.tensor([1, 1, -2]), v, True),
    "unsafe": lambda x, v: aten._unsafe_index_put.default(x, [None, P], v[:, :2]),
    "assigned": lambda x, v: assigned(x, v),
    "masked": lambda x, v: put(x, x[..., 0] > 20, v[0, 0]),
    "masked number": lambda x, v: put(x, x > 20, torch.tensor(-1).to(x.dtype)),
    "masked added": lambda x, v: put(x, x > 20, v[0, 0, 0], True),
    "index_add": lambda x, v: x.index_add(1, torch.tensor([3, 0, 3, 3]), v),
    "index_add alpha": lambda x, v: x.index_add(0, P, v[:2], alpha=2),
    "index_copy": lambda x, v: x.index_copy(0, P, v[:2]),
    "index_fill": lambda x, v: x.index_fill(1, torch.tensor([-1, 0]), 7),
    "index_fill tensor": lambda x, v: x.index_fill(2, P, v[0, 0, 0]),
    "scatter": lambda x, v: x.scatter(1, v.abs().long().argsort(1)[:, :3], v),
    "scatter value": lambda x, v: x.scatter(0, v[:1].abs().long() % 3, 5),
    "scatter add": lambda x, v: x.scatter(2, v.abs().long() % 5, v, reduce="add"),
    "scatter multiply": lambda x, v: x.scatter(2, v.abs().long() % 5, 2, reduce="multiply"),
    "scatter_add": lambda x, v: x.scatter_add(0, v.abs().long() % 3, v),
    "put": lambda x, v: x.put(torch.tensor([3, -1]), v[0, 0, :2]),
    "put added": lambda x, v: x.put(torch.tensor([3, 3]), v[0, 0, :2], accumulate=True),
    "masked_scatter": lambda x, v: x.masked_scatter(x > 45, v),
    "masked_scatter rows": lambda x, v: x.masked_scatter(MASK[..., None], torch.cat([v, v])),
}
REDUCED = {
    f"{name} {how} {own}": f
    for how in ("sum", "prod", "mean", "amax", "amin")
    for own in (True, False)
    for name, f in (
        ("scatter", lambda x, v, how=how, own=own: x.scatter_reduce(0, v.abs().long() % 2, v, how, include_self=own)),
        (
            "index",
            lambda x, v, how=how, own=own: x.index_reduce(1, torch.tensor([2, 0, 2, 2]), v, how, include_self=own),
        ),
    )
    if not (name == "index" and how == "sum")
}


def assigned(x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, P] = v[:, :2]
    y[P, :, 1] += 3
    return y


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.int32], ids=str)
def test_writes(dtype):
    check_table({**WRITES, **REDUCED}, numbered(3, 4, 5, dtype=dtype), (numbered(3, 4, 5) % 7 - 3).to(dtype))


def test_writes_of_half_types():
    x, v = numbered(3, 4, 5, dtype=torch.bfloat16), (numbered(3, 4, 5) % 7 - 3).to(torch.bfloat16)
    check_table({**WRITES, **REDUCED}, x, v, rtol=4e-2)


def test_writes_at_run_time_extents():
    table = {
        "index_put": lambda x, i, v: put(x, i, v),
        "index_add": lambda x, i, v: x.index_add(0, i, v),
        "index_copy": lambda x, i, v: x.index_copy(0, i, v),
        "scatter": lambda x, i, v: x.scatter(0, i[:, None].expand(-1, 3), v),
        "mean": lambda x, i, v: x.scatter_reduce(0, i[:, None].expand(-1, 3), v, "mean", include_self=False),
        "masked_scatter": lambda x, i, v: x.masked_scatter(x > 4, torch.cat([x, x])),
        "masked_fill": lambda x, i, v: x.masked_fill(x > 4, 0),
    }
    rows, taken = torch.export.Dim("rows", min=3, max=64), torch.export.Dim("taken", min=2, max=64)
    sizes = [(numbered(n, 3), torch.randperm(n)[:k], torch.randn(k, 3)) for n, k in ((5, 3), (9, 9), (3, 2))]
    check_table(table, *sizes[0], dynamic=({0: rows}, {0: taken}, {0: taken}), also=sizes[1:])


def test_writes_of_nothing_and_to_no_axes():
    none = torch.empty(0, dtype=torch.int64)
    check_lowering(lambda x, i: x.index_add(0, i, x[:0]), numbered(3, 4), none)
    check_lowering(lambda x, i: x.scatter(0, i, 3.0), torch.tensor(2.0), torch.tensor(0))
    check_lowering(lambda x: x.masked_scatter(x > 5, x), torch.empty(0, 3))
    check_lowering(lambda x, i: x.index_fill(0, i, 3.0), torch.tensor(2.0), torch.tensor([0]))


def test_the_gradient_of_an_embedding():
    grad, tokens = torch.randn(2, 3, 4), torch.tensor([[1, 2, 1], [0, 2, 2]])
    table = {
        "all": lambda g, t: aten.embedding_dense_backward.default(g, t, 5, -1, False),
        "padded": lambda g, t: aten.embedding_dense_backward.default(g, t, 5, 2, False),
    }
    check_table(table, grad, tokens)
    check_lowering(
        lambda g, t: aten.embedding_dense_backward.default(g, t, 5, -1, True), grad, tokens,
        opaque=["aten.embedding_dense_backward.default"],
    )  # fmt: skip


def test_writing_values_through_a_mask_stays_whole():
    x = numbered(3, 4)
    check_lowering(lambda x, m, v: put(x, m, v), x, MASK, torch.arange(6.0), opaque=["aten.index_put.default"])
