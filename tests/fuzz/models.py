"""Random torch models: a list of steps over earlier values, so that one that fails can be made smaller.

A recipe is data. Each step names an operator, the values it reads, and its attributes; whatever a step needs of shapes
and types was checked when it was drawn, by running it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_ELEMENTS = 4096
Attrs = tuple[Any, ...]


@dataclass(frozen=True)
class Given:
    """An input or a weight: drawn from ``seed``; ``high`` bounds integers."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    seed: int
    weight: bool = False
    high: int = 5

    def value(self) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        if self.dtype is torch.bool:
            return torch.randint(0, 2, self.shape, generator=generator).bool()
        if self.dtype.is_floating_point:
            return torch.randn(self.shape, generator=generator).to(self.dtype)
        return torch.randint(0, self.high, self.shape, generator=generator, dtype=self.dtype)


@dataclass(frozen=True)
class Step:
    """One operator on values by number: the given ones first, then the results of steps."""

    name: str
    reads: tuple[int, ...]
    attrs: Attrs = ()


@dataclass(frozen=True)
class Recipe:
    """A model and its inputs; the results are those of the steps in ``results``, by number."""

    given: tuple[Given, ...]
    steps: tuple[Step, ...]
    results: tuple[int, ...]

    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(g.value() for g in self.given if not g.weight)


