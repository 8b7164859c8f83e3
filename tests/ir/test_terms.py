from __future__ import annotations

import pytest

from tpopt.errors import InvalidProgram, UnknownName
from tpopt.ir import (
    Apply,
    Cast,
    Compute,
    Const,
    DType,
    Guard,
    Iter,
    Position,
    Read,
    Reduce,
    Scatter,
    Select,
    Structure,
    apply,
    cast,
    const,
    index,
    iters,
    position,
    reduce,
    select,
    tensor,
    total,
    where,
)
from tpopt.ir.build import FALSE, guard

I, K = Iter("i", 7), Iter("k", 5)
X = tensor("x", (7, 5), DType.F32)
N = tensor("n", (7,), DType.I64)
B = tensor("b", (7,), DType.BOOL)
Z = tensor("z", (7,), DType.C64)
x, n, b, z = X[I, K], N[I], B[I], Z[I]
ONE = Const(1, DType.I64)

REFUSED = [
    (lambda: Const(1, DType.F32), "constant 1: a f32 literal must be a Python float; use const()"),
    (lambda: Const(True, DType.I64), "constant True: a i64 literal must be a Python int; use const()"),
    (lambda: const(1j, DType.F32), "constant 1j is complex; f32 is not"),
    (lambda: Read(X, (index(I),)), "read of x: f32[7,5] with 1 indices: expected 2"),
    (lambda: Apply("add", (x,)), "add takes two or more arguments, got 1"),
    (lambda: Apply("exp", (x, x)), "exp takes 1 arguments, got 2"),
    (lambda: Apply("add", (x, n)), "add: argument types differ: f32, i64; insert a Cast"),
    (lambda: Apply("exp", (n,)), "exp: i64 arguments are outside its domain (float)"),
    (lambda: Apply("erf", (z,)), "erf: c64 arguments are outside its domain (real)"),
    (lambda: Apply("max", (z, z)), "max: c64 arguments are outside its domain (ordered)"),
    (lambda: Apply("and", (x, x)), "and: f32 arguments are outside its domain (integral)"),
    (lambda: Apply("neg", (b,)), "neg: bool arguments are outside its domain (number)"),
    (lambda: Apply("real", (x,)), "real: f32 arguments are outside its domain (complex)"),
    (lambda: Apply("where", (x, x, x)), "where: the condition is f32, expected bool; cast it"),
    (lambda: Apply("where", (b, x, n)), "where: argument types differ: f32, i64; insert a Cast"),
    (lambda: Reduce("argmax", (K,), (x,)), "argmax carries 2 values; got 1, picking number 0"),
    (lambda: Reduce("sum", (K,), (x,), 1), "sum carries 1 values; got 1, picking number 1"),
    (lambda: Reduce("max", (K,), (z,)), "max over c64: outside its domain (ordered)"),
    (lambda: Reduce("any", (K,), (x,)), "any over f32: outside its domain (bool)"),
    (lambda: Select(Guard(()), x, n), "select: branches are f32 and i64; insert a Cast"),
    (lambda: Compute((), (I,), ()), "compute has 0 outputs and 0 bodies"),
    (lambda: Compute((X,), (I, K), (n,)), "x: declared f32, its body is i64; insert a Cast"),
    (lambda: Compute((X,), (K, I), (x,)), "x: f32[7,5]: shape differs from its loops ['k:5', 'i:7']"),
    (lambda: Scatter(X, N, "add", (), (index(0),) * 2, x), "scatter into x: f32[7,5]: base is i64, value is f32"),
    (lambda: Scatter(X, X, "add", (), (index(0),), x), "scatter into x: f32[7,5]: base is x: f32[7,5], 1 indices"),
    (lambda: DType.F16.complex, "no complex type over f16; cast to f32 or f64 first"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[m[:40] for _, m in REFUSED])
def test_ill_typed_terms_are_refused(make, message: str):
    with pytest.raises(InvalidProgram) as caught:
        make()
    assert str(caught.value) == message


UNKNOWN = [
    (lambda: Apply("sine", (x,)), "function 'sine'; did you mean 'sin"),
    (lambda: Reduce("summ", (K,), (x,)), "monoid 'summ'; did you mean 'sum'?"),
    (lambda: Scatter(X, X, "sub", (), (index(0),) * 2, x), "scatter operator 'sub'"),
    (lambda: Structure("kronecker"), "structure 'kronecker'; did you mean 'kron'?"),
]


@pytest.mark.parametrize(("make", "message"), UNKNOWN, ids=[m for _, m in UNKNOWN])
def test_unknown_names_list_the_valid_ones(make, message: str):
    with pytest.raises(UnknownName) as caught:
        make()
    assert f"unknown {message}" in str(caught.value)
    assert "Valid names: " in str(caught.value)


TYPES = [
    (Apply("lt", (x, x)), DType.BOOL),
    (Apply("abs", (z,)), DType.F32),
    (Apply("abs", (n,)), DType.I64),
    (Apply("complex", (x, x)), DType.C64),
    (Apply("real", (z,)), DType.F32),
    (Apply("where", (b, z, z)), DType.C64),
    (Position(index(I)), DType.I64),
    (Cast(DType.F16, x), DType.F16),
    (Reduce("argmax", (K,), (x, Position(index(K))), 0), DType.F32),
    (Reduce("argmax", (K,), (x, Position(index(K))), 1), DType.I64),
]


@pytest.mark.parametrize(("made", "dtype"), TYPES, ids=str)
def test_terms_know_their_types(made, dtype: DType):
    assert made.dtype is dtype


def test_operators_take_the_type_of_the_term_beside_them():
    assert x + 1 is Apply("add", (x, Const(1.0, DType.F32)))
    assert 1 - n is Apply("sub", (ONE, n))
    assert 2 * z is Apply("mul", (Const(2 + 0j, DType.C64), z))
    assert x / 2 is Apply("div", (x, Const(2.0, DType.F32)))
    assert -x is Apply("neg", (x,))
    assert apply("max", x, 0) is Apply("max", (x, Const(0.0, DType.F32)))
    assert where(b, 1, x) is Apply("where", (b, Const(1.0, DType.F32), x))


def test_constructors_leave_out_what_does_nothing():
    assert cast(x, DType.F32) is x
    assert total((), x) is x
    assert reduce("argmax", (), x, ONE, pick=1) is Reduce("argmax", (), (x, ONE), 1)
    assert select(guard((0, I, 7)), x, -x) is x
    assert select(guard((7, I, 9)), x, -x) is (-x)
    assert select(guard((1, I, 9)), x, x) is x
    assert guard((7, I, 9), (1, I, 9)).bounds == (FALSE,)
    assert position(3) is Const(3, DType.I64)
    assert position(3, DType.F32) is Const(3.0, DType.F32)
    assert position(3, DType.I8) is Const(3, DType.I8)
    assert iters("k", (3, index(4))) == (Iter("k0", 3), Iter("k1", 4))


def test_a_tensor_of_rank_0_is_read_with_at():
    assert tensor("s", (), DType.F32).at(()) is Read(tensor("s", (), DType.F32), ())
    assert repr(tensor("s", (Iter("i", 3).extent, 2), DType.BF16)) == "s: bf16[3,2]"


def test_element_types_know_their_sizes_and_kinds():
    assert [d.itemsize for d in (DType.F64, DType.BF16, DType.C128, DType.I16, DType.BOOL)] == [8, 2, 16, 2, 1]
    assert [d for d in DType if d.is_float] == [DType.F64, DType.F32, DType.F16, DType.BF16]
    assert [d for d in DType if d.is_integer] == [DType.I64, DType.I32, DType.I16, DType.I8, DType.U8]
    assert (DType.C64.real, DType.C128.real, DType.F16.real) == (DType.F32, DType.F64, DType.F16)
    assert (DType.F32.complex, DType.F64.complex, DType.C64.complex) == (DType.C64, DType.C128, DType.C64)
