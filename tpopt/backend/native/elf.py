"""Whether a shared object is whole: the dynamic linker maps a truncated one, and who touches it dies of SIGBUS."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import Final

_MAGIC: Final = b"\x7fELF"
_CLASS_64: Final = 2
_LITTLE: Final = 1
_SHARED: Final = 3
_HEADER: Final = struct.Struct("16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("IIQQQQQQ")


def defect(path: Path) -> str | None:
    """What is wrong with a file that should be a shared object, as far as its sizes tell; None where nothing is."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_HEADER.size)
            if not head.startswith(_MAGIC):
                return "it is no shared object" if sys.platform == "linux" else None
            if len(head) < _HEADER.size:
                return "it is truncated"
            if head[4] != _CLASS_64 or head[5] != _LITTLE:
                return None  # the dynamic linker refuses it, in its own words
            _, kind, _, _, _, segments, sections, _, _, each, count, section, section_count, _ = _HEADER.unpack(head)
            file.seek(segments)
            table = file.read(each * count)
    except FileNotFoundError:
        return "there is no such file"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if kind != _SHARED:
        return "it is no shared object"
    if each < _SEGMENT.size or len(table) < each * count or sections + section * section_count > size:
        return "it is truncated"
    parts = (_SEGMENT.unpack_from(table, each * number) for number in range(count))
    ends = [offset + in_file for _, _, offset, _, _, in_file, _, _ in parts]
    return "it is truncated" if any(end > size for end in ends) else None
