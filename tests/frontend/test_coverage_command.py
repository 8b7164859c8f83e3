"""The exit codes of ``tpopt coverage``, from a survey of one operator."""

from __future__ import annotations

import json

import pytest

from tpopt.cli import main
from tpopt.frontend import coverage as package
from tpopt.frontend import registry
from tpopt.ir import apply

RELU = "aten.relu.default"


def doubled(ctx, x):
    return ctx.pointwise(lambda *i: apply("mul", apply("max", x.at(i), 0.0), 2.0))


def wasteful(ctx, x):
    for _ in range(9):
        x = ctx.pointwise(lambda *i, x=x: apply("max", x.at(i), 0.0))
    return x


@pytest.mark.parametrize(
    ("lowering", "code", "said"),
    [
        (registry.lowerings()[RELU], 0, ""),
        (doubled, 4, f"error: the algebra of {RELU} does not agree with torch\n"),
        (wasteful, 5, f"error: the algebra of {RELU} does too much work\n"),
    ],
    ids=["sound", "wrong", "wasteful"],
)
def test_the_exit_code_tells_wrong_from_wasteful(lowering, code, said, monkeypatch, capsys):
    survey = package.coverage
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setattr(package, "coverage", lambda check: survey(check, only=[RELU]))
    monkeypatch.setattr("tpopt.frontend.translate.lowerings", lambda: {**registry.lowerings(), RELU: lowering})
    with pytest.raises(SystemExit) as ended:
        main(["coverage", "--json"])
    out, err = capsys.readouterr()
    assert (ended.value.code or 0, err) == (code, said)
    document = json.loads(out)
    assert (document["wrong"], document["excessive"]) == ([RELU] * (code == 4), [RELU] * (code == 5))
