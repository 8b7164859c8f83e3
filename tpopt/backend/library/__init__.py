"""Library kernels: for each, a matcher that finds its algebra in a Program and a binder that makes the call.

A kernel file offers ``candidates(program, found)``, which adds Kernel candidates, and ``BINDERS``, from implementation
names to binders. Packages add files of their own by the entry-point group ``tpopt.kernels``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from tpopt.backend.binding import KernelBinder
from tpopt.backend.library.providers import providers
from tpopt.choose.candidate import Candidates
from tpopt.errors import UsageError
from tpopt.ir import Program


@cache
def binders() -> Mapping[str, KernelBinder]:
    """Binders of every implementation by name, those of plugins included."""
    from tpopt.backend.generated import binding as generated
    from tpopt.backend.library import (
        attention,
        convert,
        convolution,
        gemm,
        integer,
        layout,
        linear,
        pads,
        torch_stage,
        views,
    )

    families = (attention, convert, convolution, gemm, integer, layout, linear, pads, torch_stage, views, generated)
    found = {name: binder for family in families for name, binder in family.BINDERS.items()}
    for provider in providers():
        for name, binder in provider.module.BINDERS.items():
            if name in found:
                raise UsageError(f"{provider}: the kernel {name!r} exists already; uninstall the package, or rename it")
            found[name] = binder
    return MappingProxyType(found)


def library_candidates(program: Program, found: Candidates, device: str = "cpu") -> None:
    """Adds what every library kernel offers for a cleaned program on that kind of device (oneDNN on the CPU alone)."""
    from tpopt.backend.library import attention, convolution, gemm, linear, pads, views

    anywhere = (attention, gemm, pads, views)
    for family in (linear, convolution, *anywhere) if device == "cpu" else anywhere:
        family.candidates(program, found)
    for provider in providers():
        provider.module.candidates(program, found)
