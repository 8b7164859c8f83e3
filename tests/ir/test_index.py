from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from strategies import ITERATORS, SYMBOLS, Expression, expressions, points

from tpopt.errors import InvalidProgram
from tpopt.ir import DType, FloorDiv, Index, Iter, Lookup, Mod, Symbol, floordiv, index, mod, substitute, tensor
from tpopt.ir.build import linear, unravel
from tpopt.ir.division import ceildiv
from tpopt.ir.index import evaluate, product, size, walk_atoms
from tpopt.ir.parse import parse_term

I, J, K, P, Q = ITERATORS
S0, S1, S2 = SYMBOLS


@given(expressions)
def test_an_index_has_the_value_of_its_expression(expression: Expression):
    built = expression.build()
    for values in points(expression.variables()):
        assert evaluate(built, values) == expression.value(values)


@given(expressions)
def test_the_text_of_an_index_reads_back_to_it(expression: Expression):
    built = expression.build()
    assert parse_term(f"@({built})", (), ITERATORS, symbols=SYMBOLS).value is built


@given(expressions, expressions)
def test_sums_and_products_do_not_depend_on_order(a: Expression, b: Expression):
    x, y = a.build(), b.build()
    assert x + y is y + x
    assert x * y is y * x
    assert (x + y) - y is x
    assert (x + y) * I is x * I + y * I


