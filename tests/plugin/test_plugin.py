"""A real package, built and installed into a folder of its own, and what an installed tpopt makes of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tpopt.backend.library.providers import GROUP as KERNELS
from tpopt.backend.library.providers import loaded
from tpopt.choose.models import GROUP as MODELS
from tpopt.choose.models import cost_model, cost_models
from tpopt.cost_models.roofline import Balance
from tpopt.errors import UnknownName, UsageError

PACKAGE = Path(__file__).parent / "package"
MODEL = """
import torch, tpopt
class Model(torch.nn.Module):
    def forward(self, x):
        return (torch.pow(x, 2) - 1).relu(), x.sum()
x = torch.linspace(0.5, 2.0, 64)
made = tpopt.compile(Model().eval(), (x,), choice="model", gate=False, verify=True, effort=20, **OPTIONS)
got, want = made(x), Model()(x)
print([torch.allclose(a, b, atol=1e-5) for a, b in zip(got, want)])
print(sorted(made.plan.count()), "pow(" in str(made.program), [p.name for p in made.report.passes][-1:])
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    source = folder / "source"
    subprocess.run(["cp", "-r", str(PACKAGE), str(source)], check=True)
    subprocess.run([*command, "--target", str(folder / "site"), str(source)], check=True)
    return folder / "site"


def python(site: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "COLUMNS": "500"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_pass_and_a_pipeline_are_listed_with_their_options(site: Path):
    found = json.loads(python(site, "-m", "tpopt", "passes", "--json"))
    row = next(r for r in found["passes"] if r["name"] == "square-as-product")
    assert (row["numerics"], row["options"], row["problem"]) == (
        "rounding",
        [{"name": "most", "default": "100"}],
        None,
    )
    pipeline = next(r for r in found["pipelines"] if r["name"] == "example")
    assert pipeline["passes"].endswith("square-as-product{most=7}")


def test_pass_cost_model_and_kernel_take_part_in_a_compilation(site: Path):
    options = 'OPTIONS = dict(pipeline="example", cost_model="constant", kernels="library")\n'
    agrees, facts = python(site, "-W", "ignore", "-c", options + MODEL).splitlines()
    assert agrees == "[True, True]"
    assert "example" in facts
    assert "False" in facts  # no pow is left
    assert "square-as-product" in facts


def test_without_it_nothing_of_it_is_there():
    with pytest.raises(UnknownName, match=r"unknown cost model 'constant'.* Valid names: roofline"):
        cost_model("constant", Balance())


def test_two_owners_of_a_cost_model_are_both_named():
    with pytest.raises(UsageError, match=r"'roofline' is claimed by tpopt\.cost_models\.roofline.* and by other:Model"):
        cost_models([EntryPoint("roofline", "other:Model", MODELS)])


@pytest.mark.parametrize(
    ("value", "says"), [("no_such_module", "does not load"), ("json", "has no candidates.. and BINDERS")]
)
def test_a_broken_kernel_provider_is_left_out_with_a_warning(value: str, says: str, caplog: pytest.LogCaptureFixture):
    assert loaded([EntryPoint("broken", value, KERNELS)]) == ()
    assert f"broken ({value})" in caplog.text
    assert re.search(says, caplog.text)
