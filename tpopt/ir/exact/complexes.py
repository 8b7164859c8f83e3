"""Complex numbers over the field: ``re + im * i`` as pairs, so that conjugates and parts mean what they should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from tpopt.ir.exact.functions import Functions
from tpopt.ir.exact.numbers import SMALL
from tpopt.ir.exact.oracle import hashed, seed_of
from tpopt.ir.exact.reductions import flattened, fold, halved
from tpopt.ir.program import Array

PAIR = np.dtype([("re", np.int64), ("im", np.int64)])


def pair(re: Array, im: Array) -> Array:
    """The complex array with these parts."""
    out = np.empty(np.broadcast_shapes(re.shape, im.shape), PAIR)
    out["re"], out["im"] = re, im
    return out


@dataclass(frozen=True)
class Complexes:
    """Functions of complex arguments; those without a formula here are random functions of both parts."""

    real: Functions

    def apply(self, name: str, args: Sequence[Array]) -> Array:
        """A function of one or more complex arrays; parts, ``abs`` and ``angle`` are real, predicates bools."""
        if name == "conj":
            return pair(args[0]["re"], self._r("neg", args[0]["im"]))
        if name in ("real", "imag"):
            return np.array(args[0][name[:2]])
        own: Callable[..., Array] | None = getattr(self, f"_{name}", None)
        if own is None:
            return self._random(name, *args)
        return reduce(own, args) if len(args) > 2 else own(*args)

    def _r(self, name: str, *args: Array) -> Array:
        return self.real.apply(name, args)

    def _add(self, a: Array, b: Array) -> Array:
        return pair(self._r("add", a["re"], b["re"]), self._r("add", a["im"], b["im"]))

    def _sub(self, a: Array, b: Array) -> Array:
        return pair(self._r("sub", a["re"], b["re"]), self._r("sub", a["im"], b["im"]))

    def _neg(self, a: Array) -> Array:
        return pair(self._r("neg", a["re"]), self._r("neg", a["im"]))

    def _mul(self, a: Array, b: Array) -> Array:
        return self.product(a, b, lambda x, y: self._r("mul", x, y))

    def product(self, a: Array, b: Array, multiply: Callable[[Array, Array], Array]) -> Array:
        """A bilinear product of complex arrays from one of real ones."""
        straight = self._r("sub", multiply(a["re"], b["re"]), multiply(a["im"], b["im"]))
        crossed = self._r("add", multiply(a["re"], b["im"]), multiply(a["im"], b["re"]))
        return pair(straight, crossed)

    def _norm(self, a: Array) -> Array:
        return self._r("add", self._r("mul", a["re"], a["re"]), self._r("mul", a["im"], a["im"]))

    def _reciprocal(self, a: Array) -> Array:
        norm = self._norm(a)
        return pair(self._r("div", a["re"], norm), self._r("div", self._r("neg", a["im"]), norm))

    def _div(self, a: Array, b: Array) -> Array:
        return self._mul(a, self._reciprocal(b))

    def _abs(self, a: Array) -> Array:
        return self._r("sqrt", self._norm(a))

    def _angle(self, a: Array) -> Array:
        return self._r("atan2", a["im"], a["re"])

    def _eq(self, a: Array, b: Array) -> Array:
        return np.asarray(self._r("eq", a["re"], b["re"]) & self._r("eq", a["im"], b["im"]))

    def _ne(self, a: Array, b: Array) -> Array:
        return ~self._eq(a, b)

    def _isnan(self, a: Array) -> Array:
        return np.asarray(self._r("isnan", a["re"]) | self._r("isnan", a["im"]))

    def _isinf(self, a: Array) -> Array:
        return np.asarray(self._r("isinf", a["re"]) | self._r("isinf", a["im"]))

    def _exp(self, a: Array) -> Array:
        size = self._r("exp", a["re"])
        return pair(*(self._r("mul", size, self._r(part, a["im"])) for part in ("cos", "sin")))

    def _pow(self, a: Array, b: Array) -> Array:
        """Powers by one small integer; anything else at random."""
        exponent = int(self.real.numbers.keys(b["re"]).flat[0]) if b.size else 0
        if b.size and (b == b.flat[0]).all() and not b["im"].any() and abs(exponent) < SMALL:
            power = pair(np.ones(a.shape, np.int64), np.zeros(a.shape, np.int64))
            for bit in bin(abs(exponent))[2:]:
                power = self._mul(power, power)
                power = self._mul(power, a) if bit == "1" else power
            return power if exponent >= 0 else self._reciprocal(power)
        return self._random("pow", a, b)

    def _random(self, name: str, *args: Array) -> Array:
        numbers = self.real.numbers
        parts = [numbers.residues(a[part]) for a in args for part in ("re", "im")]
        modulus = np.uint64(self.real.field.modulus)
        seeds = [seed_of(self.real.seed, name, part) for part in ("re", "im")]
        return pair(*((hashed(s, parts) % modulus).astype(np.int64) for s in seeds))

    def fold(self, monoid: str, value: Array, axes: tuple[int, ...]) -> Array:
        """Sums and products over axes, kept with extent 1."""
        if monoid == "sum":
            return pair(*(fold(self.real, "sum", (value[part],), axes)[0] for part in ("re", "im")))
        one = pair(np.asarray(1, np.int64), np.asarray(0, np.int64))
        flat, shape = flattened(value, axes)
        return halved(flat, one, self._mul).reshape(shape)
