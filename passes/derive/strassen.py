"""Products of matrices by seven products of blocks instead of eight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from tpopt.ir import Builder, Cast, Compute, DType, Iter, Program, Read, Reduce, Scalar, Structure, Tensor, index, total
from tpopt.ir.index import Atom, IndexLike
from tpopt.ir.strassen import PRODUCTS, TENSORS
from tpopt.ir.walk import postorder, rebuild, substitute_iters
from tpopt.passes.derive.slides import computed, inside, is_plain, iters_in
from tpopt.rewrite import Numerics, Refusal
from tpopt.rewrite.contraction import contraction
from tpopt.rewrite.stages import constant_tensors

FEWEST = 64
"""Rows, columns and terms of a product from which an eighth of it may outweigh the sums of blocks."""


@dataclass(frozen=True)
class Blocked:
    """Stages in place of one: sums of blocks of both factors, their products, and the result from these.

    ``moving`` are the sums of factors that are known only when the program runs, ``tensors`` the weights brought in.
    """

    sums: tuple[Compute, ...]
    moving: tuple[Compute, ...]
    products: Compute
    root: Compute
    tensors: tuple[Tensor, ...]

    @property
    def stages(self) -> tuple[Compute, ...]:
        """All of them, in order."""
        return *self.sums, self.products, self.root


@dataclass(frozen=True)
class Strassen:
    """Replaces a product of matrices with seven products of a quarter of its rows and columns, at half its terms.

    Rows are the longest loop of one factor alone, columns that of the other, and terms the longest sum over both; what
    else either depends on stays outside. Sums of blocks of a weight are taken before the program runs. A length that is
    odd counts as the next even one, with zeros. Numerics: conditioning.

    Given::

        y: f32[128,64] = L[m:128,n:64] sum[k:64]{ x[m,k] * w[n,k] }

    Result::

        y.left: f32[7,64,32] = L[p:7,m:64,k:32] sum[i:2,l:2]{ left[p,i,l] * x[64*i+m,32*l+k] }
        y.right: f32[7,32,32] = L[p:7,n:32,k:32] sum[l:2,j:2]{ right[p,l,j] * w[32*j+n,32*l+k] }
        y.products: f32[7,64,32] = L[p:7,m:64,n:32] sum[k:32]{ y.left[p,m,k] * y.right[p,n,k] }
        y: f32[128,64] = L[m:128,n:64] sum[p:7]{ sums[m//64,n//32,p] * y.products[p,m%64,n%32] }
    """

    name: ClassVar[str] = "Strassen"
    numerics: ClassVar[Numerics] = Numerics.CONDITIONING

    def run(self, program: Program, stage: Compute, builder: Builder) -> Blocked | Refusal:
        """The stages that take the place of one, or why there are none."""
        match = contraction(stage)
        if match is None or len(match.factors) != 2:
            return Refusal("it is no sum of products of two factors")
        if not all(map(is_plain, match.factors)):
            return Refusal("a factor is not read, with zeros around it")
        if stage.outs[0].dtype is not DType.F32 or any(f.dtype is not DType.F32 for f in match.factors):
            return Refusal("only f32 is exact enough")
        if any(not isinstance(i.extent, int) for i in (*stage.loops, *match.summed)):
            return Refusal("a size is known only at run time")
        used = [iters_in(f) for f in match.factors]
        rows, columns = (_longest([i for i in stage.loops if i in a and i not in b]) for a, b in (used, used[::-1]))
        terms = _longest([i for i in match.summed if i in used[0] and i in used[1]])
        if rows is None or columns is None or terms is None:
            return Refusal("it has no rows, no columns or no terms")
        if min(map(_size, (rows, columns, terms))) < FEWEST:
            return Refusal(f"fewer than {FEWEST} rows, columns or terms: sums of blocks would cost what products save")
        return _Writer(program, stage, match.factors, match.summed, (rows, columns, terms), builder).run()


@dataclass
class _Halves:
    """An iterator as ``half * block + place``."""

    whole: Iter
    block: Iter
    place: Iter

    @property
    def half(self) -> int:
        return _size(self.place)

    @property
    def value(self) -> IndexLike:
        return index(self.block) * self.half + self.place


class _Writer:
    def __init__(
        self,
        program: Program,
        stage: Compute,
        factors: Sequence[Scalar],
        summed: Sequence[Iter],
        cut: tuple[Iter, Iter, Iter],
        builder: Builder,
    ) -> None:
        self._stage, self._factors, self._summed, self._builder = stage, factors, summed, builder
        self._constants = frozenset(constant_tensors(program))
        self._rows, self._columns, self._terms = (_halves(i, n) for i, n in zip(cut, "ijl", strict=True))
        self._product = Iter("p", PRODUCTS)
        self._base = stage.outs[0].name

    def run(self) -> Blocked:
        whole = {h.whole: h for h in (self._rows, self._columns, self._terms)}
        places = {i: h.place for i, h in whole.items()}
        sides = (("left", self._rows, self._terms), ("right", self._terms, self._columns))
        made, tensors, constant = [], [], []
        for factor, (part, first, second) in zip(self._factors, sides, strict=True):
            fixed = next(t for t in postorder(factor) if isinstance(t, Read)).tensor in self._constants
            numbers = self._numbers(part, DType.F64 if fixed else DType.F32)
            made.append(self._sums(factor, numbers, first, second, places, fixed))
            tensors.append(numbers)
            constant.append(fixed)
        loops = (self._product, *(places.get(i, i) for i in self._stage.loops))
        value = made[0].outs[0].at(made[0].loops) * made[1].outs[0].at(made[1].loops)
        summed = tuple(places.get(i, i) for i in self._summed)
        products = computed(self._builder, f"{self._base}.products", loops, total(summed, value))
        sums = self._numbers("sums", DType.F32)
        root = self._root(sums, products)
        moving = tuple(m for m, fixed in zip(made, constant, strict=True) if not fixed)
        return Blocked(tuple(made), moving, products, root, (*tensors, sums))

    def _numbers(self, part: str, dtype: DType) -> Tensor:
        name = self._builder.name(f"{self._base}.{part}.blocks")
        return Tensor(name, TENSORS[part].shape, dtype, structure=Structure("strassen", (part,)))

    def _sums(
        self, factor: Scalar, numbers: Tensor, first: _Halves, second: _Halves, places: dict[Iter, Iter], fixed: bool
    ) -> Compute:
        """Sums of blocks of a factor: in double precision where it is a weight, since nothing is saved by less."""
        mapping: dict[Atom, IndexLike] = {h.whole: h.value for h in (first, second)}
        value = substitute_iters(factor, mapping)
        if any(_size(h.whole) % 2 for h in (first, second)):
            value = inside(value)
        if fixed:
            value = Cast(DType.F64, value)
        value = total((first.block, second.block), numbers.at((self._product, first.block, second.block)) * value)
        own = iters_in(factor)
        loops = tuple(places.get(i, i) for i in (*self._stage.loops, *self._summed) if i in own)
        body = Cast(DType.F32, value) if fixed else value
        return computed(self._builder, f"{self._base}.{numbers.structure.parameters[0]}", (self._product, *loops), body)

    def _root(self, sums: Tensor, products: Compute) -> Compute:
        blocks = [index(h.whole) // h.half for h in (self._rows, self._columns)]
        within = {h.whole: index(h.whole) % h.half for h in (self._rows, self._columns)}
        read = products.outs[0].at((self._product, *(within.get(i, index(i)) for i in self._stage.loops)))
        value = total((self._product,), sums.at((*blocks, self._product)) * read)
        body = rebuild(self._stage.bodies[0], lambda t: value if isinstance(t, Reduce) else t)
        return Compute(self._stage.outs, self._stage.loops, (body,))


def _halves(iterator: Iter, name: str) -> _Halves:
    return _Halves(iterator, Iter(f"{name}2", 2), Iter(f"{iterator.name}_h", ceil(_size(iterator) / 2)))


def _longest(iters: Sequence[Iter]) -> Iter | None:
    return max(iters, key=_size, default=None)


def _size(iterator: Iter) -> int:
    assert isinstance(iterator.extent, int)
    return iterator.extent
