"""erf on vectors of float32."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from tpopt.backend.tvm.code import Expr
from tpopt.backend.tvm.mathematics.exponentials import level
from tpopt.backend.tvm.mathematics.floats import Bind, Make, at_most, copysign, fma, negated, polynomial, size_of

_LOG_ERFC: Final = (
    0.12837916612625122,
    0.6366195678710938,
    0.10277630388736725,
    -0.019147826358675957,
    -0.0001694846578175202,
    0.0016756417462602258,
    -0.0006373364012688398,
    0.00011885019193869084,
    -9.385978955833707e-06,
)
"""-log(erfc(x)) / x - 1 for x from 0 to 4: 4.5e-9 of erf (Remez)."""


def erf(x: Expr, bind: Bind) -> Expr:
    """1 - e^-q with q = -log(erfc(|x|)), a polynomial that vanishes with x: small arguments are no special case."""
    x = bind(x)
    size = bind(at_most(size_of(x), 4.0))
    q = bind(fma(size, polynomial(size, _LOG_ERFC, bind), size))
    return copysign(level(bind(negated(q)), 1.0, bind), x)


SINGLES: MappingProxyType[str, Make] = MappingProxyType({"erf": lambda a, d, bind: erf(a[0], bind)})