class Model(nn.Module):
    """Runs a recipe."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        for number, given in enumerate(recipe.given):
            if given.weight:
                self.register_buffer(f"w{number}", given.value())
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        left = iter(inputs)
        values = [getattr(self, f"w{n}") if g.weight else next(left) for n, g in enumerate(self.recipe.given)]
        for step in self.recipe.steps:
            values.append(OPERATORS[step.name](*(values[r] for r in step.reads), *step.attrs))
        return tuple(values[r] for r in self.recipe.results)


def _slice(x: Tensor, axis: int, start: int, stop: int, stride: int) -> Tensor:
    return x[(slice(None),) * axis + (slice(start, stop, stride),)]


def _added_in_place(x: Tensor, y: Tensor) -> Tensor:
    made = x * 1
    made += y
    return made


def _part_overwritten(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    made = x.clone()
    made[(slice(None),) * axis + (slice(start, stop),)] *= 2
    return made


def _masked(x: Tensor) -> Tensor:
    return x.masked_fill(x < 0, -1)


def _variance(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    if x.numel() < 2 * torch.sum(x, axes).numel():
        raise ValueError("a variance of fewer than two elements")
    return torch.var(x, axes)


def _normed(x: Tensor, count: int) -> Tensor:
    return F.layer_norm(x, x.shape[-count:])


UNARY: dict[str, Callable[..., Tensor]] = {
    "relu": torch.relu, "gelu": F.gelu, "silu": F.silu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "neg": torch.neg,
    "abs": torch.abs, "exp": lambda x: torch.exp(x.clamp(max=3)), "log1p": lambda x: torch.log1p(x.abs()),
    "sqrt": lambda x: x.abs().sqrt(), "square": torch.square, "sin": torch.sin, "floor": torch.floor,
    "leaky": F.leaky_relu, "elu": F.elu, "hardswish": F.hardswish, "softplus": F.softplus, "erf": torch.erf,
    "clamp": lambda x: x.clamp(-0.5, 0.75), "sign": torch.sign, "masked": _masked, "clone": torch.clone,
    "rsqrt": lambda x: torch.rsqrt(x.abs() + 1), "reciprocal": lambda x: 1 / (x.abs() + 1),
    "half": lambda x: x * 0.5 - 1,
    "contiguous": lambda x: x.contiguous(), "mish": F.mish, "round": torch.round,
}  # fmt: skip
BINARY: dict[str, Callable[..., Tensor]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "maximum": torch.maximum, "minimum": torch.minimum,
    "div": lambda x, y: x / (y.abs() + 1), "where": lambda x, y: torch.where(x > y, x, y * 2), "atan2": torch.atan2,
    "in_place": _added_in_place, "addcmul": lambda x, y: torch.addcmul(x, x, y, value=0.5),
    "lerp": lambda x, y: torch.lerp(x, y, 0.25),
    "compared": lambda x, y: (x <= y).to(x.dtype) + x,
}  # fmt: skip
OPERATORS: dict[str, Callable[..., Any]] = {
    **UNARY, **BINARY,
    "linear": F.linear, "matmul": torch.matmul, "conv2d": F.conv2d, "conv1d": F.conv1d, "norm": _normed,
    "conv_transpose2d": F.conv_transpose2d, "softmax": torch.softmax, "log_softmax": torch.log_softmax,
    "batch_norm": lambda x, m, v: F.batch_norm(x, m, v.abs() + 0.5, training=False),
    "sum": torch.sum, "mean": torch.mean, "amax": torch.amax,
    "logsumexp": torch.logsumexp, "var": _variance, "argmax": torch.argmax, "cumsum": torch.cumsum,
    "reshape": torch.reshape, "permute": torch.permute, "slice": _slice, "flip": torch.flip, "roll": torch.roll,
    "unsqueeze": torch.unsqueeze, "squeeze": torch.squeeze, "expand": lambda x, n: x.unsqueeze(0).expand(n, *x.shape),
    "cat": lambda x, y, axis: torch.cat((x, y), axis), "stack": lambda x, y, axis: torch.stack((x, y), axis),
    "pad": lambda x, pads, mode: F.pad(x, pads, mode=mode), "max_pool2d": F.max_pool2d, "avg_pool2d": F.avg_pool2d,
    "adaptive": F.adaptive_avg_pool2d, "interpolate": lambda x, n, mode: F.interpolate(x, scale_factor=n, mode=mode),
    "embedding": lambda i, w: F.embedding(i, w), "index_select": lambda x, i, axis: torch.index_select(x, axis, i),
    "gather": lambda x, i: torch.gather(x, 0, i), "scatter_add": lambda x, i, y: x.scatter_add(0, i, y),
    "sort": lambda x, axis: torch.sort(x, axis).values, "topk": lambda x, k: torch.topk(x, k, -1).values,
    "einsum": lambda x, y, text: torch.einsum(text, x, y), "overwritten": _part_overwritten,
    "diagonal": torch.diagonal, "unfold": lambda x, axis, size, step: x.unfold(axis, size, step),
    "chunk": lambda x, axis: torch.chunk(x, 2, axis)[-1],
    "attention": F.scaled_dot_product_attention, "group_norm": F.group_norm, "pixel": F.pixel_shuffle,
    "repeat": lambda x, axis, n: torch.repeat_interleave(x, n, axis), "one_hot": lambda i, n: F.one_hot(i, n).float(),
    "glu": F.glu,
}  # fmt: skip


class Drawer:
    """Draws steps, each run at once on the values so far."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.given: list[Given] = []
        self.steps: list[Step] = []
        self.values: list[Tensor] = []

    def add(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, *, weight: bool = False, high: int = 5
    ) -> int:
        """A new input or weight: given values come before all steps, so the numbers of the steps move up."""
        made = Given(tuple(shape), dtype, self.rng.randrange(1 << 30), weight, high)
        at = len(self.given)
        moved = [replace(s, reads=tuple(r + (r >= at) for r in s.reads)) for s in self.steps]
        self.given.append(made)
        self.steps = moved
        self.values.insert(at, made.value())
        return at

    def pick(self, fits: Callable[[Tensor], bool]) -> int | None:
        """A value that fits, late ones rather than early ones."""
        found = [n for n, v in enumerate(self.values) if fits(v) and not (n < len(self.given) and self.given[n].weight)]
        return self.rng.choice(found[-6:]) if found else None

    def put(self, name: str, reads: Sequence[int], *attrs: Any) -> bool:
        """Runs a step and keeps it, unless its result is too large, empty by accident, or the step is refused."""
        try:
            value = OPERATORS[name](*(self.values[r] for r in reads), *attrs)
        except (RuntimeError, ValueError, IndexError, TypeError):
            return False
        if value.numel() > MOST_ELEMENTS or (value.is_floating_point() and not bool(value.abs().lt(1e4).all())):
            return False
        self.steps.append(Step(name, tuple(reads), attrs))
        self.values.append(value)
        return True


