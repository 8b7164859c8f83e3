"""Kernels to learn from, drawn by kind and seed: what models are made of, at sizes of every magnitude."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log2
from typing import Final

from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.request import KernelRequest
from tpopt.ir.parse import parse_program
from tpopt.ir.work import work

_WIDTHS: Final = (24, 32, 48, 64, 96, 100, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024)
_BUCKET_BITS: Final = 3.0


@dataclass(frozen=True)
class Task:
    """One kernel; tasks of a ``family`` (kind and magnitude of the work) are never split between train and test."""

    name: str
    family: str
    request: KernelRequest


def drawn(kind: str, seed: int, processor: Processor) -> Task:
    """The task of a kind for a seed: always the same."""
    given, body, constants = KINDS[kind](random.Random(f"{kind} {seed}"))  # noqa: S311 - shapes, not secrets
    program = parse_program(f"program p({', '.join(given)})\n{body}\nreturn y")
    sizes: dict[str, int] = {}
    total = work(program, sizes)
    bucket = round(log2(max(2, total.macs + total.flops + total.bytes_read + total.bytes_written)) / _BUCKET_BITS)
    return Task(f"{kind}-{seed}", f"{kind}/{bucket}", KernelRequest.of(program, constants, processor))


_Drawn = tuple[tuple[str, ...], str, tuple[int, ...]]


def _size(draw: random.Random, low: float, high: float) -> int:
    """A size between powers of two, as often small as large; every other one a multiple of 8."""
    size = round(2 ** draw.uniform(low, high))
    return max(8, size // 8 * 8) if draw.random() < 0.5 else size


def _product(draw: random.Random) -> _Drawn:
    m, n, k = _size(draw, 2, 9), draw.choice(_WIDTHS), draw.choice(_WIDTHS)
    body = f"y: f32[{m},{n}] = L[i:{m},j:{n}] sum[k:{k}]{{ x[i,k] * w[j,k] }} + b[j]"
    return (f"x: f32[{m},{k}]", f"w: f32[{n},{k}]", f"b: f32[{n}]"), body, (1, 2)


def _product_of_values(draw: random.Random) -> _Drawn:
    m, n, k = _size(draw, 4, 9), _size(draw, 4, 9), _size(draw, 4, 9)
    body = f"y: f32[{m},{n}] = L[i:{m},j:{n}] sum[k:{k}]{{ x[i,k] * z[k,j] }}"
    return (f"x: f32[{m},{k}]", f"z: f32[{k},{n}]"), body, ()


def _batched_product(draw: random.Random) -> _Drawn:
    b, m, n, k = draw.choice((4, 8, 12, 16)), _size(draw, 4, 7.6), _size(draw, 4, 7.6), draw.choice((32, 48, 64, 80))
    body = f"y: f32[{b},{m},{n}] = L[h:{b},i:{m},j:{n}] sum[k:{k}]{{ x[h,i,k] * z[h,j,k] }}"
    return (f"x: f32[{b},{m},{k}]", f"z: f32[{b},{n},{k}]"), body, ()


def _convolution(draw: random.Random) -> _Drawn:
    c, o = draw.choice((3, 16, 24, 32, 48, 64, 128)), draw.choice((16, 24, 32, 48, 64, 128))
    size, a, s = draw.choice((7, 10, 14, 20, 28, 40)), draw.choice((1, 3, 3, 5)), draw.choice((1, 1, 2))
    wide = (size - 1) * s + a
    body = (
        f"y: f32[1,{o},{size},{size}] = L[n:1,o:{o},h:{size},v:{size}] "
        f"sum[c:{c},a:{a},e:{a}]{{ x[n,c,{s}*h+a,{s}*v+e] * w[o,c,a,e] }}"
    )
    return (f"x: f32[1,{c},{wide},{wide}]", f"w: f32[{o},{c},{a},{a}]"), body, (1,)


def _depthwise(draw: random.Random) -> _Drawn:
    c, size = 8 * draw.randint(2, 40), draw.randint(7, 60)
    a, s = draw.choice((3, 3, 5, 7)), draw.choice((1, 1, 2))
    wide = (size - 1) * s + a
    body = (
        f"y: f32[{c},{size},{size}] = L[c:{c},h:{size},v:{size}] "
        f"sum[a:{a},e:{a}]{{ x[c,{s}*h+a,{s}*v+e] * w[c,a,e] }} + b[c]"
    )
    return (f"x: f32[{c},{wide},{wide}]", f"w: f32[{c},{a},{a}]", f"b: f32[{c}]"), body, (1, 2)


def _grouped(draw: random.Random) -> _Drawn:
    g, e, size = draw.choice((4, 8, 16, 32)), draw.choice((4, 8, 12, 16)), draw.randint(7, 40)
    body = (
        f"y: f32[{g},{e},{size},{size}] = L[g:{g},o:{e},h:{size},v:{size}] "
        f"sum[c:{e},a:3,f:3]{{ x[g,c,h+a,v+f] * w[g,o,c,a,f] }}"
    )
    return (f"x: f32[{g},{e},{size + 2},{size + 2}]", f"w: f32[{g},{e},{e},3,3]"), body, (1,)


def _softmax(draw: random.Random) -> _Drawn:
    n = _size(draw, 4, 12)
    m = max(1, round(2 ** draw.uniform(13, 19)) // n)
    body = (
        f"t: f32[{m}], s: f32[{m}] = L[i:{m}] logsumexp[k:{n}].0{{ x[i,k], 1.0:f32 }}, "
        f"logsumexp[k:{n}].1{{ x[i,k], 1.0:f32 }}\ny: f32[{m},{n}] = L[i:{m},j:{n}] exp(x[i,j] - t[i]) / s[i]"
    )
    return (f"x: f32[{m},{n}]",), body, ()


def _reduction(draw: random.Random) -> _Drawn:
    n = _size(draw, 3, 11)
    m = max(1, round(2 ** draw.uniform(13, 20)) // n)
    if draw.random() < 0.5:
        return (f"x: f32[{m},{n}]",), f"y: f32[{m}] = L[i:{m}] sum[k:{n}]{{ x[i,k] * x[i,k] }}", ()
    return (f"x: f32[{n},{m}]",), f"y: f32[{m}] = L[i:{m}] max[k:{n}]{{ x[k,i] }}", ()


def _points(draw: random.Random) -> _Drawn:
    n = draw.choice((48, 64, 100, 128, 196, 256, 384, 768))
    m = max(1, round(2 ** draw.uniform(12, 20)) // n)
    formula = draw.choice(
        (
            "x[i,j] * z[j] + x[i,j]",
            "tanh(x[i,j]) * z[j]",
            "x[i,j] / (1.0 + exp(-x[i,j])) + z[j]",
            "max(x[i,j] - z[j], 0.0)",
        )
    )
    return (f"x: f32[{m},{n}]", f"z: f32[{n}]"), f"y: f32[{m},{n}] = L[i:{m},j:{n}] {formula}", ()


def _transpose(draw: random.Random) -> _Drawn:
    m, n = _size(draw, 5, 10), _size(draw, 5, 10)
    return (f"x: f32[{m},{n}]", f"z: f32[{n},{m}]"), f"y: f32[{n},{m}] = L[i:{n},j:{m}] x[j,i] + z[i,j]", ()


KINDS: Final[Mapping[str, Callable[[random.Random], _Drawn]]] = {
    "product": _product,
    "product-of-values": _product_of_values,
    "batched-product": _batched_product,
    "convolution": _convolution,
    "depthwise": _depthwise,
    "grouped": _grouped,
    "softmax": _softmax,
    "reduction": _reduction,
    "points": _points,
    "transpose": _transpose,
}
