"""The container of a saved model: a stored zip that is byte for byte what :func:`write_archive` would write.

Whatever differs from that (compression, a gap, a second entry of a name, a comment, a link, a path) is refused before
anything of it is used. docs/format.md describes the file.
"""

from __future__ import annotations

import hashlib
import os
import weakref
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final

from tpopt.errors import CorruptFile, UsageError
from tpopt.store.whole import write_filled

MANIFEST: Final = "manifest.json"
MEMBERS: Final[Mapping[str, int]] = MappingProxyType(
    {
        MANIFEST: 1 << 20,
        "interface.json": 16 << 20,
        "original.txt": 64 << 20,
        "algebra.txt": 64 << 20,
        "plan.txt": 64 << 20,
        "steps.json": 64 << 20,
        "weights.safetensors": 1 << 40,
        "rest.safetensors": 1 << 40,
        "examples.safetensors": 1 << 30,
        "certificate.json": 1 << 20,
        "report.json": 256 << 20,
    }
)
"""Every member that a file may have, in the order in which they stand there, and the most bytes it may have."""
UNHASHED: Final = ("report.json",)
"""Members that tell of one run on one machine: the manifest does not hash them, so that equal models are equal files
but for these."""
_DATE: Final = (1980, 1, 1, 0, 0, 0)
_PART: Final = 1 << 28
"""Bytes of one read: a system call takes at most 2 GiB."""
_ATTRIBUTES: Final = 0o100644 << 16
"""A regular file that everybody may read, as Unix says it."""
_UNIX: Final = 3
_CENTRAL_BYTES: Final = 46
_END_BYTES: Final = 22
_END64_BYTES: Final = 76
"""Sizes of a zip's directory entry before the name, of its last record, and of the two that large files add."""


@dataclass(frozen=True)
class Place:
    """Where the bytes of a member lie in the file."""

    offset: int
    size: int


class Archive:
    """The members of a file; nothing of them has been read yet.

    The file stays open for as long as this value lives, so that all members are of one file, even when another takes
    its place meanwhile.
    """

    def __init__(self, path: Path, descriptor: int, places: Mapping[str, Place]) -> None:
        self.path, self.places = path, places
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def read(self, name: str, digest: str | None = None) -> bytearray:
        """The bytes of a member, compared with their SHA-256 where one is given.

        Raises :class:`CorruptFile` where there is no such member, it cannot be read, or the digest is another.
        """
        if name not in self.places:
            raise CorruptFile(f"{self.path}: the member {name} is missing")
        place = self.places[name]
        data = bytearray(place.size)
        done = 0
        try:
            while done < place.size:
                part = os.pread(self._descriptor, min(place.size - done, _PART), place.offset + done)
                if not part:
                    raise CorruptFile(f"{self.path}: {name} ends early; the file changed while it was read")
                data[done : done + len(part)] = part
                done += len(part)
        except OSError as error:
            raise CorruptFile(f"{self.path}: {name} cannot be read: {error.strerror}") from error
        if digest is not None and hashlib.sha256(data).hexdigest() != digest:
            raise CorruptFile(f"{self.path}: {name} is not what the manifest says it is (SHA-256 differs)")
        return data


def write_archive(path: Path, members: Mapping[str, bytes]) -> None:
    """Writes the members, in the order of :data:`MEMBERS`, to a file that is there whole or not at all.

    Raises:
        UsageError: the folder does not exist, cannot be written, or is full.
    """

    def fill(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as zipped:
            for member in sorted(members, key=list(MEMBERS).index):
                zipped.writestr(_entry(member), members[member])

    write_filled(path, fill)


def open_archive(path: Path) -> Archive:
    """Where each member lies.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        CorruptFile: it is not a file as :func:`write_archive` writes it; the message says what differs.
    """
    try:
        if not path.is_file():
            raise UsageError(f"there is no file {path}" if not path.exists() else f"{path} is not a file")
        with path.open("rb") as file:
            places = MappingProxyType(_places(path, file))
            return Archive(path, os.dup(file.fileno()), places)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _places(path: Path, file: BinaryIO) -> dict[str, Place]:
    total = os.fstat(file.fileno()).st_size
    try:
        with zipfile.ZipFile(file) as zipped:
            entries, comment = zipped.infolist(), zipped.comment
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, MemoryError, EOFError) as error:
        raise CorruptFile(f"{path} is no saved model: {error}") from error
    if comment:
        raise CorruptFile(f"{path} has a comment: no saved model has")
    names = [e.orig_filename for e in entries]
    _check_names(path, names)
    places, at = {}, 0
    for entry in entries:
        reason = _wrong(entry, at, total)
        if reason is not None:
            raise CorruptFile(f"{path}: {entry.filename} {reason}")
        header = _header(entry)
        file.seek(at)
        if file.read(len(header)) != header:
            raise CorruptFile(f"{path}: the header of {entry.filename} is not the one of its directory entry")
        if entry.filename == MANIFEST and zlib.crc32(file.read(entry.file_size)) != entry.CRC:
            raise CorruptFile(f"{path}: {MANIFEST} is damaged (CRC differs)")
        places[entry.filename] = Place(at + len(header), entry.file_size)
        at += len(header) + entry.file_size
    if at + _directory_bytes(entries) != total:
        raise CorruptFile(f"{path}: there are bytes that belong to no member")
    return places


def _check_names(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if name not in MEMBERS:
            raise CorruptFile(f"{path} has a member {name[:80]!r}: only {', '.join(MEMBERS)} are read")
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise CorruptFile(f"{path} has the member {twice} twice")
    if list(names) != sorted(names, key=list(MEMBERS).index) or names[:1] != [MANIFEST]:
        raise CorruptFile(f"{path}: the members are not in their order, {MANIFEST} first")


def _wrong(entry: zipfile.ZipInfo, at: int, total: int) -> str | None:
    """What keeps an entry from being one of ours."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        return "is compressed: members are stored, so that none is larger than the file"
    if entry.flag_bits or entry.create_system != _UNIX or entry.external_attr != _ATTRIBUTES:
        return "is a link, encrypted, or carries attributes that no member has"
    if entry.comment or (entry.extra and max(entry.file_size, entry.header_offset) <= zipfile.ZIP64_LIMIT):
        return "carries bytes beside its own"
    if entry.file_size > MEMBERS[entry.filename]:
        return f"has {entry.file_size} bytes; at most {MEMBERS[entry.filename]} are read"
    if entry.header_offset != at or at + entry.file_size > total:
        return f"begins at byte {entry.header_offset}, expected {at}, or ends outside the file"
    return None


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.create_system, entry.external_attr = _UNIX, _ATTRIBUTES
    return entry


def _header(entry: zipfile.ZipInfo) -> bytes:
    """The local header that the writer gives this entry."""
    fresh = _entry(entry.filename)
    fresh.CRC, fresh.compress_size, fresh.file_size = entry.CRC, entry.compress_size, entry.file_size
    return fresh.FileHeader()


def _directory_bytes(entries: Sequence[zipfile.ZipInfo]) -> int:
    """The size of the central directory that the writer makes for these entries."""
    large = any(max(e.file_size, e.header_offset) > zipfile.ZIP64_LIMIT for e in entries)
    fixed = _END_BYTES + (_END64_BYTES if large else 0)
    return fixed + sum(_CENTRAL_BYTES + len(e.filename) + len(e.extra) for e in entries)
