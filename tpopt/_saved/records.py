"""The JSON members of a saved model as records, and their reading, which trusts nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, Literal, TypeVar

from tpopt._saved.known import content_key, is_known
from tpopt.errors import CorruptFile
from tpopt.report.codec import decode_record, encode_record
from tpopt.store.archive import MANIFEST, UNHASHED, Archive

FORMAT: Final = 1
READABLE: Final = (FORMAT,)
"""Versions that are read: this one and the one before it (there is none yet)."""
R = TypeVar("R")


@dataclass(frozen=True)
class MemberRow:
    """One hashed member: its size in bytes and its SHA-256 in hexadecimal digits."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What the file is.

    ``status`` says whether a plan is in it, or the model's own operators alone; ``machine`` is the fingerprint of the
    machine that the plan was chosen on; ``pipeline`` and ``kernels`` are options of the compilation.
    """

    format: int
    tpopt: str
    model: str
    status: Literal["optimized", "original"]
    machine: str
    device: str
    pipeline: str
    kernels: str
    members: tuple[MemberRow, ...]


@dataclass(frozen=True)
class StateRow:
    """A buffer that calls update: its name in the programs, and in the model that was compiled."""

    name: str
    path: str


@dataclass(frozen=True)
class SizeRow:
    """The value of a run-time extent in the example inputs."""

    name: str
    value: int


@dataclass(frozen=True)
class Interface:
    """How the model is called.

    ``inputs`` and ``outputs`` are pytrees as JSON; ``leaves`` names the tensor of each flattened input, or null for a
    plain value. ``fixed``, ``results`` and ``requires`` are lines of program text: the plain values, what each
    flattened result is, and the conditions on run-time extents.
    """

    inputs: str
    outputs: str
    leaves: tuple[str | None, ...]
    fixed: str
    results: str
    requires: str
    states: tuple[StateRow, ...]
    sizes: tuple[SizeRow, ...]


@dataclass(frozen=True)
class StepRow:
    """The family and the name of one step of the plan; its stage is in the plan's text, its times in the report."""

    kind: str
    name: str


@dataclass(frozen=True)
class Steps:
    """The steps of the plan, in the order of its stages."""

    steps: tuple[StepRow, ...]


def encode(record: Any) -> bytes:
    """A record as JSON: the same bytes for equal records."""
    return (json.dumps(encode_record(record), indent=1, allow_nan=False) + "\n").encode()


def decode(kind: type[R], data: bytes | bytearray, where: str) -> R:
    """The record that :func:`encode` wrote. Raises :class:`CorruptFile` naming the place for anything else."""
    return decode_record(kind, parse_json(data, where), where)


def parse_json(data: bytes | bytearray, where: str) -> Any:
    """JSON without repeated keys and without NaN. Raises :class:`CorruptFile`."""
    try:
        return json.loads(bytes(data).decode(), object_pairs_hook=_pairs, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{where} is not JSON: {error}") from error


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def member_rows(members: dict[str, bytes]) -> tuple[MemberRow, ...]:
    """The rows of the manifest for these members."""
    return tuple(MemberRow(n, len(d), sha256(d).hexdigest()) for n, d in members.items() if n not in UNHASHED)


def read_manifest(archive: Archive) -> Manifest:
    """The manifest, which must list the hashed members of the archive, no more and no fewer.

    Raises:
        CorruptFile: it is damaged, of another version, or of another file.
    """
    where = f"{archive.path}: {MANIFEST}"
    raw = parse_json(archive.read(MANIFEST), where)
    version = raw.get("format") if isinstance(raw, dict) else None
    if version not in READABLE:
        raise CorruptFile(f"{where} has format {version!r}; this tpopt reads {', '.join(map(str, READABLE))}")
    manifest = decode_record(Manifest, raw, where)
    listed = {m.name: m.bytes for m in manifest.members}
    there = {n: p.size for n, p in archive.places.items() if n != MANIFEST and n not in UNHASHED}
    if listed != there or len(listed) != len(manifest.members):
        raise CorruptFile(f"{where} does not list the members that the file has")
    return manifest


class Contents:
    """A file with its manifest: members are compared with their SHA-256 when they are read."""

    def __init__(self, archive: Archive) -> None:
        self.archive, self.manifest = archive, read_manifest(archive)
        self.key = content_key(archive.read(MANIFEST))
        self._digests = {m.name: m.sha256 for m in self.manifest.members}

    @cached_property
    def known(self) -> bool:
        """Whether contents equal to these passed every check before."""
        return is_known(self.key)

    def __contains__(self, name: str) -> bool:
        return name in self.archive.places

    def read(self, name: str) -> bytearray:
        """The bytes of a member. Raises :class:`CorruptFile`."""
        return self.archive.read(name, self._digests.get(name))

    def text(self, name: str) -> str:
        """A member as text. Raises :class:`CorruptFile`."""
        try:
            return self.read(name).decode()
        except UnicodeDecodeError as error:
            raise CorruptFile(f"{self.archive.path}: {name} is not text in UTF-8") from error
