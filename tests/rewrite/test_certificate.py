from __future__ import annotations

import json

import numpy as np
import pytest

from tpopt.errors import CorruptFile
from tpopt.rewrite.certificate import Certificate, Link

LINK = Link("Law", "exact", "what it did", "program q(x: f32[2])\nreturn x")
GIVEN = Certificate(
    "y", "program p(x: f32[2])\nreturn x", (LINK,),
    {"i": np.array([[1, 2]]), "b": np.array([True]), "f": np.array([0.1], np.float32), "d": np.array([0.1])},
)  # fmt: skip


def test_what_is_written_is_read_back_to_the_bit():
    read = Certificate.loads(GIVEN.dumps())
    assert (read.region, read.original, read.links) == (GIVEN.region, GIVEN.original, GIVEN.links)
    assert [(n, t.dtype, t.tolist()) for n, t in read.tables.items()] == [
        (n, t.dtype, t.tolist()) for n, t in GIVEN.tables.items()
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "other"}, "format: expected 'tpopt-derivation'"),
        ({"version": 2}, "version: expected 1, the file has 2"),
        ({"steps": []}, "steps: a derivation has at least one"),
        ({"steps": [{"law": 1}]}, "law: expected str, got int"),
        ({"original": "text"}, "original: expected list, got str"),
        ({"tables": {"t": {"dtype": "f32", "shape": [2], "values": ["zz"]}}}, "tables.t: "),
        ({"tables": {"t": {"dtype": "i64", "shape": [3], "values": [1]}}}, "tables.t: cannot reshape"),
    ],
)
def test_a_damaged_certificate_says_where(change: dict[str, object], reason: str):
    with pytest.raises(CorruptFile, match="^" + reason.replace("(", r"\(")):
        Certificate.loads(json.dumps({**GIVEN.to_dict(), **change}))


def test_no_json_is_no_certificate():
    with pytest.raises(CorruptFile, match="no JSON"):
        Certificate.loads("{")
