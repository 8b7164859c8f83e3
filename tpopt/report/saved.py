"""A report as a file: JSON, written whole or not at all, and not trusted when it is read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from tpopt.errors import CorruptFile, UsageError
from tpopt.report.report import Report

LARGEST_BYTES: Final = 256 * 2**20
"""A report of ten thousand kernels takes about ten megabytes."""


def write_report(report: Report, path: Path) -> None:
    """Writes the report as indented JSON; a file that was there is replaced when the new one is complete.

    Raises:
        UsageError: the folder does not exist or cannot be written.
    """
    text = json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n"
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():  # a pipe or a device is written to, never replaced
            path.write_text(text, encoding="utf-8")
            return
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}: {error.strerror}; name a file in a folder that exists") from error


def read_report(path: Path) -> Report:
    """Reads what :func:`write_report` wrote.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        CorruptFile: it is not a report.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise CorruptFile(f"{path} is larger than {LARGEST_BYTES >> 20} MiB: no report is")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CorruptFile(f"{path} is not text in UTF-8") from error
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path} is not JSON: {error}") from error
    try:
        return Report.from_dict(data)
    except CorruptFile as error:
        raise CorruptFile(f"{path}: {error}") from error
