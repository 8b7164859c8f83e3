from __future__ import annotations

import mpmath
import numpy as np
import pytest

from tpopt.errors import InvalidProgram
from tpopt.ir import DType, Structure, Symbol, Tensor, index
from tpopt.ir.materialize import is_formula, materialize, roots_of_unity


def _tensor(kind, *parameters, shape):
    return Tensor("F", shape, DType.C64, "", Structure(kind, parameters))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 12, 13, 30, 97])
def test_roots_of_unity_are_within_a_unit_in_the_last_place(n, sign):
    with mpmath.workprec(120):
        exact = [complex(mpmath.expjpi(mpmath.mpf(2 * sign * k) / n)) for k in range(n)]
    assert np.abs(roots_of_unity(n, sign) - exact).max() < 2.3e-16


def test_quarter_turns_are_exact():
    assert list(roots_of_unity(8, -1)[::2]) == [1, -1j, -1, 1j]


def test_a_transform_may_be_rectangular():
    values = materialize(_tensor("dft", 5, 4, 3, -1, shape=(4, 3)))
    assert values.shape == (4, 3)
    assert np.allclose(values, np.fft.fft(np.eye(5))[:4, :3], atol=1e-15)


def test_other_formulas():
    assert np.array_equal(materialize(_tensor("identity", shape=(2, 2, 3)))[1], [[1, 0, 0], [0, 1, 0]])
    assert np.array_equal(materialize(_tensor("permutation", 2, 0, 1, shape=(3, 3))), [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert np.array_equal(materialize(_tensor("one_hot", 2, 2, shape=(2, 3))), [[0, 0, 1], [0, 0, 1]])


def test_structures_that_only_restrict_values_have_none():
    assert [is_formula(Structure(k)) for k in ("dft", "symmetric", "dense")] == [True, False, False]
    with pytest.raises(InvalidProgram, match=r"F: structure symmetric does not give the values .*; add it"):
        materialize(_tensor("symmetric", shape=(3, 3)))


def test_parameters_must_fit_the_shape():
    with pytest.raises(InvalidProgram, match=r"dft\(5, 4, 3, -1\) belongs to a tensor of shape \(4, 3\), not \(3, 4\)"):
        materialize(_tensor("dft", 5, 4, 3, -1, shape=(3, 4)))
    with pytest.raises(InvalidProgram, match="a run-time extent"):
        materialize(_tensor("identity", shape=(index(Symbol("s", 1, 9)), 3)))