def _real(x: Tensor) -> bool:
    return x.dtype is torch.float32


def draw_unary(d: Drawer) -> None:
    if (x := d.pick(_real)) is not None:
        d.put(d.rng.choice(list(UNARY)), [x])


def draw_binary(d: Drawer) -> None:
    x = d.pick(_real)
    if x is None:
        return
    shape = list(d.values[x].shape)
    y = d.pick(lambda v: _real(v) and v.dim() <= len(shape)) if d.rng.random() < 0.6 else None
    if y is None:
        cut = shape[d.rng.randint(0, len(shape)) :]
        y = d.add([n if d.rng.random() < 0.6 else 1 for n in cut], weight=d.rng.random() < 0.7)
        x += x >= y
    d.put(d.rng.choice(list(BINARY)), [x, y])


def draw_product(d: Drawer) -> None:
    x = d.pick(lambda v: _real(v) and v.dim() >= 1 and v.shape[-1] > 0)
    if x is None:
        return
    depth, rank = d.values[x].shape[-1], d.values[x].dim()
    columns = d.rng.choice((1, 2, 3, 5, 8, 17))
    kind = d.rng.randrange(4)
    if kind == 0:
        w, b = d.add((columns, depth), weight=True), d.add((columns,), weight=True)
        d.put("linear", [x + 2 if x >= w else x, w, b])
    elif kind == 1:
        w = d.add((depth, columns), weight=d.rng.random() < 0.6)
        d.put("matmul", [x + (x >= w), w])
    elif kind == 2 and rank >= 2:
        w = d.add((*d.values[x].shape[:-2], depth, columns))
        d.put("matmul", [x + (x >= w), w])
    elif rank == 2:
        w = d.add((columns, depth), weight=d.rng.random() < 0.5)
        d.put("einsum", [x + (x >= w), w], d.rng.choice(("ij,kj->ik", "ij,kj->ki", "ij,kj->jk", "ij,kj->i")))


