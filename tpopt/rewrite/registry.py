"""Names of passes and pipelines, and how to import what they name. Listing names imports none of them.

Third parties add passes by the entry-point group ``tpopt.passes`` (``name = "package.module:Class"``) and pipelines by
``tpopt.pipelines`` (a tuple of passes).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from tpopt.errors import TpoptError, UnknownName, UsageError
from tpopt.rewrite.passes import Pass, Pipeline
from tpopt.rewrite.spelling import construct, split

PASS_GROUP, PIPELINE_GROUP = "tpopt.passes", "tpopt.pipelines"

PASSES: Mapping[str, str] = MappingProxyType(
    {
        "collapse-deltas": "tpopt.passes.collapse_deltas:CollapseDeltas",
        "common-subexpressions": "tpopt.passes.common_subexpressions:CommonSubexpressions",
        "dead-code": "tpopt.passes.dead_code:DeadCode",
        "derive": "tpopt.passes.derive.derive:Derive",
        "fold-affine": "tpopt.passes.fold_affine:FoldAffine",
        "fold-constants": "tpopt.passes.fold_constants:FoldConstants",
        "fuse-pointwise": "tpopt.passes.fuse_pointwise:FusePointwise",
        "inline-views": "tpopt.passes.inline_views:InlineViews",
        "merge-shared-gemms": "tpopt.passes.merge_shared_gemms:MergeSharedGemms",
        "simplify": "tpopt.passes.simplify:Simplify",
    }
)
PIPELINES: Mapping[str, str] = MappingProxyType(
    {
        "default": "tpopt.passes.pipelines:DEFAULT",
        "cleanup": "tpopt.passes.pipelines:CLEANUP",
        "none": "tpopt.passes.pipelines:NONE",
    }
)


@dataclass(frozen=True)
class Registry:
    """Where each pass and pipeline lives, as ``module:attribute``."""

    passes: Mapping[str, str]
    pipelines: Mapping[str, str]

    def load_pass(self, name: str) -> type[Pass]:
        """The class of a pass. Raises :class:`UnknownName`, or :class:`TpoptError` when it does not load."""
        kind = _load("pass", name.replace("_", "-"), self.passes)
        if not (isinstance(kind, type) and issubclass(kind, Pass)):
            raise TpoptError(
                f"pass {name} ({self.passes[name]}) is {kind!r}, which is no subclass of tpopt.rewrite.Pass"
            )
        return kind

    def load_pipeline(self, name: str) -> tuple[Pass, ...]:
        """The passes of a named pipeline. Raises :class:`UnknownName` listing the names."""
        return tuple(_load("pipeline", name, self.pipelines))

    def parse(self, text: str) -> Pipeline:
        """A pipeline from text: names of pipelines stand for their passes, ``pass{field=value}`` for one.

        Raises :class:`UnknownName`, :class:`~tpopt.errors.ParseError` or :class:`UsageError`.
        """
        passes: list[Pass] = []
        for entry in split(text):
            if entry.name in self.pipelines and not entry.options:
                passes.extend(self.load_pipeline(entry.name))
            elif entry.name.replace("_", "-") in self.passes:
                passes.append(construct(self.load_pass(entry.name), entry.options))
            else:
                raise UnknownName("pass or pipeline", entry.name, (*self.passes, *self.pipelines))
        return Pipeline(tuple(passes))


def registry(plugins: Iterable[EntryPoint] | None = None) -> Registry:
    """The built-in names and those that installed packages add.

    Raises :class:`UsageError` naming both owners when two claim a name.
    """
    found = plugins if plugins is not None else [*entry_points(group=PASS_GROUP), *entry_points(group=PIPELINE_GROUP)]
    tables: dict[str, dict[str, str]] = {PASS_GROUP: dict(PASSES), PIPELINE_GROUP: dict(PIPELINES)}
    for point in sorted(found, key=lambda p: (p.group, p.name, p.value)):
        table = tables[point.group]
        if point.name in table and table[point.name] != point.value:
            raise UsageError(
                f"{point.group}: the name {point.name!r} is claimed by {table[point.name]} and by {point.value}; "
                "uninstall one of the packages, or rename its entry point"
            )
        table[point.name] = point.value
    return Registry(*(MappingProxyType(dict(sorted(t.items()))) for t in tables.values()))


def _load(kind: str, name: str, table: Mapping[str, str]) -> Any:
    if name not in table:
        raise UnknownName(kind, name, table)
    module, _, attribute = table[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise TpoptError(f"{kind} {name}: cannot import {table[name]}: {error}") from error
