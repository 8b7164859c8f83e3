"""A finished or half-finished benchmark: what a JSON file of ``tpopt bench`` holds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tpopt.bench.config import BenchConfig
from tpopt.errors import CorruptFile, UsageError
from tpopt.store.whole import write_whole

SCHEMA: Final = 1
Row = dict[str, Any]


@dataclass
class Run:
    """Rows of a benchmark, with what they were measured under.

    Attributes:
        config: what was asked for.
        settings: what every contestant's process was set to; read back from the first row.
        environment: machine and versions.
        models: a row for each model; docs/bench.md describes its keys.
    """

    config: BenchConfig
    environment: dict[str, str]
    models: list[Row] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        return next((dict(row["settings"]) for row in self.models if row.get("settings")), {})

    def row(self, name: str) -> Row | None:
        """Returns the row of a model, or None when it has not run."""
        return next((row for row in self.models if row["name"] == name), None)

    def geomean(self) -> dict[str, float]:
        """Returns, for each peer, the geometric mean of the median ratios over the models where both ran."""
        ratios: dict[str, list[float]] = {}
        for row in self.models:
            for peer, ratio in row["ratio"].items():
                ratios.setdefault(peer, []).append(ratio["median"])
        return {
            peer: math.exp(math.fsum(map(math.log, ratios[peer])) / len(ratios[peer]))
            for peer in self.config.peers
            if peer in ratios
        }

    def failed(self) -> list[Row]:
        """Returns the rows of the models that have no result."""
        return [row for row in self.models if row["status"] != "ok"]

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "config": self.config.to_dict(),
            "settings": self.settings,
            "environment": self.environment,
            "models": self.models,
            "geomean": self.geomean(),
        }

    def save(self, path: Path) -> None:
        """Writes the run to a file as a whole. Raises :class:`UsageError` where it cannot be written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(self.to_dict(), indent=1) + "\n").encode())

    def __str__(self) -> str:
        from tpopt.bench.table import run_text

        return run_text(self)


def load_run(path: str | Path) -> Run:
    """Reads what :meth:`Run.save` wrote.

    Raises:
        UsageError: there is no such file.
        CorruptFile: it is no benchmark of this schema.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"{file}: no such file; tpopt bench --json {file} writes one")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise CorruptFile(f"{file}: schema {document['schema']!r}, and this version reads {SCHEMA}; run it again")
        config = BenchConfig.from_dict(document["config"])
        rows = [dict(row) for row in document["models"]]
        _check_rows(file, rows)
        return Run(config, dict(document["environment"]), rows)
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CorruptFile(f"{file}: not a benchmark that tpopt wrote ({type(error).__name__}: {error})") from error


def _check_rows(file: Path, rows: Iterable[Row]) -> None:
    for row in rows:
        missing = [key for key in ("name", "status", "ratio", "kernels", "work", "memory", "opaque") if key not in row]
        if missing:
            raise CorruptFile(f"{file}: the row of {row.get('name', '?')!r} lacks {', '.join(missing)}")