def draw_convolution(d: Drawer) -> None:
    x = d.pick(lambda v: _real(v) and v.dim() == 4 and min(v.shape) > 0)
    if x is None:
        return
    groups = d.rng.choice((1, 1, 1, d.values[x].shape[1]))
    channels = d.values[x].shape[1]
    outs = groups * d.rng.choice((1, 2, 3, 8))
    taps = (d.rng.randint(1, 3), d.rng.randint(1, 3))
    transposed = d.rng.random() < 0.2
    shape = (channels, outs // groups, *taps) if transposed else (outs, channels // groups, *taps)
    w = d.add(shape, weight=True)
    b = d.add((outs,), weight=True)
    x += 2 if x >= w else 0
    stride, padding, dilation = d.rng.choice((1, 1, 2)), d.rng.choice((0, 1)), d.rng.choice((1, 1, 2))
    if transposed:
        d.put("conv_transpose2d", [x, w, b], stride, padding, 0, groups)
    else:
        d.put("conv2d", [x, w, b], stride, padding, dilation, groups)


def draw_normalization(d: Drawer) -> None:
    x = d.pick(lambda v: _real(v) and v.dim() >= 1 and v.numel() > 0)
    if x is None:
        return
    rank = d.values[x].dim()
    kind = d.rng.choice(("norm", "softmax", "log_softmax", "batch_norm", "group_norm", "glu", "logsumexp"))
    axis = d.rng.randint(-rank, rank - 1)
    if kind == "batch_norm":
        if rank < 2:
            return
        channels = d.values[x].shape[1]
        m, v = d.add((channels,), weight=True), d.add((channels,), weight=True)
        d.put("batch_norm", [x + 2 if x >= m else x, m, v])
    elif kind == "norm":
        d.put("norm", [x], d.rng.randint(1, rank))
    elif kind == "group_norm":
        d.put("group_norm", [x], 1)
    elif kind == "logsumexp":
        d.put("logsumexp", [x], axis, d.rng.random() < 0.5)
    else:
        d.put(kind, [x], axis)


def draw_reduction(d: Drawer) -> None:
    x = d.pick(lambda v: _real(v) and v.dim() >= 1)
    if x is None:
        return
    rank = d.values[x].dim()
    axes = tuple(sorted(d.rng.sample(range(rank), d.rng.randint(1, rank))))
    kind = d.rng.choice(("sum", "mean", "amax", "var", "argmax", "cumsum"))
    if kind in ("argmax", "cumsum"):
        d.put(kind, [x], axes[0])
    elif kind == "var":
        d.put("var", [x], axes)
    else:
        d.put(kind, [x], axes, d.rng.random() < 0.5)


def draw_view(d: Drawer) -> None:
    x = d.pick(lambda v: v.dim() >= 1)
    if x is None:
        return
    shape = list(d.values[x].shape)
    rank, axis = len(shape), d.rng.randrange(len(shape))
    if d.rng.random() < 0.3:
        d.put(d.rng.choice(("unsqueeze", "squeeze", "chunk")), [x], axis)
        return
    match d.rng.randrange(8):
        case 0:
            flat = d.values[x].numel()
            first = d.rng.choice([n for n in range(1, flat + 1) if flat % n == 0] or [1])
            d.put("reshape", [x], (first, -1))
        case 1:
            d.put("permute", [x], tuple(d.rng.sample(range(rank), rank)))
        case 2:
            start = d.rng.randrange(max(shape[axis], 1))
            d.put("slice", [x], axis, start, d.rng.randint(start, shape[axis]), d.rng.choice((1, 1, 2)))
        case 3:
            d.put("flip", [x], (axis,))
        case 4:
            d.put("roll", [x], d.rng.randint(-3, 3), axis)
        case 5:
            d.put("expand", [x], d.rng.choice((1, 2, 3)))
        case 6:
            d.put("unfold", [x], axis, d.rng.randint(1, max(1, min(3, shape[axis]))), d.rng.choice((1, 2)))
        case 7:
            d.put("diagonal", [x], d.rng.choice((-1, 0, 1)), 0, rank - 1)


def draw_layout(d: Drawer) -> None:
    x = d.pick(lambda v: _real(v) and v.dim() >= 1 and v.numel() > 0)
    if x is None:
        return
    value = d.values[x]
    rank, axis = value.dim(), d.rng.randrange(value.dim())
    match d.rng.randrange(9):
        case 0 | 1:
            y = d.pick(lambda v: _real(v) and v.dim() == rank)
            d.put("cat", [x, x if y is None else y], axis)
        case 2:
            d.put("stack", [x, x], axis)
        case 3:
            pads = tuple(d.rng.randint(-1, 2) for _ in range(2 * d.rng.randint(1, rank)))
            d.put("pad", [x], pads, "constant")
        case 4:
            d.put("pad", [x], (1, 1) if rank < 4 else (1, 1, 1, 0), d.rng.choice(("reflect", "replicate", "circular")))
        case 5:
            d.put("overwritten", [x], axis, 0, max(1, value.shape[axis] // 2))
        case 6:
            d.put("repeat", [x], axis, 2)
        case 7:
            d.put("sort", [x], axis)
        case 8:
            d.put("topk", [x], max(1, value.shape[-1] // 2))


def draw_image(d: Drawer) -> None:
    x = d.pick(lambda v: _real(v) and v.dim() == 4 and min(v.shape) > 0)
    if x is None:
        return
    match d.rng.randrange(5):
        case 0:
            d.put("max_pool2d", [x], d.rng.randint(1, 3), d.rng.randint(1, 2), d.rng.choice((0, 1)))
        case 1:
            d.put("avg_pool2d", [x], d.rng.randint(1, 3), d.rng.randint(1, 2), d.rng.choice((0, 1)))
        case 2:
            d.put("adaptive", [x], (d.rng.randint(1, 3), d.rng.randint(1, 3)))
        case 3:
            d.put("interpolate", [x], d.rng.choice((2.0, 1.5, 0.5)), d.rng.choice(("nearest", "bilinear", "bicubic")))
        case 4:
            d.put("pixel", [x], 2)


def draw_lookup(d: Drawer) -> None:
    rows = d.rng.randint(2, 6)
    kind = d.rng.choice(("embedding", "index_select", "gather", "scatter_add", "one_hot"))
    if kind == "embedding":
        i, w = d.add((2, d.rng.randint(1, 4)), torch.int64, high=rows), d.add((rows, d.rng.randint(1, 5)), weight=True)
        d.put("embedding", [i, w])
        return
    x = d.pick(lambda v: _real(v) and v.dim() >= 1 and v.shape[0] > 0)
    if x is None:
        return
    shape = d.values[x].shape
    if kind == "index_select":
        i = d.add((d.rng.randint(1, 4),), torch.int64, high=shape[0])
        d.put("index_select", [x + (x >= i), i], 0)
    elif kind == "one_hot":
        i = d.add((d.rng.randint(1, 4),), torch.int64, high=rows)
        d.put("one_hot", [i], rows)
    else:
        i = d.add((d.rng.randint(1, 3), *shape[1:]), torch.int64, high=shape[0])
        x += x >= i
        if kind == "gather":
            d.put("gather", [x, i])
        else:
            y = d.add((d.values[i].shape), weight=False)
            d.put("scatter_add", [x + (x >= y), i, y])


def draw_attention(d: Drawer) -> None:
    length, size = d.rng.randint(1, 6), d.rng.choice((1, 4, 8))
    q = d.add((1, 2, d.rng.randint(1, 6), size))
    k, v = d.add((1, 2, length, size)), d.add((1, 2, length, size))
    d.put("attention", [q, k, v])


PARTS: dict[Callable[[Drawer], None], int] = {
    draw_unary: 6, draw_binary: 6, draw_product: 4, draw_convolution: 3, draw_normalization: 3, draw_reduction: 3,
    draw_view: 6, draw_layout: 3, draw_image: 2, draw_lookup: 1, draw_attention: 1,
}  # fmt: skip


def random_recipe(seed: int, steps: int = 8) -> Recipe:
    """The recipe of that seed, of at most so many steps."""
    d = Drawer(seed)
    d.add([d.rng.randint(1, 5) for _ in range(d.rng.choice((1, 2, 3)))])
    d.add((d.rng.randint(1, 2), d.rng.randint(1, 4), d.rng.randint(3, 9), d.rng.randint(3, 9)))
    if d.rng.random() < 0.2:
        d.add((d.rng.randint(1, 3), 0) if d.rng.random() < 0.3 else ())
    parts, weights = zip(*PARTS.items(), strict=True)
    for _ in range(4 * steps):
        if len(d.steps) >= steps:
            break
        d.rng.choices(parts, weights)[0](d)
    if not d.steps:
        d.put("half", [0])
    read = {r for s in d.steps for r in s.reads}
    made = range(len(d.given), len(d.values))
    results = tuple(n for n in made if n not in read or n == made[-1])
    return Recipe(tuple(d.given), tuple(d.steps), results[-4:])
