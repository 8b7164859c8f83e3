"""What became of jobs, in SQLite: each result once, who works on what, and what must not be tried again.

Several drivers may share a file. A job is *leased* to one of them until a deadline; when a driver dies, its leases on
this machine are free at once, and on others when they run out. Results are JSON values: a ledger is data alone.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import psutil
import sqlalchemy as sql
from sqlalchemy.dialects.sqlite import insert

from tpopt.executors.jobs import Kind, Outcome
from tpopt.store.sqlite import opened

FINAL: Final = ("done", "error", "quarantined", "lost")
_CHUNK: Final = 500
"""Keys of one statement: SQLite takes 999 variables at least."""
_METADATA = sql.MetaData()
_JOBS = sql.Table(
    "jobs",
    _METADATA,
    sql.Column("campaign", sql.String, primary_key=True),
    sql.Column("key", sql.String, primary_key=True),
    sql.Column("state", sql.String, nullable=False),  # open, leased, provisional, or one of FINAL
    sql.Column("kind", sql.String, nullable=False, default="lost"),
    sql.Column("value", sql.String, nullable=False, default="null"),
    sql.Column("reason", sql.String, nullable=False, default=""),
    sql.Column("worker", sql.String, nullable=False, default=""),
    sql.Column("attempts", sql.Integer, nullable=False, default=0),
    sql.Column("strikes", sql.Integer, nullable=False, default=0),
    sql.Column("losses", sql.Integer, nullable=False, default=0),
    sql.Column("owner", sql.String, nullable=False, default=""),
    sql.Column("lease_until", sql.Float, nullable=False, default=0.0),
)


@dataclass(frozen=True)
class Tally:
    """What a job has cost so far."""

    attempts: int = 0
    strikes: int = 0
    losses: int = 0


class Ledger:
    """The jobs of one ``campaign`` in the file ``path``. Raises :class:`CorruptFile` where that is no such file."""

    def __init__(self, path: str | Path, campaign: str) -> None:
        self.path, self.campaign = Path(path), campaign
        self._owner = _this_process()
        self._engine = opened(self.path, _JOBS, "is no ledger of jobs")

    def close(self) -> None:
        """Closes the file."""
        self._engine.dispose()

    def add(self, keys: Iterable[str]) -> None:
        """Makes jobs known; those that are known already stay as they are."""
        rows = [{"campaign": self.campaign, "key": key, "state": "open"} for key in dict.fromkeys(keys)]
        with self._engine.begin() as connection:
            for part in _parts(rows):
                connection.execute(insert(_JOBS).on_conflict_do_nothing(), part)

    def settled(self, keys: Collection[str]) -> dict[str, Outcome]:
        """The outcomes of those jobs that need not be run any more."""
        wanted = set(keys)
        query = self._mine(sql.select(_JOBS)).where(_JOBS.c.state.in_(FINAL))
        with self._engine.connect() as connection:
            rows = [row for row in connection.execute(query).mappings() if row["key"] in wanted]
        return {row["key"]: _outcome(row) for row in rows}

    def tallies(self) -> dict[str, Tally]:
        """What jobs that are not settled have cost before."""
        columns = (_JOBS.c.key, _JOBS.c.attempts, _JOBS.c.strikes, _JOBS.c.losses)
        query = self._mine(sql.select(*columns)).where(_JOBS.c.attempts > 0)
        with self._engine.connect() as connection:
            return {key: Tally(*counts) for key, *counts in connection.execute(query)}

    def take(self, key: str, seconds: float) -> bool:
        """Leases a job to this process for so many seconds, unless it is settled or somebody else's."""
        free = sql.or_(
            _JOBS.c.state == "open",
            sql.and_(
                _JOBS.c.state.in_(("leased", "provisional")),
                sql.or_(
                    _JOBS.c.lease_until < time.time(),
                    _JOBS.c.owner == self._owner,
                    _JOBS.c.owner.in_(self._dead_owners()),
                ),
            ),
        )
        changed = {
            "state": "leased",
            "owner": self._owner,
            "lease_until": time.time() + seconds,
            "attempts": _JOBS.c.attempts + 1,
        }
        return self._update(key, free, changed) == 1

    def strike(self, key: str, outcome: Outcome, tally: Tally) -> None:
        """Gives a job back after an attempt that failed, with what it has cost."""
        cost = {"strikes": tally.strikes, "losses": tally.losses}
        ours = sql.and_(_JOBS.c.state == "leased", _JOBS.c.owner == self._owner)
        self._update(key, ours, {"state": "open", "kind": outcome.kind, "reason": outcome.reason, **cost})

    def finish(self, outcome: Outcome, state: str) -> bool:
        """Writes what came of a job, ``state`` being provisional or one of FINAL; False where that is known already."""
        row = {
            "state": state,
            "kind": outcome.kind,
            "value": json.dumps(outcome.value, allow_nan=False),
            "reason": outcome.reason,
            "worker": outcome.worker,
        }
        return self._update(outcome.key, _JOBS.c.state.notin_(FINAL), row) == 1

    def confirm(self, keys: Iterable[str], *, good: bool) -> None:
        """Turns provisional results into final ones, or takes them back."""
        state = "done" if good else "open"
        for part in _parts(list(keys)):
            change = sql.update(_JOBS).where(_JOBS.c.campaign == self.campaign, _JOBS.c.state == "provisional")
            with self._engine.begin() as connection:
                connection.execute(change.where(_JOBS.c.key.in_(part)).values(state=state))

    def counts(self) -> dict[str, int]:
        """How many jobs are in which state."""
        query = self._mine(sql.select(_JOBS.c.state, sql.func.count())).group_by(_JOBS.c.state)
        with self._engine.connect() as connection:
            return {str(state): int(count) for state, count in connection.execute(query.order_by(_JOBS.c.state))}

    def _update(self, key: str, condition: Any, values: dict[str, Any]) -> int:
        change = sql.update(_JOBS).where(_JOBS.c.campaign == self.campaign, _JOBS.c.key == key, condition)
        with self._engine.begin() as connection:
            return connection.execute(change.values(**values)).rowcount

    def _mine(self, query: Any) -> Any:
        return query.where(_JOBS.c.campaign == self.campaign)

    def _dead_owners(self) -> list[str]:
        """Drivers of this machine that hold leases and do not run any more."""
        query = self._mine(sql.select(_JOBS.c.owner).distinct()).where(_JOBS.c.state.in_(("leased", "provisional")))
        with self._engine.connect() as connection:
            owners = [str(owner) for (owner,) in connection.execute(query)]
        return [o for o in owners if o != self._owner and not _runs(o)]


def _outcome(row: Any) -> Outcome:
    value = json.loads(row["value"])
    kind = cast("Kind", row["kind"])
    return Outcome(row["key"], kind, value, row["reason"], row["attempts"], row["worker"], resumed=True)


def _this_process() -> str:
    return f"{platform.node()}/{os.getpid()}/{psutil.Process().create_time():.2f}"


def _runs(owner: str) -> bool:
    """Whether a driver may still run; one on another machine always may."""
    host, number, born = owner.rsplit("/", 2)
    if host != platform.node():
        return True
    try:
        return f"{psutil.Process(int(number)).create_time():.2f}" == born
    except psutil.Error:
        return False


def _parts(rows: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(rows), _CHUNK):
        yield rows[first : first + _CHUNK]
