"""``tpopt inspect``: what is in a saved model, without torch and without running anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tpopt.commands.compiling import AsJson
from tpopt.commands.output import emit, emit_json
from tpopt.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from tpopt._saved.records import Contents

BINARY: Final = ".safetensors"
SavedArgument = Annotated[Path, typer.Argument(metavar="FILE.tpg", help="A saved model.", show_default=False)]
Member = Annotated[str | None, typer.Option(help="Print this member, such as plan.txt or report.json.")]


def inspect(file: SavedArgument, *, member: Member = None, as_json: AsJson = False) -> None:
    """Show what is in a saved model.

    Needs neither torch nor TVM, executes nothing, and refuses a file that is not what it says (exit code 6).
    """
    from tpopt._saved.records import Contents
    from tpopt.store.archive import open_archive

    contents = Contents(open_archive(file))
    if member is not None:
        emit(_member(contents, member).rstrip("\n"))
        return
    document = describe(contents)
    if as_json:
        emit_json(document)
    else:
        emit(_text(document))


def _member(contents: Contents, name: str) -> str:
    if name not in contents:
        raise UnknownName("member", name, contents.archive.places)
    if name.endswith(BINARY):
        raise UsageError(f"{name} is numbers; tpopt inspect lists them, and safetensors reads them")
    return contents.text(name)


def describe(contents: Contents) -> dict[str, Any]:
    """Returns the manifest, the interface, the steps by family, the weights, and the check against the original."""
    from tpopt._saved.records import Interface, Steps, decode, parse_json
    from tpopt.report.codec import encode_record

    path = contents.archive.path
    interface = decode(Interface, contents.read("interface.json"), f"{path}: interface.json")
    steps = decode(Steps, contents.read("steps.json"), f"{path}: steps.json").steps if "steps.json" in contents else ()
    kinds = sorted({s.kind for s in steps})
    return {
        "file": str(path),
        "manifest": encode_record(contents.manifest),
        "interface": encode_record(interface),
        "steps": {k: sum(s.kind == k for s in steps) for k in kinds},
        "tensors": {n: _tensors(contents, n) for n in contents.archive.places if n.endswith(BINARY)},
        "certificate": parse_json(contents.read("certificate.json"), f"{path}: certificate.json"),
        "program": contents.text("original.txt").split("\n", 1)[0],
    }


def _tensors(contents: Contents, name: str) -> dict[str, int]:
    """Number and bytes of the tensors of a member, from its header alone."""
    from tpopt.errors import CorruptFile

    data = contents.read(name)
    length = int.from_bytes(data[:8], "little")
    try:
        if length > len(data) - 8:
            raise ValueError("its header is longer than the file")
        header = json.loads(bytes(data[8 : 8 + length]))
        return {"count": len([k for k in header if k != "__metadata__"]), "bytes": len(data) - 8 - length}
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptFile(f"{contents.archive.path}: {name} is not safetensors: {error}") from error


def _text(document: dict[str, Any]) -> str:
    from tpopt.report.render import table

    manifest, certificate = document["manifest"], document["certificate"]
    checked = (
        f"{certificate.get('programs')} input sets, relative L2 error {certificate.get('l2_rel')}, allowed "
        f"{certificate.get('tolerance')}"
    )
    rows = [
        ("file", f"{document['file']} (format {manifest['format']}, tpopt {manifest['tpopt']})"),
        ("model", f"{manifest['model']} ({manifest['status']})"),
        ("machine", manifest["machine"]),
        ("inputs", document["program"].removeprefix(f"program {manifest['model']}")),
        ("steps", ", ".join(f"{n} {k}" for k, n in document["steps"].items()) or "the original operators"),
        ("checked", checked),
        *((n, f"{t['count']} tensors, {t['bytes']:,} bytes") for n, t in document["tensors"].items()),
        *((m["name"], f"{m['bytes']:,} bytes, sha256 {m['sha256']}") for m in manifest["members"]),
    ]
    return table(("", ""), rows).rstrip("\n")
