"""Opening a file of records in SQLite: private, made by one process at a time, and known for what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sql
from filelock import FileLock

from tpopt.errors import CorruptFile


def opened(path: Path, table: sql.Table, what: str) -> sql.Engine:
    """An engine on a file that has ``table`` (made where it is missing), for several processes at once.

    Raises :class:`CorruptFile` for another file; ``what`` says what it should be.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = sql.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
    sql.event.listen(engine, "connect", _concurrent)
    try:
        with FileLock(f"{path}.lock", timeout=30), engine.connect() as connection:
            table.metadata.create_all(connection)
            connection.commit()
            connection.execute(sql.select(table).limit(1))
    except sql.exc.DatabaseError as error:
        engine.dispose()
        raise CorruptFile(f"{path} {what} ({error.orig}); move it away") from error
    return engine


def _concurrent(connection: Any, _record: Any) -> None:
    """Readers do not wait for writers, and a commit is on its way to the disk before the next one begins."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
