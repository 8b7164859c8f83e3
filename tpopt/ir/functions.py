"""The scalar functions of the IR and the monoids of its reductions, as two tables.

Floating-point functions follow IEEE 754 and torch: ``max`` and ``min`` propagate NaN, ``round`` is half-to-even,
``floordiv`` and ``mod`` round towards minus infinity, ``truncdiv`` and ``fmod`` towards zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from tpopt.errors import UnknownName


@dataclass(frozen=True)
class Function:
    """A scalar function: name, number of arguments, and how its result type follows from theirs.

    ``result`` is ``same`` (type of the last argument), ``bool``, ``real`` (real part's type) or ``complex``.
    ``arity`` -1 means two or more, evaluated left to right. ``domain`` is the argument types it admits:
    ``any``, ``number`` (not bool), ``float`` (real or complex), ``real`` (real float), ``ordered`` (not complex),
    ``integral`` (integers and bool), ``complex``.
    """

    name: str
    arity: int
    result: str = "same"
    domain: str = "any"
    commutative: bool = False
    associative: bool = False


@dataclass(frozen=True)
class Monoid:
    """A reduction operator. ``width`` is the number of values it carries and yields.

    ``argmax``/``argmin`` carry (value, position): NaN wins, then the extreme, then the smaller position.
    ``welford`` carries (mean, m2, count): pairwise merging of means and squared deviations.
    ``logsumexp`` carries (max, sum): the sum is rescaled to the running max, as online softmax does.
    """

    name: str
    width: int = 1
    domain: str = "any"


def _table() -> dict[str, Function]:
    floats = (
        "exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sigmoid "
        "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh"
    ).split()
    reals = "erf erfc erfinv lgamma digamma ceil floor round trunc".split()
    rows = [Function(n, 1, domain="float") for n in floats]
    rows += [Function(n, 1, domain="real") for n in reals]
    rows += [
        Function("neg", 1, domain="number"),
        Function("abs", 1, result="real", domain="number"),
        Function("sign", 1, domain="ordered"),
        Function("reciprocal", 1, domain="float"),
        Function("isnan", 1, result="bool"),
        Function("isinf", 1, result="bool"),
        Function("signbit", 1, result="bool", domain="ordered"),
        Function("not", 1, domain="integral"),
        Function("real", 1, result="real", domain="complex"),
        Function("imag", 1, result="real", domain="complex"),
        Function("conj", 1, domain="complex"),
        Function("angle", 1, result="real", domain="float"),
        Function("complex", 2, result="complex", domain="real"),
        Function("add", -1, commutative=True, associative=True),
        Function("mul", -1, commutative=True, associative=True),
        Function("max", -1, domain="ordered", commutative=True, associative=True),
        Function("min", -1, domain="ordered", commutative=True, associative=True),
        Function("and", -1, domain="integral", commutative=True, associative=True),
        Function("or", -1, domain="integral", commutative=True, associative=True),
        Function("xor", -1, domain="integral", commutative=True, associative=True),
        Function("sub", 2, domain="number"),
        Function("div", 2, domain="float"),
        Function("floordiv", 2, domain="ordered"),
        Function("truncdiv", 2, domain="ordered"),
        Function("mod", 2, domain="ordered"),
        Function("fmod", 2, domain="ordered"),
        Function("pow", 2, domain="number"),
        Function("atan2", 2, domain="real"),
        Function("hypot", 2, domain="real"),
        Function("copysign", 2, domain="real"),
        Function("fmax", 2, domain="ordered", commutative=True),
        Function("fmin", 2, domain="ordered", commutative=True),
        Function("shl", 2, domain="integral"),
        Function("shr", 2, domain="integral"),
        Function("eq", 2, result="bool", commutative=True),
        Function("ne", 2, result="bool", commutative=True),
        Function("lt", 2, result="bool", domain="ordered"),
        Function("le", 2, result="bool", domain="ordered"),
        Function("gt", 2, result="bool", domain="ordered"),
        Function("ge", 2, result="bool", domain="ordered"),
        Function("where", 3),
    ]
    return {f.name: f for f in rows}


FUNCTIONS = MappingProxyType(_table())
MONOIDS = MappingProxyType(
    {
        m.name: m
        for m in (
            Monoid("sum"),
            Monoid("prod"),
            Monoid("max", domain="ordered"),
            Monoid("min", domain="ordered"),
            Monoid("any", domain="bool"),
            Monoid("all", domain="bool"),
            Monoid("argmax", width=2, domain="ordered"),
            Monoid("argmin", width=2, domain="ordered"),
            Monoid("welford", width=3, domain="real"),
            Monoid("logsumexp", width=2, domain="real"),
        )
    }
)


def function(name: str) -> Function:
    """Looks a function up. Raises :class:`UnknownName` listing the valid names."""
    if name not in FUNCTIONS:
        raise UnknownName("function", name, sorted(FUNCTIONS))
    return FUNCTIONS[name]


def monoid(name: str) -> Monoid:
    """Looks a monoid up. Raises :class:`UnknownName` listing the valid names."""
    if name not in MONOIDS:
        raise UnknownName("monoid", name, sorted(MONOIDS))
    return MONOIDS[name]
