from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from strategies import ITERATORS, REACH, SYMBOLS, Expression, expressions, points

from tpopt.ir import (
    DType,
    Index,
    Iter,
    Lookup,
    Symbol,
    floordiv,
    guard,
    index,
    interval,
    mod,
    nonnegative,
    tensor,
    within,
)
from tpopt.ir.bounds import minimum, outside
from tpopt.ir.build import FALSE
from tpopt.ir.index import evaluate

I, J, K, P, Q = ITERATORS
S0, S1, S2 = SYMBOLS


@given(expressions)
def test_what_is_proved_of_one_index_holds_everywhere(expression: Expression):
    built = expression.build()
    found = [expression.value(v) for v in points(expression.variables())]
    low, high = interval(built)
    assert not nonnegative(built) or min(found, default=0) >= 0
    assert low is None or all(low <= v for v in found)
    assert high is None or all(v <= high for v in found)


@given(expressions, expressions, expressions)
def test_what_is_proved_of_a_guard_holds_everywhere(low: Expression, value: Expression, high: Expression):
    inside, never = (f(value.build(), low.build(), high.build()) for f in (within, outside))
    if not (inside or never):
        return
    for values in points(low.variables() | value.variables() | high.variables()):
        holds = low.value(values) <= value.value(values) < high.value(values)
        assert holds or not inside
        assert not holds or not never


def test_no_small_polynomial_in_symbols_is_proved_falsely():
    s, t = Symbol("s", 1, 4), Symbol("t", 0, 3)
    monomials = (s * s, s * t, index(s), index(t), index(1))
    for coefficients in itertools.product((-2, -1, 0, 1), repeat=len(monomials)):
        value = sum((c * m for c, m in zip(coefficients, monomials, strict=True)), start=index(0))
        found = [evaluate(value, {"s": a, "t": b}) for a in range(1, 5) for b in range(4)]
        low, high = interval(value)
        assert not nonnegative(value) or min(found) >= 0, value
        assert low is None or low <= min(found), value
        assert high is None or high >= max(found), value


PROVED = [
    index(I),
    3 - index(J),
    S0 - 1 - P,
    S1 - 2 + 0 * I,
    S0 * S1 - P * S1 - S1,
    floordiv(Q, 4) + 0,
    2 - floordiv(Q, 2),
    3 - mod(Q + J, 4),
    S0 * I + P,
    4 - index(S0),
    16 - S0 * S0,
    index(Lookup(tensor("t", (3,), DType.I64), (index(I),), index(2), index(5))) - 2,
]


@pytest.mark.parametrize("value", PROVED, ids=str)
def test_what_the_rewrites_need_is_proved(value: Index):
    assert nonnegative(value)


NOT_PROVED = [index(I) - 1, J - 4 + 0 * I, S1 - 3 + 0 * I, P - S0, 3 - index(S0), S0 * S0 - 5 * S0, 15 - S0 * S0]


@pytest.mark.parametrize("value", NOT_PROVED, ids=str)
def test_what_is_false_somewhere_is_not_proved(value: Index):
    assert not nonnegative(value)


def test_intervals_are_exact_on_affine_indices():
    assert interval(2 * I - 3 * J + 1) == (-8, 5)
    assert interval(S0 + I) == (1, 6)
    assert interval(S1 + I) == (2, None)
    assert interval(floordiv(Q, 4)) == (0, 1)
    assert interval(index(7)) == (7, 7)
    assert REACH >= 1


def test_a_minimum_keeps_the_symbols():
    assert str(minimum(I + S0 - P)) == "1"
    assert str(minimum(S1 * I + S1)) == "s1"
    assert minimum(I * I) is None


def test_a_guard_drops_what_is_proved_and_sorts_the_rest():
    made = guard((0, I, 3), (0, J + 1, 4), (0, I + 1, 3))
    assert [(str(b.low), str(b.value), str(b.high)) for b in made.bounds] == [("-1", "i", "2"), ("-1", "j", "3")]
    assert guard((0, J + 1, 4), (0, I + 1, 3)) is made
    assert guard((0, I, 3)).bounds == ()
    assert guard((0, I + 1, 3), (5, I, 9)).bounds == (FALSE,)


def test_an_empty_range_lets_everything_be_proved():
    assert within(Iter("e", 0), 0, 0)
