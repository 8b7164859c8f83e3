from __future__ import annotations

import math

import pytest
import torch
from frontend.checking import check_lowering, check_table

aten = torch.ops.aten
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 0.5, -0.5, 2.5, -1.5, 30.0]


def values(dtype: torch.dtype, *shape: int, low: float = -3.0, high: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + 7)
    if dtype is torch.bool:
        return torch.rand(*shape, generator=generator) < 0.5
    if dtype.is_complex:
        parts = torch.rand(*shape, 2, generator=generator, dtype=torch.float64) * (high - low) + low
        return torch.view_as_complex(parts).to(dtype).clone()
    return (torch.rand(*shape, generator=generator, dtype=torch.float64) * (high - low) + low).to(dtype)


ON_THE_LINE = "atan asinh ceil cos cosh erf erfc exp exp2 expm1 floor frac neg round sigmoid sign sin sinc sinh square tan tanh trunc"
ON_THE_POSITIVE = "digamma lgamma log log10 log1p log2 reciprocal rsqrt sqrt acosh"
ON_THE_UNIT = "acos asin atanh erfinv"
TESTS = "isfinite isinf isnan isneginf isposinf signbit logical_not sgn nan_to_num abs positive deg2rad"


def named(names: str) -> dict[str, object]:
    return {name: getattr(torch, name) for name in names.split()}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_functions_of_a_float(dtype):
    check_table(named(ON_THE_LINE), values(dtype, 3, 5))
    check_table(named(ON_THE_POSITIVE), values(dtype, 3, 5, low=1.1, high=9.0))
    check_table(named(ON_THE_UNIT), values(dtype, 3, 5, low=-0.9, high=0.9))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_functions_of_a_float_at_special_values(dtype):
    unbounded = {
        k: v for k, v in named(f"{ON_THE_LINE} {ON_THE_POSITIVE} {ON_THE_UNIT} {TESTS}").items() if k != "digamma"
    }
    check_table(unbounded, torch.tensor(SPECIAL, dtype=dtype))


def test_functions_of_integers_and_bools_become_float():
    floating = "exp sin cos sqrt sigmoid tanh erf atan log1p reciprocal rsqrt sinc expm1"
    for dtype in (*INTEGERS, torch.bool):
        check_table(named(floating), values(dtype, 4, low=0, high=4))


def test_functions_of_integers_that_stay_integers():
    check_table(
        named("abs neg sign square ceil floor trunc round bitwise_not sgn signbit isnan isinf isfinite"),
        values(torch.int64, 4),
    )
    check_table(named("logical_not bitwise_not sign isnan isfinite"), values(torch.bool, 4))
    check_table(named("bitwise_not square logical_not"), values(torch.uint8, 4, low=0))


def test_functions_of_complex_numbers():
    names = "exp sin cos tan sinh cosh tanh sqrt log log2 log10 asin acos atan asinh acosh atanh sigmoid square reciprocal rsqrt neg abs sgn isnan isinf isfinite expm1 exp2"
    for dtype in (torch.complex64, torch.complex128):
        check_table(named(names), values(dtype, 4, 3))


def test_rounding_to_decimals():
    x = torch.tensor([1.2345, -2.5678, 150.0, -0.5])
    check_table({str(d): lambda v, d=d: torch.round(v, decimals=d) for d in (-2, 0, 2)}, x)


def test_nan_to_num_with_and_without_replacements():
    table = {
        "default": torch.nan_to_num,
        "given": lambda v: torch.nan_to_num(v, nan=1.5, posinf=3.0, neginf=-2.0),
    }
    for dtype in FLOATS:
        check_table(table, torch.tensor(SPECIAL, dtype=dtype))
    check_table(table, torch.arange(3))


