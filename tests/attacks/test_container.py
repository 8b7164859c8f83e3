"""Threat: the zip around the members names other files, holds more than it says, or is not what it seems."""

from __future__ import annotations

import json
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from attacks.conftest import Refused
from support.forge import members_of, rezipped

from tpopt.store.archive import MEMBERS, write_archive


def write(zipped: zipfile.ZipFile, name: str, data: bytes, **fields: object) -> None:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr = 3, 0o100644 << 16
    for field, value in fields.items():
        setattr(entry, field, value)
    zipped.writestr(entry, data)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "plan.txt/../../x", "C:\\x", "weights.pkl", "data.pkl", "kernel.so", ""]
)
def test_a_member_of_any_other_name(good: Path, tmp_path: Path, refused: Refused, name: str):
    def change(zipped: zipfile.ZipFile, members: dict[str, bytes]) -> None:
        for known, data in members.items():
            write(zipped, known, data)
        write(zipped, name, b"x")

    refused(rezipped(good, tmp_path / "a.tpg", change), r"has a member .*only manifest\.json, ")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == ["a.tpg"]


def test_a_symbolic_link(good: Path, tmp_path: Path, refused: Refused):
    def change(zipped: zipfile.ZipFile, members: dict[str, bytes]) -> None:
        for name, data in members.items():
            link = {"external_attr": (stat.S_IFLNK | 0o777) << 16} if name == "plan.txt" else {}
            write(zipped, name, b"/etc/passwd" if link else data, **link)

    refused(rezipped(good, tmp_path / "a.tpg", change), r"plan\.txt is a link, encrypted")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice(good: Path, tmp_path: Path, refused: Refused):
    def change(zipped: zipfile.ZipFile, members: dict[str, bytes]) -> None:
        for name, data in members.items():
            write(zipped, name, data)
        write(zipped, "plan.txt", b"another")

    refused(rezipped(good, tmp_path / "a.tpg", change), r"has the member plan\.txt twice")


def test_a_compressed_member_that_unpacks_to_a_thousand_times_its_size(good: Path, tmp_path: Path, refused: Refused):
    def change(zipped: zipfile.ZipFile, members: dict[str, bytes]) -> None:
        for name, data in members.items():
            bomb = {"compress_type": zipfile.ZIP_DEFLATED} if name == "plan.txt" else {}
            write(zipped, name, b"\0" * 10_000_000 if bomb else data, **bomb)

    refused(rezipped(good, tmp_path / "a.tpg", change), r"plan\.txt is compressed")


def test_members_in_another_order(good: Path, tmp_path: Path, refused: Refused):
    def change(zipped: zipfile.ZipFile, members: dict[str, bytes]) -> None:
        for name, data in reversed(members.items()):
            write(zipped, name, data)

    refused(rezipped(good, tmp_path / "a.tpg", change), r"the members are not in their order")


def test_bytes_between_before_and_after_the_members(good: Path, tmp_path: Path, refused: Refused):
    data = good.read_bytes()
    for number, forged in enumerate((b"#!/bin/sh\n" + data, data + b"\0" * 8, data[:-2] + b"\x05\0hello")):
        path = tmp_path / f"{number}.tpg"
        path.write_bytes(forged)
        refused(path, "begins at byte|no saved model|belong to no member|has a comment")


def test_a_directory_that_points_elsewhere(good: Path, tmp_path: Path, refused: Refused):
    data = bytearray(good.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    for field, value in ((42, 0), (42, len(data) - 100), (24, 1 << 30), (20, 1 << 31)):
        forged = bytearray(data)
        struct.pack_into("<I", forged, entry + field, value)
        (tmp_path / "a.tpg").write_bytes(forged)
        refused(tmp_path / "a.tpg", "report.json (begins at byte|is compressed|has .* bytes)")


def test_a_local_header_that_disagrees_with_the_directory(good: Path, tmp_path: Path, refused: Refused):
    data = bytearray(good.read_bytes())
    at = data.index(b"plan.txtprogram")
    data[at : at + 8] = b"plan.exe"
    (tmp_path / "a.tpg").write_bytes(data)
    refused(tmp_path / "a.tpg", "the header of plan.txt is not the one of its directory entry")


def test_a_file_cut_short_anywhere(good: Path, tmp_path: Path, refused: Refused):
    data = good.read_bytes()
    for length in (0, 1, 3, 30, 100, len(data) // 2, len(data) - 22, len(data) - 1):
        (tmp_path / "a.tpg").write_bytes(data[:length])
        refused(tmp_path / "a.tpg", "no saved model")


@pytest.mark.parametrize("name", [n for n in MEMBERS if n not in ("report.json", "manifest.json")])
def test_one_changed_byte_of_any_hashed_member(good: Path, tmp_path: Path, refused: Refused, name: str):
    members = members_of(good)
    middle = len(members[name]) // 2
    members[name] = members[name][:middle] + bytes([members[name][middle] ^ 1]) + members[name][middle + 1 :]
    write_archive(tmp_path / "a.tpg", members)
    if name in ("rest.safetensors", "certificate.json"):
        return  # nobody reads them on this way; whoever does finds out, as the next test shows
    refused(tmp_path / "a.tpg", rf"{name} is not what the manifest says it is")


@pytest.mark.parametrize("name", ["rest.safetensors", "certificate.json"])
def test_one_changed_byte_of_what_only_inspect_reads(
    good: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    from tpopt.cli import main

    members = members_of(good)
    members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])
    write_archive(tmp_path / "a.tpg", members)
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(tmp_path / "a.tpg")])
    assert (ended.value.code, name in capsys.readouterr().err) == (6, True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "has format 2; this tpopt reads 1"),
        ({"format": None}, "has format None"),
        ({"members": []}, "does not list the members"),
        ({"status": "faster"}, "expected one of optimized, original"),
        ({"surprise": 1}, "has unknown keys: surprise"),
        ({"device": "cuda:99"}, "names a device 'cuda:99'"),
    ],
)
def test_a_manifest_of_another_kind(good: Path, tmp_path: Path, refused: Refused, change: dict, reason: str):
    members = members_of(good)
    members["manifest.json"] = json.dumps({**json.loads(members["manifest.json"]), **change}).encode()
    write_archive(tmp_path / "a.tpg", members)
    refused(tmp_path / "a.tpg", reason)


def test_a_missing_member(good: Path, tmp_path: Path, refused: Refused):
    members = members_of(good)
    del members["interface.json"]
    write_archive(tmp_path / "a.tpg", members)
    refused(tmp_path / "a.tpg", "does not list the members")
