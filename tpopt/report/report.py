"""``Report``: all that was recorded about one compilation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from tpopt.errors import CorruptFile
from tpopt.report.codec import decode_record, encode_record
from tpopt.report.facts import (
    CoverRow,
    DerivationRow,
    EnvironmentRow,
    KernelRow,
    MemoryRow,
    OpaqueRow,
    ParetoRow,
    PassRow,
    ResultRow,
    VerificationRow,
    Work,
)

SCHEMA_VERSION: Final = 3
"""Raised whenever a key is added, changes its meaning or goes away; the version before is read too."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was recorded about one compilation; ``print(report)`` is a table, ``to_dict()`` is JSON.

    Every key is always present. A figure that is not known, or not finite, is null.

    Attributes:
        schema_version: version of this schema.
        result: what the user got, and why.
        work: arithmetic and traffic, before and after.
        kernels: the steps of the plan, in order; empty when there is no plan.
        opaque: operators without algebra.
        passes: the passes that ran.
        derivations: chains of laws, where stages were derived anew.
        verification: the comparison with the original.
        memory: memory of one call.
        pareto: the plans that were tried within a budget, from the exact one on; empty without a budget.
        choice: every decision, with what competed.
        original_share: share of the time that is spent in original operators, from 0 to 1.
        compile_seconds: wall-clock time of the compilation.
        environment: the machine and the process.
    """

    result: ResultRow
    environment: EnvironmentRow
    work: Work = field(default_factory=Work)
    kernels: tuple[KernelRow, ...] = ()
    opaque: tuple[OpaqueRow, ...] = ()
    passes: tuple[PassRow, ...] = ()
    derivations: tuple[DerivationRow, ...] = ()
    verification: VerificationRow = field(default_factory=VerificationRow)
    memory: MemoryRow = field(default_factory=MemoryRow)
    pareto: tuple[ParetoRow, ...] = ()
    choice: tuple[CoverRow, ...] = ()
    original_share: float = 1.0
    compile_seconds: float = 0.0
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as plain values that ``json.dumps`` takes; docs/report.md documents every key."""
        return encode_record(self)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Returns the report that ``to_dict`` made ``data`` from.

        Raises:
            CorruptFile: ``data`` is no report, or one of another schema; the message names the place.
        """
        version = data.get("schema_version", SCHEMA_VERSION) if isinstance(data, Mapping) else SCHEMA_VERSION
        if version == SCHEMA_VERSION - 1:
            data = _upgraded(data)
        elif version != SCHEMA_VERSION:
            raise CorruptFile(f"schema_version is {version!r}, expected {SCHEMA_VERSION}; another tpopt wrote it")
        return decode_record(cls, data, "report")

    def __str__(self) -> str:
        from tpopt.report.table import summary

        return summary(self)

    def explain(self) -> str:
        """Returns, for each decision: source lines, what was tried, what won, times, and each refusal's reason."""
        from tpopt.report.explain import explanation

        return explanation(self)


def _upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """A report of the version before, with the keys that have come since: there, nobody noted who came second."""
    kernels, absent = data.get("kernels"), {"next_best": "", "next_best_us": None}
    if isinstance(kernels, list):
        kernels = [{**row, **absent} if isinstance(row, Mapping) else row for row in kernels]
    return {**data, "kernels": kernels, "schema_version": SCHEMA_VERSION}
