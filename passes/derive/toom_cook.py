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
    Scalar,
    Structure,
    Tensor,
    index,
    total,
)
from tpopt.ir.index import Atom, IndexLike
from tpopt.ir.toom_cook import MOST_PRODUCTS
from tpopt.ir.walk import rebuild, substitute_iters
from tpopt.passes.derive.slides import Slide, SlidingSum, computed, count_of, inside, sliding_sum
from tpopt.rewrite import Numerics, Refusal
from tpopt.rewrite.stages import constant_tensors

FEWEST_CHANNELS = 8
"""Terms of the sum and results a point, from which fewer products outweigh the transforms."""


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
    before the program runs. A dilation ``d`` makes tiles of every d-th element, and so does a transposed convolution of
    stride ``d``, whose elements of one phase see the same taps. Numerics: conditioning.

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
        found = sliding_sum(stage, frozenset(constant_tensors(program)))
        if isinstance(found, Refusal):
            return found
        if stage.outs[0].dtype is not DType.F32 or found.weight.dtype is not DType.F32:
            return Refusal("only f32 is exact enough")
        if min(count_of(found.own), count_of(found.summed)) < FEWEST_CHANNELS:
            return Refusal(f"fewer than {FEWEST_CHANNELS} channels: the transforms would cost more than the products")
        if any(self.outputs + s.taps - 1 > MOST_PRODUCTS for s in found.slides):
            return Refusal(f"tiles of {self.outputs} results would take more than {MOST_PRODUCTS} products")
        if any(s.extent < self.outputs * s.phases for s in found.slides):
            return Refusal(f"there are fewer results than a tile of {self.outputs}")
        return _Writer(found, self.outputs, builder).run()


@dataclass
class _Tile:
    """A slide in tiles: ``loop = phases * (m * number + place) + phase``."""

    slide: Slide
    m: int
    point: Iter
    inner: Iter
    number: Iter
    phase: Iter | None

    @property
    def outer(self) -> tuple[Iter, ...]:
        """Iterators of the data's tiles alone."""
        return (self.number,) if self.phase is None or self.slide.weighted else (self.number, self.phase)

    @property
    def batch(self) -> tuple[Iter, ...]:
        """Iterators of the data's tiles and the weight's."""
        return (self.phase,) if self.phase is not None and self.slide.weighted else ()

    def position(self, place: IndexLike) -> Index:
        """The loop's value at a place of the tile."""
        d = self.slide.phases
        phase = 0 if self.phase is None else self.phase
        return index(self.number) * (d * self.m) + index(place) * d + phase

    def where(self) -> dict[Iter, Index]:
        """Number and phase of the tile that a value of the loop belongs to."""
        d = self.slide.phases
        found = {self.number: index(self.slide.loop) // (d * self.m)}
        return found if self.phase is None else {**found, self.phase: self.slide.loop % d}

    def place(self) -> Index:
        """Its place within the tile."""
        return (index(self.slide.loop) // self.slide.phases) % self.m


@dataclass
class _Writer:
    given: SlidingSum
    m: int
    builder: Builder
    made: dict[Structure, Tensor] = field(default_factory=dict)

    def run(self) -> Tiled:
        given = self.given
        tiles = [self._tile(s, n) for n, s in enumerate(given.slides)]
        base = given.stage.outs[0].name
        sums, taps, data = ([self._matrix(f"{base}.{p}", p, t) for t in tiles] for p in ("sums", "taps", "data"))
        points = tuple(t.point for t in tiles)
        batch = (*points, *(i for t in tiles for i in t.batch))
        outer = (*given.shared, *(i for t in tiles for i in t.outer))
        weight = computed(
            self.builder, f"{base}.taps.weight", (*batch, *given.own, *given.summed), self._weight(tiles, taps)
        )
        moved = computed(self.builder, f"{base}.data.tiles", (*batch, *outer, *given.summed), self._data(tiles, data))
        product = moved.outs[0].at((*batch, *outer, *given.summed)) * weight.outs[0].at(
            (*batch, *given.own, *given.summed)
        )
        loops = (*batch, *outer, *given.own)
        products = computed(self.builder, f"{base}.products", loops, total(given.summed, product))
        tile_of = {i: where for t in tiles for i, where in t.where().items()}
        value: Scalar = products.outs[0].at([tile_of.get(i, index(i)) for i in loops])
        for tile, matrix in zip(reversed(tiles), reversed(sums), strict=True):
            value = total((tile.point,), matrix.at((tile.place(), tile.point)) * value)
        stage = given.stage
        body = rebuild(stage.bodies[0], lambda t: value if t is given.pivot else t)
        root = Compute(stage.outs, stage.loops, (body,))
        return Tiled(weight, moved, products, root, tuple(self.made.values()))

    def _tile(self, slide: Slide, number: int) -> _Tile:
        products = self.m + slide.taps - 1
        count = ceil(slide.extent / (self.m * slide.phases))
        phase = Iter(f"p{number}", slide.phases) if slide.phases > 1 else None
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

    def _weight(self, tiles: Sequence[_Tile], matrices: Sequence[Tensor]) -> Scalar:
        mapping: dict[Atom, IndexLike] = {}
        for tile in tiles:
            mapping |= {tile.slide.loop: 0 if tile.phase is None else tile.phase}
            mapping |= {tile.slide.tap: tile.slide.tap_at(tile.slide.tap)}
        value: Scalar = Cast(DType.F64, substitute_iters(self.given.weight, mapping))
        for tile, matrix in zip(reversed(tiles), reversed(matrices), strict=True):
            value = total((tile.slide.tap,), matrix.at((tile.point, tile.slide.tap)) * value)
        return Cast(DType.F32, value)

    def _data(self, tiles: Sequence[_Tile], matrices: Sequence[Tensor]) -> Scalar:
        mapping: dict[Atom, IndexLike] = {}
        for tile in tiles:
            mapping |= {tile.slide.loop: tile.position(tile.inner), tile.slide.tap: tile.slide.tap_at(0)}
        value = inside(substitute_iters(self.given.data, mapping))
        for tile, matrix in zip(reversed(tiles), reversed(matrices), strict=True):
            value = total((tile.inner,), matrix.at((tile.point, tile.inner)) * value)
        return value
