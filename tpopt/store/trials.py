"""Tuning records: what each way to run a kernel's loops cost on each machine, in SQLite.

A record is keyed by the kernel (a digest of its canonical expression and of what it is planned for), the decisions, and
the device with the versions of what ran it. Everything is data: text and numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sql
from sqlalchemy.dialects.sqlite import insert

from tpopt.store.folder import cache_root
from tpopt.store.sqlite import opened

VERSION: Final = 1
_METADATA = sql.MetaData()
_TRIALS = sql.Table(
    "trials",
    _METADATA,
    sql.Column("kernel", sql.String, primary_key=True),
    sql.Column("decisions", sql.String, primary_key=True),
    sql.Column("device", sql.String, primary_key=True),
    sql.Column("name", sql.String, nullable=False),
    sql.Column("family", sql.String, nullable=False),
    sql.Column("request", sql.String, nullable=False),
    sql.Column("status", sql.String, nullable=False),
    sql.Column("reason", sql.String, nullable=False, default=""),
    sql.Column("us", sql.Float),
    sql.Column("ratio", sql.Float),
    sql.Column("low", sql.Float),
    sql.Column("high", sql.Float),
)


@dataclass(frozen=True)
class Trial:
    """One way to run one kernel on one device.

    Attributes:
        kernel: identity of the request for its own schedule.
        decisions: text of ``tpopt.backend.generated.decisions``; empty for the schedule's own.
        device: who measured, as :func:`device_text` writes it.
        name, family: of the task.
        request: the encoded request.
        status: ``done``, or how it ended otherwise (``crash``, ``timeout``, ``memory``, ``error``, ``lost``).
        reason: why, in words.
        us: microseconds of one call; None where it did not end well.
        ratio: of its time to that of the schedule's own, the median of interleaved rounds, with its 95 % interval.
    """

    kernel: str
    decisions: str
    device: str
    name: str
    family: str
    request: str
    status: str
    reason: str = ""
    us: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None


class Trials:
    """The records in a file (None: the one in this user's cache). Raises :class:`CorruptFile` for another file."""

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else default_path()
        self._engine = opened(self.path, _TRIALS, "holds no tuning records")

    def close(self) -> None:
        """Closes the file."""
        self._engine.dispose()

    def put(self, trials: Iterable[Trial]) -> None:
        """Keeps records; a newer one of the same key takes the place of the older."""
        rows = [vars(t) for t in trials]
        if not rows:
            return
        statement = insert(_TRIALS)
        keys = ("kernel", "decisions", "device")
        newer = {c.name: statement.excluded[c.name] for c in _TRIALS.columns if c.name not in keys}
        with self._engine.begin() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=newer), rows)

    def of(self, *, kernel: str | None = None, device: str | None = None, done: bool = False) -> list[Trial]:
        """Records in a fixed order: of one kernel, of one device, and with ``done`` only those that ended well."""
        query = sql.select(_TRIALS)
        if kernel is not None:
            query = query.where(_TRIALS.c.kernel == kernel)
        if device is not None:
            query = query.where(_TRIALS.c.device == device)
        if done:
            query = query.where(_TRIALS.c.status == "done")
        with self._engine.connect() as connection:
            ordered = query.order_by(_TRIALS.c.name, _TRIALS.c.kernel, _TRIALS.c.decisions, _TRIALS.c.device)
            return [Trial(**row) for row in connection.execute(ordered).mappings()]

    def known(self, kernel: str, device: str) -> frozenset[str]:
        """Decisions of a kernel that were tried on a device, well or badly."""
        query = sql.select(_TRIALS.c.decisions).where(_TRIALS.c.kernel == kernel, _TRIALS.c.device == device)
        with self._engine.connect() as connection:
            return frozenset(str(text) for (text,) in connection.execute(query))

    def winners(self, device: str, least: float) -> dict[str, str]:
        """For each kernel the decisions that surely beat its schedule's own on a device, by ``least`` or more.

        Surely: the upper end of the interval of the ratio is below ``1 - least``.
        """
        found: dict[str, Trial] = {}
        for trial in self.of(device=device, done=True):
            if trial.decisions and trial.high is not None and trial.high < 1 - least and trial.ratio is not None:
                before = found.get(trial.kernel)
                if before is None or (before.ratio or 0.0) > trial.ratio:
                    found[trial.kernel] = trial
        return {kernel: t.decisions for kernel, t in found.items()}


def default_path() -> Path:
    """The file that this user's runs share."""
    return cache_root() / f"trials-v{VERSION}.db"


def device_text(figures: Mapping[str, Any]) -> str:
    """A device descriptor (numbers and names) as the text that records are kept under."""
    return json.dumps(figures, sort_keys=True, separators=(",", ":"))
