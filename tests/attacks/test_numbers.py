"""Threat: weights that are no safetensors, or not those that the program declares; pickle in their place."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from attacks.conftest import Refused
from support.forge import forged

Header = dict[str, Any]


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {Path.cwd() / 'pickle-ran'}",)


def pickled(_: bytes) -> bytes:
    return pickle.dumps(Bomb())


def torch_saved(_: bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save({"conv.weight": Bomb()}, buffer)
    return buffer.getvalue()


def header(change: Callable[[Header], object]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        (length,) = struct.unpack("<Q", data[:8])
        fields = json.loads(data[8 : 8 + length])
        change(fields)
        text = json.dumps(fields).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    return changed


def offsets(name: str, low: int, high: int) -> Callable[[bytes], bytes]:
    return header(lambda fields: fields[name].update(data_offsets=[low, high]))


@pytest.mark.parametrize("member", ["weights_safetensors", "examples_safetensors"])
@pytest.mark.parametrize(
    "change", [pickled, torch_saved, lambda _: b"", lambda data: data[:-4], lambda data: data + b"\0" * 4]
)
def test_anything_else_in_the_place_of_weights(
    good: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch, member: str, change: Any
):
    monkeypatch.chdir(tmp_path)
    refused(forged(good, tmp_path / "a.tpg", **{member: change}), "is not safetensors")
    assert not (tmp_path / "pickle-ran").exists()


@pytest.mark.parametrize("length", [1 << 20, 1 << 40, (1 << 64) - 1])
def test_a_huge_header(good: Path, tmp_path: Path, refused: Refused, length: int):
    path = forged(good, tmp_path / "a.tpg", weights_safetensors=lambda d: struct.pack("<Q", length) + d[8:])
    refused(path, "is not safetensors")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (offsets("head.bias", 0, 20), "is not safetensors"),
        (offsets("head.bias", 1 << 40, (1 << 40) + 20), "is not safetensors"),
        (offsets("head.bias", -20, 0), "is not safetensors"),
        (header(lambda f: f["head.bias"].update(shape=[5_000_000])), "is not safetensors"),
        (header(lambda f: f["head.bias"].update(shape=[1 << 62, 1 << 62])), "is not safetensors"),
        (header(lambda f: f["head.bias"].update(dtype="I32")), "head.bias is int32"),
        (header(lambda f: f["head.bias"].update(shape=[1, 5])), "head.bias is float32"),
        (header(lambda f: f.update(other=f.pop("head.bias"))), "the value of weight head.bias is missing"),
    ],
)
def test_wrong_offsets_and_shapes(good: Path, tmp_path: Path, refused: Refused, change: Any, reason: str):
    refused(forged(good, tmp_path / "a.tpg", weights_safetensors=change), reason)


def test_an_exported_program_is_not_opened_without_trust(tmp_path: Path, refused: Refused, capsys: Any):
    from tpopt.cli import main

    (tmp_path / "model.pt2").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(SystemExit) as ended:
        main(["optimize", str(tmp_path / "model.pt2")])
    assert (ended.value.code, "Pass --trust" in capsys.readouterr().err) == (6, True)
