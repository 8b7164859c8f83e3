"""Other programs for parts of a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tpopt.ir import Program
from tpopt.passes.derive.derivation import Derivation, spliced
from tpopt.passes.derive.explore import Explorer
from tpopt.rewrite import Numerics, Pass, Trace


@dataclass(frozen=True)
class Derive(Pass):
    """Offers other programs for regions that are sums of products, derived by the laws of sums and products.

    A region is a chain of stages without a function that is no polynomial between them. It is written as one sum of
    products; laws rewrite that; an order of products makes stages of it again. The program itself stays as it is: each
    derivation is one more form of it, and the prices decide. Numerics: reassociating.

    Given::

        t: f32[64,64] = L[i0:64,i1:64] sum[k:64]{ a[i0,k] * b[k,i1] }
        y: f32[64,2] = L[i0:64,i1:2] sum[k:64]{ t[i0,k] * c[k,i1] }

    Offers::

        y.product: f32[64,2] = L[r2:64,i1:2] sum[r1:64]{ b[r2,r1] * c[r1,i1] }
        y: f32[64,2] = L[i0:64,i1:2] sum[r2:64]{ a[i0,r2] * y.product[r2,i1] }

    ``most`` bounds the derivations of one region, ``gain`` is the share of the region's expected time below which one
    is offered.
    """

    name: ClassVar[str] = "derive"
    numerics: ClassVar[Numerics] = Numerics.REASSOCIATING
    most: int = 2
    gain: float = 0.9

    def run(self, program: Program, trace: Trace) -> Program:
        return program

    def alternatives(self, program: Program, trace: Trace) -> tuple[Program, ...]:
        return offered(program, self.derivations(program, trace))

    def derivations(self, program: Program, trace: Trace) -> list[list[Derivation]]:
        """For each region, its derivations, the best first."""
        return Explorer(program, trace, gain=self.gain, most=self.most).run()


def offered(program: Program, found: list[list[Derivation]]) -> tuple[Program, ...]:
    """Forms of the program: the first has the best derivation of every region, the next the second best, and so on."""
    depth = max(map(len, found), default=0)
    return tuple(spliced(program, [ranked[n] for ranked in found if n < len(ranked)]) for n in range(depth))