BINARY = {
    "add": torch.add,
    "add alpha": lambda a, b: torch.add(a, b, alpha=3),
    "sub": torch.sub,
    "sub alpha": lambda a, b: torch.sub(a, b, alpha=2),
    "rsub": torch.rsub,
    "mul": torch.mul,
    "div": torch.div,
    "div trunc": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "div floor": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "floor_divide": torch.floor_divide,
    "remainder": torch.remainder,
    "fmod": torch.fmod,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "fmax": torch.fmax,
    "fmin": torch.fmin,
    "max other": torch.max,
    "atan2": torch.atan2,
    "copysign": torch.copysign,
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "xlogy": torch.xlogy,
    "xlog1py": torch.special.xlog1py,
}
REAL_ONLY = {
    "hypot": torch.hypot,
    "logaddexp": torch.logaddexp,
    "logaddexp2": torch.logaddexp2,
    "heaviside": torch.heaviside,
}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_two_floats(dtype):
    pairs = torch.cartesian_prod(torch.tensor(SPECIAL), torch.tensor(SPECIAL)).to(dtype)
    unbounded = {k: v for k, v in {**BINARY, **REAL_ONLY}.items() if k not in ("div floor", "floor_divide")}
    check_table(unbounded, pairs[:, 0], pairs[:, 1])
    check_table({**BINARY, **REAL_ONLY}, values(dtype, 3, 1, 5), values(dtype, 4, 1, low=0.5))


@pytest.mark.parametrize("other", [torch.int32, torch.uint8, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_two_types_promote_as_in_torch(other):
    check_table(BINARY, values(torch.int64, 3, 4), values(other, 4, low=1, high=5))
    check_table(BINARY, values(torch.float16, 3, 4), values(other, 4, low=1, high=5))


def test_a_scalar_tensor_does_not_widen_its_partner():
    check_table(BINARY, values(torch.float16, 3), torch.tensor(2.5, dtype=torch.float64))
    check_table(BINARY, torch.tensor(3, dtype=torch.int64), values(torch.int8, 3, low=1, high=5))


def test_bools_and_complex_numbers():
    logic = {k: BINARY[k] for k in ("add", "mul", "div", "eq", "ne", "lt", "maximum", "logical_and", "logical_xor")}
    check_table(logic, values(torch.bool, 3, 4), values(torch.bool, 4))
    complex_ones = {k: BINARY[k] for k in ("add", "add alpha", "sub", "rsub", "mul", "div", "eq", "ne", "logical_or")}
    check_table(complex_ones, values(torch.complex64, 3, 4), values(torch.complex64, 4))
    check_table(complex_ones, values(torch.complex64, 3, 4), values(torch.float32, 4))


NUMBERS = {
    "add": lambda x: x + 0.1,
    "add int": lambda x: x + 2,
    "sub alpha": lambda x: torch.sub(x, 3, alpha=2),
    "rsub": lambda x: 1.7 - x,
    "mul": lambda x: 0.1 * x,
    "div": lambda x: x / 3,
    "reciprocal": lambda x: 2.0 / x,
    "floor": lambda x: torch.div(x, 0.7, rounding_mode="floor"),
    "trunc": lambda x: torch.div(x, 3, rounding_mode="trunc"),
    "mod": lambda x: x % 3,
    "mod float": lambda x: x % 0.7,
    "scalar mod": lambda x: torch.remainder(7, x),
    "fmod": lambda x: torch.fmod(x, -2),
    "lt": lambda x: x < 0.1,
    "eq": lambda x: x == 2,
    "ge": lambda x: x >= 1.5,
}


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.int8, torch.uint8], ids=str)
def test_a_tensor_and_a_number(dtype):
    check_table(NUMBERS, values(dtype, 3, 4, low=1, high=9))


def test_a_number_is_not_rounded_to_half_first():
    x = torch.full((64,), 1.0, dtype=torch.bfloat16) * torch.arange(1, 65)
    check_table({"mul": lambda v: v * 0.1, "add": lambda v: v + 0.003}, x, rtol=0, atol=0)


POWERS = {
    **{f"x**{p}": lambda x, p=p: x**p for p in (0, 1, 2, 3, 4, 7)},
    **{f"x**{p}": lambda x, p=p: x**p for p in (0.5, -0.5, -1.0, -2.0, 1.7)},
    "2**x": lambda x: 2**x,
    "1.5**x": lambda x: 1.5**x,
    "x**x": lambda x: torch.pow(x, x),
    "float_power": lambda x: torch.float_power(x, 3),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int64], ids=str)
def test_powers(dtype):
    check_table(POWERS, values(dtype, 5, low=1, high=4), rtol=2e-3 if dtype is torch.float16 else None)


