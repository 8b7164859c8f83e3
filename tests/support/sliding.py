"""Convolutions as one stage, at sizes that can be checked in every element."""

from __future__ import annotations

from tpopt.ir import Program
from tpopt.ir.parse import parse_program


def program(stage: str, inputs: str, weights: str) -> Program:
    lines = "\n".join(f"weight {w}" for w in weights.split("; "))
    return parse_program(f"program p({inputs})\n{lines}\n{stage}\nreturn y")


def image(k: int, c: int, h: int, w: int, taps: int, pad: int, *, d: int = 1, batch: int = 2) -> Program:
    """A square convolution with bias and ReLU; its padding is a guard."""
    out = [n + 2 * pad - d * (taps - 1) for n in (h, w)]
    i, j = (f"{d}*{r}" if d > 1 else r for r in ("r", "s"))
    x = f"x[n,c,h+{i}-{pad},v+{j}-{pad}]" if pad else f"x[n,c,h+{i},v+{j}]"
    data = f"select({pad} <= h+{i} < {h + pad} & {pad} <= v+{j} < {w + pad}, {x}, 0.0)" if pad else x
    stage = (
        f"y: f32[{batch},{k},{out[0]},{out[1]}] = L[n:{batch},k:{k},h:{out[0]},v:{out[1]}] "
        f"max(sum[c:{c},r:{taps},s:{taps}]{{ {data} * u[k,c,r,s] }} + b[k], 0.0)"
    )
    return program(stage, f"x: f32[{batch},{c},{h},{w}]", f"u: f32[{k},{c},{taps},{taps}]; b: f32[{k}]")


def transposed(k: int, c: int, n: int, taps: int, stride: int, pad: int) -> Program:
    """A transposed convolution of one axis: each result sees the taps of its phase; some phases may have one less."""
    out, seen = (n - 1) * stride - 2 * pad + taps, -(-taps // stride)
    where, tap = (f"(t+{pad})//{stride}", f"(t+{pad})%{stride}+{stride}*r") if stride > 1 else (f"t+{pad}", "r")
    weight = f"u[c,k,{tap}]" if taps % stride == 0 else f"select(0 <= {tap} < {taps}, u[c,k,{tap}], 0.0)"
    data = f"select(0 <= {where}-r < {n}, x[c,{where}-r], 0.0)"
    stage = f"y: f32[{k},{out}] = L[k:{k},t:{out}] sum[c:{c},r:{seen}]{{ {data} * {weight} }}"
    return program(stage, f"x: f32[{c},{n}]", f"u: f32[{c},{k},{taps}]")


def upsampled(k: int, c: int, size: tuple[int, int], batch: int) -> Program:
    """A transposed convolution of 4 x 4 taps and stride 2."""
    h, w = size
    i, j = "(h+1)//2-r", "(v+1)//2-s"
    data = f"select(0 <= {i} < {h} & 0 <= {j} < {w}, x[n,c,{i},{j}], 0.0)"
    stage = (
        f"y: f32[{batch},{k},{2 * h},{2 * w}] = L[n:{batch},k:{k},h:{2 * h},v:{2 * w}] "
        f"tanh(sum[c:{c},r:2,s:2]{{ {data} * u[c,k,(h+1)%2+2*r,(v+1)%2+2*s] }})"
    )
    return program(stage, f"x: f32[{batch},{c},{h},{w}]", f"u: f32[{c},{k},4,4]")


LINE = program(
    "y: f32[9,37] = L[k:9,t:37] sum[c:8,r:4]{ select(2 <= t+r < 38, x[c,t+r-2], 0.0) * u[k,c,r] }",
    "x: f32[8,36]",
    "u: f32[9,8,4]",
)
CASES = {
    "padded": image(8, 9, 11, 13, 3, 1),
    "whole tiles": image(8, 8, 8, 12, 3, 1, batch=1),
    "no padding": image(9, 8, 10, 9, 3, 0),
    "dilated": image(8, 8, 12, 15, 3, 2, d=2),
    "dilated, padded more": image(8, 8, 14, 15, 3, 3, d=3, batch=1),
    "five taps": image(8, 8, 9, 10, 5, 2),
    "two taps": image(8, 8, 7, 9, 2, 1),
    "one axis": LINE,
    "transposed": transposed(8, 9, 7, 4, 2, 1),
    "transposed, three phases": transposed(9, 8, 6, 6, 3, 2),
    "transposed, fewer taps in a phase": transposed(8, 8, 9, 3, 2, 1),
    "transposed, no stride": transposed(8, 8, 11, 3, 1, 1),
    "transposed, two axes": upsampled(9, 8, (5, 4), 2),
}
