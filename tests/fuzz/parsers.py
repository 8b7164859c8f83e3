"""``python -m fuzz.parsers COUNT [SEED]``: random texts and files for what reads them; only our errors may come out.

Texts are made by changing good ones: tokens swapped, doubled, dropped, taken from another text, numbers made extreme.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from programs import random_program

from tpopt._saved.admit import admit
from tpopt._saved.records import Contents, Interface, Manifest, Steps, decode
from tpopt.errors import TpoptError
from tpopt.ir.parse import parse_program
from tpopt.rewrite import registry
from tpopt.store.archive import MANIFEST, open_archive, write_archive

TOKEN = re.compile(r"[A-Za-z_][\w.]*|\d+|\s+|.", re.DOTALL)
EXTREME = (
    "0", "-1", "1", "9223372036854775807", "99999999999999999999", "1e999", "nan", "inf", "-0.0", "none", "true", "[",
    "]", "{", "}", "(", ")", ",", ":", "@", "//", "%", "<=", "&", "$0", "$9", '"', "`", "\\", "\x00", "é", "\n", "let",
    "sum", "opaque", "kernel", "defines", "return", "alias", "symbol", "weight", "program", "layout", "structure",
    "select",
)  # fmt: skip
PIPELINES = (
    "default", "none", "cleanup", "fold-constants,dead-code", 'fold-constants{max_bytes=1e6},derive{most=2,gain=0.5}',
    "simplify", "merge-shared-gemms,default", 'derive{most=3}', "inline-views,fuse-pointwise,common-subexpressions",
)  # fmt: skip
JSONS = (
    (
        b'{"format": 1, "tpopt": "0.1.0", "model": "m", "status": "original", "machine": "x", "device": "cpu", '
        b'"pipeline": "d", "kernels": "all", "members": [{"name": "plan.txt", "bytes": 3, "sha256": "ab"}]}'
    ),
    (
        b'{"inputs": "0", "outputs": "0", "leaves": ["x", null], "fixed": "none = opaque fixed()", "results": "r", '
        b'"requires": "q", "states": [{"name": "a", "path": "b"}], "sizes": [{"name": "s0", "value": 3}]}'
    ),
    b'{"steps": [{"kind": "original", "name": "relu:original"}, {"kind": "gemm", "name": "mm"}]}',
)


def changed_text(text: str, others: Sequence[str], draw: random.Random) -> str:
    """A text with one to four of its tokens changed."""
    tokens = TOKEN.findall(text)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(len(tokens)) if tokens else 0
        match draw.randrange(6):
            case 0:
                tokens[at : at + 1] = [draw.choice(EXTREME)]
            case 1:
                tokens[at:at] = [draw.choice(EXTREME)]
            case 2:
                del tokens[at : at + draw.choice((1, 1, 3, 10))]
            case 3:
                tokens[at:at] = tokens[at : at + draw.choice((1, 3, 10))]
            case 4:
                other = TOKEN.findall(draw.choice(others))
                start = draw.randrange(len(other)) if other else 0
                tokens[at:at] = other[start : start + draw.choice((1, 5, 20))]
            case 5:
                if tokens:
                    back = draw.randrange(len(tokens))
                    tokens[at], tokens[back] = tokens[back], tokens[at]
    return "".join(tokens)


def changed_bytes(data: bytes, draw: random.Random) -> bytes:
    """Bytes with one to four places changed."""
    made = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(made)) if made else 0
        match draw.randrange(4):
            case 0:
                made[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del made[at : at + draw.choice((1, 4, 16))]
            case 2:
                made[at:at] = made[at : at + draw.choice((1, 4, 16))]
            case 3:
                made[at : at + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80", b"PK\x01\x02"))
    return bytes(made)


class Harness:
    """Readers, and good inputs for each."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.draw = random.Random(seed)
        self.folder = folder
        self.programs = [str(random_program(n, stages=3).program) for n in range(40)]
        self.known = registry()
        write_archive(folder / "good.tpg", {MANIFEST: JSONS[0], "plan.txt": b"abc", "report.json": b"{}"})
        self.archive = (folder / "good.tpg").read_bytes()
        self.tried = 0

    def one(self) -> None:
        """One input for a reader; raises whatever the reader raises that is none of our errors."""
        self.tried += 1
        kind = self.draw.random()
        try:
            self._reader(kind)()
        except TpoptError:
            return

    def _reader(self, kind: float) -> Callable[[], object]:
        draw = self.draw
        if kind < 0.35:
            text = changed_text(draw.choice(self.programs), self.programs, draw)
            return lambda: parse_program(text).validate()
        if kind < 0.45:
            text = changed_text(draw.choice(self.programs), self.programs, draw)
            return lambda: admit(text, "fuzz", ("k",))
        if kind < 0.75:
            text = changed_text(draw.choice(PIPELINES), PIPELINES, draw)
            return lambda: self.known.parse(text)
        if kind < 0.9:
            record, data = draw.choice(list(zip((Manifest, Interface, Steps), JSONS, strict=True)))
            made = changed_bytes(data, draw)
            return lambda: decode(record, made, "fuzz")
        path = self.folder / "fuzz.tpg"
        path.write_bytes(changed_bytes(self.archive, draw))
        return lambda: Contents(open_archive(path))


def main(count: int, seed: int) -> int:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        harness = Harness(Path(folder), seed)
        while harness.tried < count:
            harness.one()
        took = time.perf_counter() - began
        sys.stdout.write(f"{harness.tried} inputs from seed {seed}, no crash, {took:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
