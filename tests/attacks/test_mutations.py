"""Threat: whatever nobody thought of: a good file changed at random, with and without a manifest that fits."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from support.forge import fitting, members_of

import tpopt
from tpopt._saved.load import read
from tpopt.errors import CorruptFile
from tpopt.store.archive import MANIFEST, write_archive

TEXTS = ("interface.json", "original.txt", "algebra.txt", "plan.txt", "steps.json")


def mutated(data: bytes, draw: random.Random) -> bytes:
    """One to four edits: a byte flipped, a piece doubled, dropped or moved, a number changed."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at, length = draw.randrange(len(changed)), draw.choice((1, 1, 2, 8, 40))
        match draw.randrange(5):
            case 0:
                changed[at] ^= 1 << draw.randrange(8)
            case 1:
                changed[at:at] = changed[at : at + length]
            case 2:
                del changed[at : at + length]
                changed = changed or bytearray(b" ")
            case 3:
                changed[at : at + length] = changed[draw.randrange(len(changed)) :][:length]
            case 4:
                digits = [n for n, b in enumerate(changed) if 48 <= b < 58]
                if digits:
                    changed[draw.choice(digits)] = draw.randrange(48, 58)
    return bytes(changed)


@pytest.mark.parametrize("seed", range(200))
def test_random_changes_of_the_whole_file_are_refused(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
):
    monkeypatch.setenv("TPOPT_CACHE_DIR", str(tmp_path / "cache"))
    data = good.read_bytes()
    changed = mutated(data, random.Random(seed))
    (tmp_path / "a.tpg").write_bytes(changed)
    where = next((n for n, (a, b) in enumerate(zip(data, changed, strict=False)) if a != b), len(data))
    try:
        tpopt.load(tmp_path / "a.tpg")
    except CorruptFile:
        return
    unread = [good.read_bytes().index(members_of(good)[n]) for n in ("rest.safetensors", "report.json")]
    assert changed == data or where >= min(unread), "a change of what is read was not seen"


@pytest.mark.parametrize("seed", range(100))
def test_random_changes_behind_a_manifest_that_fits(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
):
    """What parses and is well-formed is another model, and may load; nothing else may happen than that or a refusal."""
    monkeypatch.setenv("TPOPT_CACHE_DIR", str(tmp_path / "cache"))
    draw = random.Random(1000 + seed)
    members = members_of(good)
    name = draw.choice(TEXTS)
    members[name] = mutated(members[name], draw)
    members[MANIFEST] = fitting(members)
    write_archive(tmp_path / "a.tpg", members)
    try:
        saved = read(tmp_path / "a.tpg")
    except CorruptFile:
        return
    assert saved.plan is not None
