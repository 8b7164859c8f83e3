"""Sliding sums with fewer products: Toom and Cook's for one axis, Winograd's tiles for two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import ClassVar

from tpopt.ir import (
    Builder,
    Cast,
    Compute,
    DType,
    Index,
    Iter,
    Program,
    Read,
    Reduce,
    Scalar,
    Select,
    Structure,
    Tensor,
    const,
    guard,
    index,
    postorder,
    select,
    total,
)
from tpopt.ir.index import Atom, IndexLike, substitute, walk_atoms
from tpopt.ir.toom_cook import MOST_PRODUCTS
from tpopt.ir.walk import is_literal, map_indices, own_indices, rebuild, substitute_iters
from tpopt.rewrite import Numerics, Refusal
from tpopt.rewrite.contraction import contraction
from tpopt.rewrite.stages import constant_tensors

FEWEST_CHANNELS = 8
"""Terms of the sum and results a point, from which fewer products outweigh the transforms."""


@dataclass(frozen=True)
class _Slide:
    """A loop and the tap beside it: the data is read at ``loop + dilation * tap``, the weight at the tap alone."""

    loop: Iter
    tap: Iter
    dilation: int

    @property
    def taps(self) -> int:
        assert isinstance(self.tap.extent, int)
        return self.tap.extent

    @property
    def extent(self) -> int:
        assert isinstance(self.loop.extent, int)
        return self.loop.extent


@dataclass(frozen=True)
class _Sum:
    """``sum[summed]{ data * weight }`` of a stage, with what it slides along."""

    stage: Compute
    pivot: Reduce
    data: Scalar
    weight: Read
    slides: tuple[_Slide, ...]
    summed: tuple[Iter, ...]

    @property
    def own(self) -> tuple[Iter, ...]:
        """Loops that the weight alone depends on."""
        used = set(_iters(self.weight))
        return tuple(i for i in self.stage.loops if i in used)

    @property
    def shared(self) -> tuple[Iter, ...]:
        """Loops that the data alone depends on, those it slides along apart."""
        sliding = {s.loop for s in self.slides}
        return tuple(i for i in self.stage.loops if i not in sliding and i not in self.own)


@dataclass(frozen=True)
class Tiled:
    """Stages in place of one: transforms of weight and data, their products, and the result from these.

    ``matrices`` are the weights that they bring in.
    """

    weight: Compute
    data: Compute
    products: Compute
    root: Compute
    matrices: tuple[Tensor, ...]

    @property
    def stages(self) -> tuple[Compute, ...]:
        """All of them, in order."""
        return self.weight, self.data, self.products, self.root


@dataclass(frozen=True)
class ToomCook:
    """Replaces a sliding sum of products with products of transformed tiles.

    ``y[h] = sum over r of x[h + d r] w[r]`` takes one product for each tap and result; tiles of ``m`` results take
    ``m + r - 1`` after fixed transforms of data and weight, and so for two axes at once. The weight is transformed
    before the program runs. A dilation ``d`` makes tiles of every d-th element. Numerics: conditioning.

    Given::

        y: f32[8,64] = L[k:8,h:64] sum[c:8,r:3]{ select(1 <= h+r < 65, x[c,h+r-1], 0.0) * w[k,c,r] }

    Result (m = 2)::

        y.taps: f32[4,8,8] = L[a:4,k:8,c:8] sum[r:3]{ taps[a,r] * w[k,c,r] }
        y.data: f32[4,32,8] = L[a:4,t:32,c:8] sum[j:4]{ data[a,j] * select(1 <= 2*t+j < 65, x[c,2*t+j-1], 0.0) }
        y.products: f32[4,32,8] = L[a:4,t:32,k:8] sum[c:8]{ y.data[a,t,c] * y.taps[a,k,c] }
        y: f32[8,64] = L[k:8,h:64] sum[a:4]{ sums[h%2,a] * y.products[a,h//2,k] }
    """

    name: ClassVar[str] = "ToomCook"
    numerics: ClassVar[Numerics] = Numerics.CONDITIONING
    outputs: int = 4

    def run(self, program: Program, stage: Compute, builder: Builder) -> Tiled | Refusal:
        """The stages that take the place of one, or why there are none."""
        found = _recognised(stage, frozenset(constant_tensors(program)))
        if isinstance(found, Refusal):
            return found
        if any(self.outputs + s.taps - 1 > MOST_PRODUCTS for s in found.slides):
            return Refusal(f"tiles of {self.outputs} results would take more than {MOST_PRODUCTS} products")
        if any(s.extent < self.outputs * s.dilation for s in found.slides):
            return Refusal(f"there are fewer results than a tile of {self.outputs}")
        return _Writer(found, self.outputs, builder).run()


def _iters(term: Scalar) -> set[Iter]:
    return {a for t in postorder(term) for i in own_indices(t) for a in walk_atoms(i) if isinstance(a, Iter)}


def _recognised(stage: Compute, constants: frozenset[Tensor]) -> _Sum | Refusal:
    """The sum of a stage, if it slides along one loop or two."""
    match = contraction(stage)
    if match is None or len(match.factors) != 2:
        return Refusal("it is no sum of products of two factors")
    weights = [f for f in match.factors if isinstance(f, Read) and f.tensor in constants]
    if len(weights) != 1:
        return Refusal("one factor has to be a weight, read without a guard")
    (weight,) = weights
    data = match.factors[1] if match.factors[0] is weight else match.factors[0]
    if not _is_plain(data):
        return Refusal("the data is not read, with zeros around it")
    if stage.outs[0].dtype is not DType.F32 or weight.dtype is not DType.F32:
        return Refusal("only f32 is exact enough")
    if any(not isinstance(i.extent, int) for i in (*stage.loops, *match.summed)):
        return Refusal("a size is known only at run time")
    slides = tuple(s for t in match.summed if (s := _slide(data, weight, stage.loops, t)) is not None and s.taps > 1)
    if not 1 <= len(slides) <= 2 or len({s.loop for s in slides}) < len(slides):
        return Refusal("the data slides along no loop, or along more than two")
    pivot = next(t for t in postorder(*stage.bodies) if isinstance(t, Reduce))
    taps = {s.tap for s in slides}
    summed = tuple(i for i in match.summed if i not in taps)
    found = _Sum(stage, pivot, data, weight, slides, summed)
    used = _iters(data)
    if any(i in used for i in found.own) or any(i not in used or i not in _iters(weight) for i in summed):
        return Refusal("a loop runs through both factors, or a sum through one")
    if min(_product(found.own), _product(summed)) < FEWEST_CHANNELS:
        return Refusal(f"fewer than {FEWEST_CHANNELS} channels: the transforms would cost more than the products")
    return found


def _is_plain(data: Scalar) -> bool:
    """Whether a factor is a read, perhaps under guards with zero outside."""
    while isinstance(data, Select) and is_literal(data.outside, 0):
        data = data.inside
    return isinstance(data, Read)


def _product(iters: Sequence[Iter]) -> int:
    count = 1
    for i in iters:
        assert isinstance(i.extent, int)
        count *= i.extent
    return count


def _slide(data: Scalar, weight: Read, loops: Sequence[Iter], tap: Iter) -> _Slide | None:
    """The loop that a tap moves along: wherever one occurs in the data, both do, as ``loop + dilation * tap``."""
    if tap not in _iters(weight):
        return None
    indices = [i for t in postorder(data) for i in own_indices(t) if tap in walk_atoms(i)]
    for loop in loops:
        if loop in _iters(weight) or not indices:
            continue
        steps = {(i.coefficient(loop).constant, i.coefficient(tap).constant) for i in indices}
        if len(steps) != 1:
            continue
        ((one, dilation),) = steps
        if one == 1 and dilation is not None and dilation >= 1:
            moved = {loop: index(loop) - dilation * index(tap)}
            if tap not in _iters(map_indices(data, lambda i, m=moved: substitute(i, dict(m)))):  # type: ignore[misc]
                return _Slide(loop, tap, dilation)
    return None


@dataclass
class _Tile:
    """A slide in tiles: ``loop = dilation * (m * number + place) + phase``."""

    slide: _Slide
    m: int
    point: Iter
    inner: Iter
    number: Iter
    phase: Iter | None

    @property
    def outer(self) -> tuple[Iter, ...]:
        return (self.number,) if self.phase is None else (self.number, self.phase)

    def position(self, place: IndexLike) -> Index:
        """The loop's value at a place of the tile."""
        d = self.slide.dilation
        phase = 0 if self.phase is None else self.phase
        return index(self.number) * (d * self.m) + index(place) * d + phase

    def where(self) -> tuple[Index, ...]:
        """Number and phase of the tile that a value of the loop belongs to."""
        d = self.slide.dilation
        number = index(self.slide.loop) // (d * self.m)
        return (number,) if self.phase is None else (number, self.slide.loop % d)

    def place(self) -> Index:
        """Its place within the tile."""
        return (index(self.slide.loop) // self.slide.dilation) % self.m


@dataclass
class _Writer:
    given: _Sum
    m: int
    builder: Builder
    made: dict[Structure, Tensor] = field(default_factory=dict)

    def run(self) -> Tiled:
        given = self.given
        tiles = [self._tile(s, n) for n, s in enumerate(given.slides)]
        base = given.stage.outs[0].name
        sums, taps, data = ([self._matrix(f"{base}.{p}", p, t) for t in tiles] for p in ("sums", "taps", "data"))
        points = tuple(t.point for t in tiles)
        weight = self._stage(f"{base}.taps.weight", (*points, *given.own, *given.summed), self._weight(tiles, taps))
        outer = (*given.shared, *(i for t in tiles for i in t.outer))
        moved = self._stage(f"{base}.data.tiles", (*points, *outer, *given.summed), self._data(tiles, data))
        product = moved.outs[0].at((*points, *outer, *given.summed)) * weight.outs[0].at(
            (*points, *given.own, *given.summed)
        )
        products = self._stage(f"{base}.products", (*points, *outer, *given.own), total(given.summed, product))
        where: tuple[IndexLike, ...] = (*given.shared, *(i for t in tiles for i in t.where()))
        value: Scalar = products.outs[0].at((*points, *where, *given.own))
        for tile, matrix in zip(reversed(tiles), reversed(sums), strict=True):
            value = total((tile.point,), matrix.at((tile.place(), tile.point)) * value)
        stage = given.stage
        body = rebuild(stage.bodies[0], lambda t: value if t is given.pivot else t)
        root = Compute(stage.outs, stage.loops, (body,))
        return Tiled(weight, moved, products, root, tuple(self.made.values()))

    def _tile(self, slide: _Slide, number: int) -> _Tile:
        products = self.m + slide.taps - 1
        count = ceil(slide.extent / (self.m * slide.dilation))
        phase = Iter(f"p{number}", slide.dilation) if slide.dilation > 1 else None
        names = (f"a{number}", f"j{number}", f"t{number}")
        return _Tile(slide, self.m, Iter(names[0], products), Iter(names[1], products), Iter(names[2], count), phase)

    def _matrix(self, name: str, part: str, tile: _Tile) -> Tensor:
        products = self.m + tile.slide.taps - 1
        shape = {"sums": (self.m, products), "taps": (products, tile.slide.taps), "data": (products, products)}[part]
        structure = Structure("toom_cook", (part, self.m, tile.slide.taps))
        if structure not in self.made:
            dtype = DType.F64 if part == "taps" else DType.F32
            self.made[structure] = Tensor(self.builder.name(name), shape, dtype, structure=structure)
        return self.made[structure]

    def _stage(self, name: str, loops: tuple[Iter, ...], body: Scalar) -> Compute:
        shape = tuple(i.extent for i in loops)
        return Compute((Tensor(self.builder.name(name), shape, body.dtype),), loops, (body,))

    def _weight(self, tiles: Sequence[_Tile], matrices: Sequence[Tensor]) -> Scalar:
        value: Scalar = Cast(DType.F64, self.given.weight)
        for tile, matrix in zip(reversed(tiles), reversed(matrices), strict=True):
            value = total((tile.slide.tap,), matrix.at((tile.point, tile.slide.tap)) * value)
        return Cast(DType.F32, value)

    def _data(self, tiles: Sequence[_Tile], matrices: Sequence[Tensor]) -> Scalar:
        mapping: dict[Atom, IndexLike] = {}
        for tile in tiles:
            mapping |= {tile.slide.loop: tile.position(tile.inner), tile.slide.tap: index(0)}
        value = _inside(substitute_iters(self.given.data, mapping))
        for tile, matrix in zip(reversed(tiles), reversed(matrices), strict=True):
            value = total((tile.inner,), matrix.at((tile.point, tile.inner)) * value)
        return value


def _inside(data: Scalar) -> Scalar:
    """A read that stays inside its tensor wherever the last tiles reach."""
    read = next(t for t in postorder(data) if isinstance(t, Read))
    axes = zip(read.indices, read.tensor.shape, strict=True)
    held = select(guard(*((0, where, size) for where, size in axes)), read, _zero(read))
    return held if data is read else _merged(data, read, held)


def _zero(read: Read) -> Scalar:
    return const(0.0, read.dtype)


def _merged(data: Scalar, read: Read, held: Scalar) -> Scalar:
    """The guards of ``data`` around the read, those that only keep it inside its tensor once."""
    if not isinstance(held, Select):
        return data
    bounds = dict.fromkeys(held.guard.bounds)
    term = data
    while isinstance(term, Select):
        bounds.update(dict.fromkeys(term.guard.bounds))
        term = term.inside
    return select(guard(*((b.low, b.value, b.high) for b in bounds)), read, _zero(read))
