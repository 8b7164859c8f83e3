"""Changed copies of a saved model: as a forger would make them, with a manifest that fits what was changed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from tpopt.store.archive import MANIFEST, UNHASHED, open_archive, write_archive


def members_of(path: Path) -> dict[str, bytes]:
    archive = open_archive(path)
    return {n: bytes(archive.read(n)) for n in archive.places}


def forged(path: Path, out: Path, **changes: Callable[[bytes], bytes]) -> Path:
    """A copy with members changed (``plan_txt=...``) and their SHA-256 in the manifest made to fit."""
    members = members_of(path)
    for key, change in changes.items():
        name = {n.replace(".", "_"): n for n in members}[key]
        members[name] = change(members[name])
    if "manifest_json" not in changes:
        members[MANIFEST] = fitting(members)
    write_archive(out, members)
    return out


def fitting(members: Mapping[str, bytes]) -> bytes:
    manifest = json.loads(members[MANIFEST])
    manifest["members"] = [
        {"name": n, "bytes": len(d), "sha256": sha256(d).hexdigest()}
        for n, d in members.items()
        if n != MANIFEST and n not in UNHASHED
    ]
    return json.dumps(manifest).encode()


def rezipped(path: Path, out: Path, change: Callable[[zipfile.ZipFile, dict[str, bytes]], None]) -> Path:
    """The members of a file in a zip that ``change`` writes."""
    with zipfile.ZipFile(out, "w") as zipped:
        change(zipped, members_of(path))
    return out


def replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    """A change of text, which must be there."""

    def change(data: bytes) -> bytes:
        assert old.encode() in data, old
        return data.replace(old.encode(), new.encode(), 1)

    return change
