"""Cost models by name: ours, and those that packages name in the entry-point group ``tpopt.cost_models``."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final, Protocol

from tpopt.cost_models.roofline import Balance
from tpopt.errors import TpoptError, UnknownName, UsageError

GROUP: Final = "tpopt.cost_models"
DEFAULT: Final = "roofline"
MODELS: Final[Mapping[str, str]] = MappingProxyType({DEFAULT: "tpopt.cost_models.roofline:RooflineModel"})


class KernelPrices(Protocol):
    """What the chooser asks of a cost model. It is made from the machine's :class:`Balance`."""

    def price(self, kind: str, macs: float, flops: float, traffic: float) -> float:
        """Microseconds of a kernel of that family: multiply-adds, other arithmetic, bytes read and written."""


def cost_models(plugins: Iterable[EntryPoint] | None = None) -> Mapping[str, str]:
    """Where each cost model lives, as ``module:class``.

    Raises :class:`UsageError` naming both owners when two claim a name.
    """
    found = dict(MODELS)
    for point in sorted(entry_points(group=GROUP) if plugins is None else plugins, key=lambda p: (p.name, p.value)):
        if found.get(point.name, point.value) != point.value:
            raise UsageError(
                f"{GROUP}: the name {point.name!r} is claimed by {found[point.name]} and by {point.value}; "
                "uninstall one of the packages, or rename its entry point"
            )
        found[point.name] = point.value
    return MappingProxyType(dict(sorted(found.items())))


def cost_model(name: str, balance: Balance) -> KernelPrices:
    """The cost model of that name for a machine.

    Raises:
        UnknownName: there is none of that name.
        TpoptError: it does not load.
    """
    known = cost_models()
    if name not in known:
        raise UnknownName("cost model", name, known)
    module, _, attribute = known[name].partition(":")
    try:
        made: KernelPrices = getattr(importlib.import_module(module), attribute)(balance)
    except Exception as error:
        raise TpoptError(f"cost model {name}: {known[name]} cannot be used: {error}") from error
    return made