def test_powers_of_a_complex_number():
    check_table({k: POWERS[k] for k in ("x**0.5", "x**2", "x**-1.0", "x**x")}, values(torch.complex64, 4))


BITS = {
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "dunder and": aten.__and__.Tensor,
    "dunder or": aten.__or__.Tensor,
    "dunder xor": aten.__xor__.Tensor,
}
SHIFTS = {
    "shl": lambda a, b: a << b,
    "shr": lambda a, b: a >> b,
    "left": torch.bitwise_left_shift,
    "right": torch.bitwise_right_shift,
    "dunder shl": aten.__lshift__.Tensor,
}


def test_bits():
    for dtype in (*INTEGERS, torch.bool):
        low = 0 if dtype in (torch.uint8, torch.bool) else -9
        check_table(BITS, values(dtype, 3, 4, low=low, high=9), values(dtype, 4, low=low, high=9))
    check_table(SHIFTS, values(torch.int64, 3, 4, low=-9, high=9), values(torch.int64, 4, low=0, high=5))
    check_table({"and": lambda a: a & 3, "or": lambda a: 4 | a, "shl": lambda a: a << 2}, values(torch.int32, 4))


def test_choices_and_bounds():
    x, y, mask = values(torch.float32, 3, 4), values(torch.float32, 4), values(torch.bool, 3, 1)
    table = {
        "where": lambda x, y, m: torch.where(m, x, y),
        "where numbers": lambda x, y, m: torch.where(m, x, 2.0) + torch.where(m, 1.0, y),
        "masked_fill": lambda x, y, m: x.masked_fill(m, -math.inf),
        "masked_fill tensor": lambda x, y, m: x.masked_fill(m, torch.tensor(2.0)),
        "clamp": lambda x, y, m: x.clamp(-1, 0.5),
        "clamp low": lambda x, y, m: x.clamp(min=0.25),
        "clamp high": lambda x, y, m: torch.clamp_max(x, 0.25),
        "clamp tensors": lambda x, y, m: torch.clamp(x, y, y + 1),
        "clamp_min tensor": lambda x, y, m: torch.clamp_min(x, y),
        "crossed": lambda x, y, m: x.clamp(1, -1),
        "lerp": lambda x, y, m: torch.lerp(x, y, 0.3),
        "lerp far": lambda x, y, m: torch.lerp(x, y, 0.8),
        "lerp tensor": lambda x, y, m: torch.lerp(x, y, x),
        "addcmul": lambda x, y, m: torch.addcmul(x, y, x, value=0.5),
        "addcdiv": lambda x, y, m: torch.addcdiv(x, y, x + 9, value=2),
        "threshold": lambda x, y, m: torch.nn.functional.threshold(x, 0.1, 20.0),
    }
    check_table(table, x, y, mask)
    check_table(table, x.half(), y.half(), mask)


def test_choices_between_types():
    mask = values(torch.bool, 4)
    check_lowering(lambda m, a, b: torch.where(m, a, b), mask, values(torch.int32, 4), values(torch.float16, 4))
    check_lowering(lambda m, a: torch.where(m, a, 1.5), mask, values(torch.int64, 4))
    check_lowering(lambda a: a.clamp(1.5), values(torch.int64, 4))


def test_no_elements_no_axes_and_run_time_extents():
    table = {
        **BINARY,
        "where": lambda a, b: torch.where(a > b, a, b),
        "gelu": lambda a, b: torch.nn.functional.gelu(a * b),
    }
    check_table(table, torch.tensor(2.0), torch.tensor(3.0))
    check_table(table, torch.empty(0, 3), torch.empty(3))
    sizes = [(values(torch.float32, n, 3), values(torch.float32, n, 1)) for n in (5, 2, 17)]
    check_table(table, *sizes[0], dynamic=True, also=sizes[1:])


def test_a_run_time_extent_is_a_number():
    table = {
        "div": lambda x: x.sum(0) / x.shape[0],
        "mul": lambda x: x * x.shape[0],
        "add": lambda x: x + x.shape[1] * 2,
        "full": lambda x: torch.full((3,), x.shape[0]),
    }
    check_table(
        table, torch.randn(4, 3), dynamic=({0: torch.export.Dim("n", min=2, max=64)},), also=[(torch.randn(9, 3),)]
    )
