"""Small kernels of every kind, at sizes that are no multiples of anything, and how far results may be off."""

from __future__ import annotations

import torch

CASES: dict[str, tuple[str, str, dict[str, tuple[int, ...]]]] = {
    "pointwise with a broadcast": ("y: f32[5,37] = L[i:5,j:37] x[i,j] * 2.0 + b[j]", "y", {"x": (5, 37), "b": (37,)}),
    "a transpose": ("y: f32[37,21] = L[i:37,j:21] x[j,i]", "y", {"x": (21, 37)}),
    "a flip": ("y: f32[3,19] = L[i:3,j:19] x[i,18-j]", "y", {"x": (3, 19)}),
    "a strided slice": ("y: f32[3,9] = L[i:3,j:9] x[i,2*j+1]", "y", {"x": (3, 19)}),
    "a joined axis": ("y: f32[5,48] = L[i:5,j:48] x[j//16,i,j%16]", "y", {"x": (3, 5, 16)}),
    "an odd joined axis": ("y: f32[5,21] = L[i:5,j:21] x[j//7,i,j%7]", "y", {"x": (3, 5, 7)}),
    "padding": ("y: f32[4,25] = L[i:4,j:25] select(3 <= j < 20, x[i,j-3], 7.0)", "y", {"x": (4, 17)}),
    "two parts side by side": (
        "y: f32[4,25] = L[i:4,j:25] select(0 <= j < 18, x[i,j], z[i,j-18])",
        "y",
        {"x": (4, 18), "z": (4, 7)},
    ),
    "a sum of rows": ("y: f32[7] = L[i:7] sum[k:301]{ x[i,k] }", "y", {"x": (7, 301)}),
    "a sum of columns": ("y: f32[301] = L[i:301] sum[k:7]{ x[k,i] }", "y", {"x": (7, 301)}),
    "a long sum": ("y: f32[3] = L[i:3] sum[k:5000]{ x[i,k] }", "y", {"x": (3, 5000)}),
    "the largest": ("y: f32[7] = L[i:7] max[k:45]{ x[i,k] }", "y", {"x": (7, 45)}),
    "where the largest is": (
        "y: f32[7], p: i64[7] = L[i:7] argmax[k:45].0{ x[i,k], @(k) }, argmax[k:45].1{ x[i,k], @(k) }",
        "y, p",
        {"x": (7, 45)},
    ),
    "mean and variance": (
        (
            "m: f32[6], v: f32[6] = L[i:6] welford[k:77].0{ x[i,k], 0.0:f32, 1.0:f32 }, "
            "welford[k:77].1{ x[i,k], 0.0, 1.0:f32 }"
        ),
        "m, v",
        {"x": (6, 77)},
    ),
    "a product of matrices": (
        "y: f32[13,29] = L[i:13,j:29] sum[k:31]{ x[i,k] * w[k,j] }",
        "y",
        {"x": (13, 31), "w": (31, 29)},
    ),
    "a product with transposed weights": (
        "y: f32[13,29] = L[i:13,j:29] sum[k:31]{ x[i,k] * w[j,k] } + b[j]",
        "y",
        {"x": (13, 31), "w": (29, 31), "b": (29,)},
    ),
    "a convolution": (
        (
            "y: f32[2,5,9,11] = L[n:2,o:5,h:9,v:11] sum[c:3,a:3,b:3]{ select(0 <= h+a-1 < 9 & 0 <= v+b-1 < 11, "
            "x[n,c,h+a-1,v+b-1], 0.0) * w[o,c,a,b] }"
        ),
        "y",
        {"x": (2, 3, 9, 11), "w": (5, 3, 3, 3)},
    ),
    "a depthwise convolution with strides": (
        (
            "y: f32[6,5,5] = L[c:6,h:5,v:5] sum[a:3,b:3]{ select(1 <= 2*h+a < 10 & 1 <= 2*v+b < 10, "
            "x[c,2*h+a-1,2*v+b-1], 0.0) * w[c,a,b] }"
        ),
        "y",
        {"x": (6, 9, 9), "w": (6, 3, 3)},
    ),
    "softmax": (
        (
            "t: f32[9], s: f32[9] = L[i:9] logsumexp[k:33].0{ x[i,k], 1.0:f32 }, logsumexp[k:33].1{ x[i,k], 1.0:f32 }\n"
            "y: f32[9,33] = L[i:9,j:33] exp(x[i,j] - t[i]) / s[i]"
        ),
        "y",
        {"x": (9, 33)},
    ),
    "two layers over the channels of an image": (
        (
            "h: f32[2,40,19,50] = L[n:2,m:40,h:19,v:50] tanh(sum[c:5]{ x[n,c,h,v] * w[m,c] })\n"
            "y: f32[2,6,19,50] = L[n:2,o:6,h:19,v:50] sum[m:40]{ h[n,m,h,v] * u[o,m] }"
        ),
        "y",
        {"x": (2, 5, 19, 50), "w": (40, 5), "u": (6, 40)},
    ),
    "a residual that others need too": (
        (
            "a: f32[9,33] = L[i:9,j:33] x[i,j] + z[i,j]\n"
            "m: f32[9] = L[i:9] sum[k:33]{ a[i,k] }\n"
            "y: f32[9,33] = L[i:9,j:33] a[i,j] - m[i]"
        ),
        "y, a",
        {"x": (9, 33), "z": (9, 33)},
    ),
}


def inputs(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(0)
    return {n: torch.randn(s, generator=drawn).to(dtype) for n, s in shapes.items()}


def difference(results: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> float:
    """The largest difference, relative where the expected value is above 1; NaN where a NaN is not expected."""
    assert [(r.shape, r.dtype) for r in results] == [(e.shape, r.dtype) for r, e in zip(results, expected, strict=True)]
    off = [
        (r.double() - e.double()).abs() / e.double().abs().clamp(min=1.0)
        for r, e in zip(results, expected, strict=True)
    ]
    return max(float(d.max()) for d in off)