@pytest.mark.parametrize("denominator", range(1, 7))
def test_division_by_every_small_number(denominator: int):
    for a, b, c in itertools.product(range(-3, 4), range(-3, 4), range(-4, 5)):
        n = a * Iter("i", 3) + b * Iter("j", 4) + c
        quotient, rest, above = floordiv(n, denominator), mod(n, denominator), ceildiv(n, denominator)
        for i, j in itertools.product(range(3), range(4)):
            values, number = {"i": i, "j": j}, a * i + b * j + c
            assert evaluate(quotient, values) == number // denominator
            assert evaluate(rest, values) == number % denominator
            assert evaluate(above, values) == -(-number // denominator)


def test_nested_divisions_on_small_ranges():
    for a, b, c, d in itertools.product(range(1, 5), range(5), range(1, 5), range(1, 5)):
        n = Iter("q", 12) * a + b
        for inner in (floordiv, mod):
            both = floordiv(inner(n, c), d), mod(inner(n, c), d), mod(inner(n, c) + Iter("i", 3), d)
            for q, i in itertools.product(range(12), range(3)):
                first = (a * q + b) // c if inner is floordiv else (a * q + b) % c
                found = [evaluate(x, {"q": q, "i": i}) for x in both]
                assert found == [first // d, first % d, (first + i) % d]


SHAPES = [(), (5,), (2, 3), (3, 1, 4), (2, 3, 4, 5), (S0, 3), (3, S0), (S0, S1, 7), (S1, 1, S0)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_unravelling_a_linear_position_gives_the_indices(shape: tuple[int | Symbol, ...]):
    where = tuple(Iter(f"i{n}", size(e)) for n, e in enumerate(shape))
    expected = tuple(index(0 if i.extent == 1 else i) for i in where)
    assert (
        tuple(substitute(u, {i: 0 for i in where if i.extent == 1}) for u in unravel(linear(where, shape), shape))
        == expected
    )


def test_linear_position_of_unravelled_indices_has_the_value_of_the_position():
    flat = Iter("n", 24)
    again = linear(unravel(flat, (2, 3, 4)), (2, 3, 4))
    assert [evaluate(again, {"n": n}) for n in range(24)] == list(range(24))


SIMPLIFIED = [
    (floordiv(4 * I + J, 4), "i"),
    (mod(4 * I + J, 4), "j"),
    (floordiv(S0 * I + P, S0), "i"),
    (mod(S0 * I + P, S0), "p"),
    (floordiv(floordiv(Q + 1, 2), 3), "(q+1)//6"),
    (floordiv(mod(Q, 6), 2), "q//2"),
    (mod(mod(Q + J, 6), 3), "(j+q)%3"),
    (floordiv(6 * I + 4 * J + 1, 4), "j+(3*i)//2"),
    (mod(2 * Q, 4), "2*(q%2)"),
    (floordiv(Q, 1), "q"),
    (mod(Q, 1), "0"),
    (floordiv(-7, 2), "-4"),
    (mod(-7, 2), "1"),
    (floordiv(S0 * S1, S0), "s1"),
]


@pytest.mark.parametrize(("built", "text"), SIMPLIFIED, ids=[t for _, t in SIMPLIFIED])
def test_divisions_simplify(built: Index, text: str):
    assert str(built) == text


TEXTS = [
    (2 * I - 3, "2*i-3"),
    (-I + 1, "-i+1"),
    (index(0), "0"),
    (index(-3), "-3"),
    (I - I, "0"),
    (2 * floordiv(I + Q, 5) + mod(Q, 4) * J, "j*(q%4)+2*((i+q)//5)"),
    (floordiv(Q, 4), "q//4"),
    (-floordiv(Q, 4), "-(q//4)"),
    (floordiv(Q, S1 + 1), "q//(s1+1)"),
    (index(Iter("a b", 3)) + Iter("inf", 2), "`a b`+`inf`"),
]


@pytest.mark.parametrize(("built", "text"), TEXTS, ids=[t for _, t in TEXTS])
def test_indices_print_with_the_parentheses_they_need(built: Index, text: str):
    assert str(built) == text


@pytest.mark.parametrize("denominator", [0, -2])
@pytest.mark.parametrize("divide", [floordiv, mod])
def test_denominators_must_be_positive(divide, denominator: int):
    with pytest.raises(InvalidProgram, match=f"by {denominator}: the denominator must be positive"):
        divide(I, denominator)


def test_coefficient_offset_and_constant():
    value = 2 * S0 * I + I - 3 + J * J
    assert str(value.coefficient(I)) == "2*s0+1"
    assert str(value.coefficient(J)) == "0"
    assert value.offset == -3
    assert value.constant is None
    assert (index(5) - 5).constant == 0
    assert str(product([S0, 3, S0])) == "3*s0*s0"
    assert product([]) == 1


def test_substitution_reaches_divisions_and_lookups_and_simplifies():
    table = tensor("table", (12,), DType.I64)
    found = index(Lookup(table, (floordiv(Q, 2),), index(0), index(S0) + 1))
    assert str(substitute(found, {Q: 2 * I, S0: 3})) == "table[i]{0:4}"
    assert substitute(floordiv(Q + J, 4), {Q: 4 * I, J: 1}) is index(I)


def test_every_nested_atom_is_walked_once():
    table = tensor("table", (12,), DType.I64)
    inner = Lookup(table, (floordiv(Q, 4),), index(0), index(S0))
    found = walk_atoms(mod(index(inner) + I, 5) + I)
    assert found == (I, Mod(index(inner) + I, index(5)), inner, S0, FloorDiv(index(Q), index(4)), Q)


def test_a_lookup_is_checked():
    with pytest.raises(InvalidProgram, match="lookup of x: expected an integer tensor, got f32"):
        Lookup(tensor("x", (3,), DType.F32), (index(I),), index(0), index(4))
    with pytest.raises(InvalidProgram, match="lookup of t: 2 indices for rank 1"):
        Lookup(tensor("t", (3,), DType.I64), (index(I), index(J)), index(0), index(4))


def test_a_lookup_has_no_value_before_the_program_runs():
    value = index(Lookup(tensor("t", (3,), DType.I64), (index(I),), index(0), index(4)))
    with pytest.raises(InvalidProgram, match=r"t\[i\]\{0:4\} depends on data"):
        evaluate(value, {"i": 0})


def test_extents_are_plain_integers_where_they_are_known():
    assert Iter("i", index(3)) is Iter("i", 3)
    assert tensor("x", (index(3),), DType.F32) is tensor("x", (3,), DType.F32)
    with pytest.raises(InvalidProgram, match="iterator i: its extent -1 is negative"):
        Iter("i", -1)
    with pytest.raises(InvalidProgram, match=r"tensor x: its shape .* has a negative extent"):
        tensor("x", (3, -1), DType.F32)
