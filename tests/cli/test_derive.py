from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import Run

CHAIN = """
import torch

class Chain(torch.nn.Module):
    def forward(self, a, b, c):
        return (a @ b) @ c

def build():
    return Chain(), (torch.ones(64, 64), torch.ones(64, 64), torch.ones(64, 2))
"""


@pytest.fixture
def chain(tmp_path: Path) -> str:
    file = tmp_path / "chain.py"
    file.write_text(CHAIN)
    return f"{file}:build"


def test_the_chain_of_programs_is_shown_with_its_laws(run: Run, chain: str):
    lines = run("derive", chain).out.splitlines()
    assert lines[0].startswith("matmul_1: 270,336 multiply-adds become 16,384; ")
    assert [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "] == [
        "given", "ExpandProducts", "OrderProducts",
    ]  # fmt: skip


def test_certificates_are_saved_and_replayed(run: Run, chain: str, tmp_path: Path):
    run("derive", chain, "--save", str(tmp_path / "found"))
    (file,) = (tmp_path / "found").iterdir()
    ended = run("replay", str(file))
    assert (ended.code, ended.out.splitlines()[0]) == (0, "matmul_1: every step holds")


def test_a_forged_certificate_ends_with_4(run: Run, chain: str, tmp_path: Path):
    run("derive", chain, "--save", str(tmp_path / "found"))
    (file,) = (tmp_path / "found").iterdir()
    file.write_text(
        file.read_text().replace("matmul_1.product[", "a[", 1) if "a[" in file.read_text() else file.read_text()
    )
    data = json.loads(file.read_text())
    data["steps"][-1]["program"] = [
        line.replace("* inputs_2", "* 2.0 * inputs_2").replace("* c[", "* 2.0 * c[")
        for line in data["steps"][-1]["program"]
    ]
    file.write_text(json.dumps(data))
    ended = run("replay", str(file), "--json")
    assert (ended.code, json.loads(ended.out)["certificates"][0]["passed"]) == (4, False)


def test_why_not_names_the_reason_at_each_region(run: Run, chain: str):
    shown = json.loads(run("derive", chain, "--why-not", "SymmetricPowers", "--json").out)
    assert shown["refused"][0] == {
        "region": "matmul_1", "reason": "no tensor is multiplied with itself over constant coefficients",
    }  # fmt: skip


def test_an_unknown_law_lists_those_that_exist(run: Run, chain: str):
    ended = run("derive", chain, "--without", "Nonsense")
    assert ended.code == 2
    assert "SplitSummation" in ended.err


def test_a_file_that_is_missing_is_named(run: Run):
    ended = run("replay", "nowhere.json")
    assert (ended.code, "there is no file nowhere.json" in ended.err) == (2, True)
