"""The door of the reference interpreter: inputs, symbols, weights, hooks, rounding, and what it refuses."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from tpopt.errors import InvalidProgram, UnknownName, UnsupportedInput
from tpopt.ir.interpret import interpret
from tpopt.ir.parse import parse_program

AFFINE = parse_program("program p(x: f32[3])\ny: f32[3] = L[i:3] x[i] * 2.0\nz: f32[3] = L[i:3] y[i] + 1.0\nreturn z")
SIZED = parse_program(
    "program p(x: f32[s0,2*s1+1], w: f32[s0*s1])\nsymbol s0 in [1, 8]\nsymbol s1 in [0, 8]\n"
    "y: f32[s0] = L[i:s0] sum[k:2*s1+1]{ x[i,k] } + sum[k:s0*s1]{ w[k] }\nreturn y"
)


def test_inputs_come_by_position_or_by_name():
    x = np.array([1.0, 2.0, 3.0])
    by_position, by_name = interpret(AFFINE, [x]), interpret(AFFINE, {"x": x})
    assert by_position[0].tolist() == by_name[0].tolist() == [3.0, 5.0, 7.0]


def test_results_are_arrays_of_their_own():
    identity = parse_program("program p(x: f32[2,3])\ny: f32[3,2] = L[i:3,j:2] x[j,i]\nreturn y")
    x = np.arange(6.0).reshape(2, 3)
    (y,) = interpret(identity, [x])
    y[:] = -1.0
    assert x.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_kept_tensors_follow_the_outputs():
    z, y, x = interpret(AFFINE, [np.ones(3)], keep=["y", "x"])
    assert (z.tolist(), y.tolist(), x.tolist()) == ([3.0] * 3, [2.0] * 3, [1.0] * 3)
    with pytest.raises(UnknownName, match="unknown tensor 'q'"):
        interpret(AFFINE, [np.ones(3)], keep=["q"])


def test_each_stage_is_reported_in_order():
    seen = []
    interpret(
        AFFINE, [np.ones(3)], on_stage=lambda stage, arrays: seen.append((stage.outs[0].name, arrays[0].tolist()))
    )
    assert seen == [("y", [2.0] * 3), ("z", [3.0] * 3)]


def test_symbols_are_solved_from_shapes():
    (y,) = interpret(SIZED, [np.ones((3, 5)), np.ones(6)])
    assert y.tolist() == [11.0] * 3


@pytest.mark.parametrize(
    ("x", "w", "message"),
    [
        ((3, 4), (6,), r"x, axis 1: extent 4 is not 2\*s1\+1 for s1 in \[0, 8\]"),
        ((9, 5), (18,), r"x, axis 0: extent 9 is not s0 for s0 in \[1, 8\]"),
        ((3, 5), (7,), r"w, axis 0: expected extent s0\*s1 = 6, got 7"),
        ((3,), (6,), r"x: expected 2 axes .*, got shape \(3,\)"),
    ],
)
def test_shapes_that_do_not_fit_name_the_input_and_the_axis(x: tuple[int, ...], w: tuple[int, ...], message: str):
    with pytest.raises(UnsupportedInput, match=message):
        interpret(SIZED, [np.ones(x), np.ones(w)])


def test_inputs_that_are_missing_or_of_another_kind_are_refused():
    with pytest.raises(UnsupportedInput, match=r"program p takes 1 inputs \(x\); got 2"):
        interpret(AFFINE, [np.ones(3), np.ones(3)])
    with pytest.raises(UnsupportedInput, match=r"missing \['x'\], unknown \['u'\]"):
        interpret(AFFINE, {"u": np.ones(3)})
    with pytest.raises(UnsupportedInput, match="x: expected f32 values, got a complex128 array"):
        interpret(AFFINE, [np.ones(3) + 0j])
    narrow = parse_program("program p(x: i8[1])\ny: i8[1] = L[i:1] x[i] * 2\nreturn y")
    with pytest.raises(UnsupportedInput, match="x: expected i8 values, got a int64 array"):
        interpret(narrow, [np.array([128])])


def test_weights_come_from_the_program_the_argument_or_their_formula():
    program = parse_program(
        "program p(x: f32[3])\nweight w: f32[3]\nweight e: f32[3,3] structure permutation(2,0,1)\n"
        "y: f32[3] = L[i:3] sum[k:3]{ e[i,k] * x[k] } * w[i]\nreturn y"
    )
    (y,) = interpret(program, [np.array([1.0, 2.0, 3.0])], constants={"w": np.array([1, 10, 100], np.float32)})
    assert y.tolist() == [3.0, 10.0, 200.0]
    with pytest.raises(UnsupportedInput, match="weight w has no value: pass it in constants="):
        interpret(program, [np.ones(3)])


def test_bf16_weights_are_bits():
    program = parse_program("program p(x: bf16[2])\nweight w: bf16[2]\ny: bf16[2] = L[i:2] x[i] * w[i]\nreturn y, w")
    bits = np.array([0x3F80, 0xC040], np.uint16)  # 1.0 and -3.0
    y, w = interpret(program, [np.array([0x4000, 0x3F00], np.uint16)], constants={"w": bits})
    assert (y.tolist(), w.tolist(), w.dtype) == ([2.0, -1.5], [1.0, -3.0], np.float64)


def test_casts_do_not_round_unless_asked():
    program = parse_program(
        "program p(x: f32[1])\ny: bf16[1] = L[i:1] bf16(x[i])\nz: f16[1] = L[i:1] f16(x[i])\nreturn y, z"
    )
    third = np.array([1.0 / 3.0])
    assert interpret(program, [third])[0][0] == 1.0 / 3.0
    y, z = interpret(program, [third], rounding=True)
    assert (y[0], z[0]) == (171 / 512, np.float16(1 / 3))


def test_rounding_applies_to_stage_outputs_and_inputs():
    program = parse_program("program p(x: f32[1])\ny: f32[1] = L[i:1] x[i] * 0.1\nreturn y")
    exact, rounded = interpret(program, [np.array([3.0])]), interpret(program, [np.array([3.0])], rounding=True)
    assert (exact[0][0], rounded[0][0]) == (3.0 * 0.1, np.float32(3.0 * 0.1))


def test_integers_wrap_at_their_width():
    program = parse_program(
        "program p(x: i8[2], u: u8[2])\ny: i8[2] = L[i:2] x[i] + x[i]\nz: u8[] = L[] sum[k:2]{ u[k] }\nreturn y, z"
    )
    y, z = interpret(program, [np.array([100, -100], np.int8), np.array([200, 100], np.uint8)])
    assert (y.tolist(), y.dtype, z.item(), z.dtype) == ([-56, 56], np.int8, 44, np.uint8)


def test_integer_products_are_exact_beyond_the_reach_of_float64():
    program = parse_program("program p(x: i64[2], w: i64[2])\ny: i64[] = L[] sum[k:2]{ x[k] * w[k] }\nreturn y")
    (y,) = interpret(program, [np.array([2**31 + 1, 2**62]), np.array([2**31 + 1, 4])])
    assert y.item() == (2**31 + 1) ** 2


def test_an_unguarded_read_out_of_bounds_is_a_defect_of_the_program():
    program = parse_program("program p(x: f32[4])\ny: f32[4] = L[i:4] x[i+1]\nreturn y")
    message = r"stage y: x\[i\+1\] reads position 4 of axis 0, whose extent is 4, at i=3; guard it"
    with pytest.raises(InvalidProgram, match=message):
        interpret(program, [np.ones(4)])


def test_a_guard_that_is_too_wide_is_a_defect_of_the_program():
    program = parse_program("program p(x: f32[4])\ny: f32[6] = L[i:6] select(0 <= i < 5, exp(x[i]), 0.0)\nreturn y")
    with pytest.raises(InvalidProgram, match="reads position 4 of axis 0"):
        interpret(program, [np.ones(4)])


def test_a_lookup_that_breaks_its_bounds_names_tensor_position_and_value():
    program = parse_program("program p(t: i64[2,2], w: f32[5])\ny: f32[2,2] = L[i:2,j:2] w[t[i,j]{0:5}]\nreturn y")
    tokens = np.array([[0, 1], [2, 5]])
    with pytest.raises(UnsupportedInput, match=r"t\[1, 1\] is 5; stage y needs values in \[0, 5\)"):
        interpret(program, [tokens, np.ones(5)])


def test_a_guarded_lookup_may_hold_anything_where_it_is_not_read():
    text = "program p(t: i64[3], w: f32[5])\ny: f32[3] = L[i:3] select(0 <= i < 2, w[t[i]{0:5}], 7.0)\nreturn y"
    (y,) = interpret(parse_program(text), [np.array([4, 0, -100]), np.arange(5.0)])
    assert y.tolist() == [4.0, 0.0, 7.0]


def test_a_chain_of_ten_thousand_terms_needs_no_recursion():
    text = "x[i]" + " + 1.0" * 3000
    program = parse_program(f"program p(x: f32[2])\ny: f32[2] = L[i:2] {text}\nreturn y")
    assert interpret(program, [np.zeros(2)])[0].tolist() == [3000.0, 3000.0]


def test_tensors_are_freed_after_their_last_use():
    text = "".join(f"y{n}: f32[3] = L[i:3] exp({'x' if n == 0 else f'y{n - 1}'}[i])\n" for n in range(4))
    alive, seen = [], []

    def watch(stage: object, arrays: tuple[np.ndarray, ...]) -> None:
        alive.append(weakref.ref(arrays[0]))
        seen.append([ref() is not None for ref in alive])

    interpret(parse_program(f"program p(x: f32[3])\n{text}return y3"), [np.ones(3)], on_stage=watch)
    assert seen == [[True], [True, True], [False, True, True], [False, False, True, True]]
