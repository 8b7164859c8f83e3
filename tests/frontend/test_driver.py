from __future__ import annotations

import pytest
import torch
from frontend.checking import check_lowering, check_table

from tpopt.errors import UnsupportedModel
from tpopt.frontend.context import axes
from tpopt.frontend.promotion import Kind, computation_dtype
from tpopt.frontend.shapes import reshaped, slice_start, wrapped
from tpopt.frontend.trace import trace
from tpopt.ir import DType, Iter, Opaque, Symbol, Tensor, index


def module(function):
    class Wrapped(torch.nn.Module):
        def forward(self, *args):
            return function(*args)

    return Wrapped()


def test_operators_that_overwrite_inside_a_decomposition_are_made_functional():
    table = {
        "nanmean": lambda x: x.nanmean(0),
        "quantile": lambda x: x.quantile(0.3, dim=1),
        "isclose": lambda x: torch.isclose(x, x + 1e-9),
        "cosine": lambda x: torch.nn.functional.cosine_similarity(x, x * 2 + 1),
    }
    check_table(table, torch.randn(3, 4))


def test_an_integer_read_out_of_a_tensor_is_a_lookup():
    table = {
        "select": lambda x, i: x[:, i[0]],
        "item": lambda x, i: x[i[1].item()],
        "arithmetic": lambda x, i: x.select(0, i[1].item() + 1),
        "negative": lambda x, i: x[i[2].item()],
        "row of a cache": lambda x, i: torch.cat([x, x])[i[0]],
    }
    check_table(table, torch.randn(4, 5), torch.tensor([3, 1, -1]), also=[(torch.randn(4, 5), torch.tensor([0, 2, 3]))])


def test_what_is_read_out_of_a_tensor_by_a_lowered_operator_is_computed_alike_in_the_original():
    traced = trace(module(lambda x, i: x[i[0]]), (torch.randn(4, 5), torch.tensor([3, 1])))
    assert traced.original.stages[-1] is traced.algebra.stages[-1]
    assert not traced.reasons


def test_a_float_read_out_of_a_tensor_is_that_element():
    check_lowering(lambda x: x * x.sum().item() + x.amax().item() ** 2, torch.randn(3))


def test_a_shape_read_out_of_a_tensor_is_refused_with_the_line():
    with pytest.raises(UnsupportedModel, match=r"depends on an integer read out of a tensor"):
        trace(module(lambda x, n: x.new_zeros(n.item())), (torch.randn(4), torch.tensor(3)))
    with pytest.raises(
        UnsupportedModel, match=r"aten\.slice\.Tensor takes an integer read out of a tensor \(test_driver"
    ):
        trace(module(torch.tensor_split), (torch.randn(5, 5), torch.tensor([1, 3])))


def test_results_may_be_nested():
    x = torch.rand(20, 2)
    check_lowering(lambda v: torch.histogramdd(v, [3, 4])[1], x, opaque=["aten.histogramdd.default"])


def test_a_sparse_tensor_is_refused():
    with pytest.raises(UnsupportedModel, match=r"is a torch\.sparse_coo tensor; convert it with to_dense"):
        trace(module(lambda x: x.to_sparse()), (torch.eye(3),))


def test_symbols_of_a_shape_that_depends_on_data_come_from_the_operator():
    traced = check_lowering(
        lambda x: x[x > 0] * 2, torch.tensor([1.0, -1.0, 3.0]), opaque=["aten.index.Tensor"],
        also=[(torch.tensor([1.0, 2.0, 3.0]),), (torch.tensor([-1.0, -2.0, 3.0]),)],
    )  # fmt: skip
    (opaque,) = [s for s in traced.algebra.stages if isinstance(s, Opaque)]
    assert str(opaque.outs[0].shape[0]) == "u0"


I, J = Iter("i", 12), Iter("j", 5)
S = Symbol("s", 2, 64)


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        ((12, 5), (12, 5), "[i, j]"),
        ((12, 5), (60,), "[5*i+j]"),
        ((12, 5), (3, 4, 5), "[i//4, i%4, j]"),
        ((12, 5), (1, 12, 1, 5), "[0, i, 0, j]"),
        ((12, 5), (4, 15), "[i//3, j+5*(i%3)]"),
        ((12, 5), (15, 4), "[(5*i+j)//4, (5*i+j)%4]"),
        ((12, 0), (0, 3), "[0, 0]"),
    ],
)
def test_a_reshape_matches_the_smallest_groups_of_axes(target, source, expected):
    assert str(reshaped((I, J), target, source)) == expected


def test_a_reshape_of_symbolic_extents_keeps_the_axes_both_shapes_have():
    rows = Iter("r", index(S))
    assert str(reshaped((rows, I, J), (index(S), 12, 5), (index(S), 60))) == "[r, 5*i+j]"
    assert str(reshaped((rows, I, J), (index(S), 12, 5), (index(S) * 12, 5))) == "[i+12*r, j]"


@pytest.mark.parametrize(
    ("start", "extent", "out", "expected"),
    [(None, 7, 7, "0"), (2, 7, 5, "2"), (-3, 7, 3, "4"), (-9, 7, 7, "0"), (9, 7, 0, "7"), (-2, S, 2, "s-2")],
)
def test_a_slice_begins_where_torch_clamps_it(start, extent, out, expected):
    assert str(slice_start(start, index(extent), out, 1)) == expected


def test_a_position_wraps_around():
    assert [str(wrapped(p, index(S))) for p in (1, -1, index(S) - 1)] == ["1", "s-1", "s-1"]


@pytest.mark.parametrize(
    ("dims", "rank", "expected"),
    [(None, 3, (0, 1, 2)), ([], 2, (0, 1)), (-1, 3, (2,)), ([1, -3], 3, (0, 1)), (0, 0, (0,))],
)
def test_dimensions_are_normalised(dims, rank, expected):
    assert axes(dims, rank) == expected


@pytest.mark.parametrize(
    ("kind", "dtypes", "expected"),
    [
        (Kind.WIDE, (DType.F16, DType.F16), DType.F32),
        (Kind.EXACT, (DType.F16, DType.F16), DType.F16),
        (Kind.EXACT, (DType.I64, DType.U8), DType.I64),
        (Kind.EXACT, (DType.U8, DType.I8), DType.I16),
        (Kind.FLOAT, (DType.I64, DType.BOOL), DType.F32),
        (Kind.WIDE, (DType.BF16, DType.F16), DType.F32),
        (Kind.WIDE, (DType.C64, DType.F64), DType.C128),
    ],
)
def test_types_promote_as_in_torch(kind, dtypes, expected):
    assert computation_dtype(kind, [Tensor(f"t{n}", (2,), d) for n, d in enumerate(dtypes)]) is expected


def test_numbers_and_scalar_tensors_raise_the_category_alone():
    half, scalar = Tensor("x", (2,), DType.F16), Tensor("y", (), DType.F64)
    assert computation_dtype(Kind.EXACT, [half, scalar]) is DType.F16
    assert computation_dtype(Kind.EXACT, [Tensor("i", (2,), DType.I32), 0.5]) is DType.F32
    assert computation_dtype(Kind.EXACT, [Tensor("i", (2,), DType.I32), index(S)]) is DType.I32
