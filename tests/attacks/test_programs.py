"""Threat: a program that calls what it should not, or reads outside of its tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
from attacks.conftest import Refused
from support.forge import forged, replaced

from tpopt._saved.admit import operators


@pytest.mark.parametrize(
    "target",
    [
        "aten.from_file.default", "aten.set_.source_Storage", "aten._sparse_coo_tensor_unsafe.default",
        "aten.relu_.default", "aten.resize_.default", "prim.Print.default", "os.system.default",
        "profiler._record_function_enter_new.default", "inductor._reinterpret_tensor.default",
        "quantized.linear.default", "_c10d_functional.all_reduce.default",
    ],
)  # fmt: skip
@pytest.mark.parametrize("member", ["original_txt", "plan_txt"])
def test_an_operator_off_the_list(good: Path, tmp_path: Path, refused: Refused, target: str, member: str):
    path = forged(good, tmp_path / "a.tpg", **{member: replaced("opaque aten.relu.default(", f"opaque {target}(")})
    refused(path, rf"calls {target.replace('.', '[.]')}, which is not among the operators that a file may call")


def test_the_list_has_no_operator_that_writes_or_opens():
    import torch

    def operator(name: str):
        _, packet, overload = name.split(".")
        return getattr(getattr(torch.ops.aten, packet), overload)

    schemas = {n: operator(n)._schema for n in operators()}
    writes = [n for n, s in schemas.items() if any(a.alias_info and a.alias_info.is_write for a in s.arguments)]
    assert writes == []
    kinds = {str(a.type) for s in schemas.values() for a in s.arguments}
    assert [
        k for k in kinds if any(w in k for w in ("Storage", "Stream", "QScheme", "__torch__", "Any", "PyObject"))
    ] == []


@pytest.mark.parametrize("name", ["subprocess.run", "onednn.exec", "generated.so"])
def test_a_kernel_that_does_not_exist(good: Path, tmp_path: Path, refused: Refused, name: str):
    path = forged(good, tmp_path / "a.tpg", plan_txt=replaced("kernel mkl.linear(", f'kernel "{name}"('))
    refused(path, "runs a kernel .*which this tpopt does not have")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("relu[i0,i1,k2,k3]", "relu[i0,i1,k2+9,k3]"),
        ("relu[i0,i1,k2,k3]", "relu[i0,i1,k2,k3-1]"),
        ("mean[i0,k] *", "mean[i0+2,k] *"),
        ("mean[i0,k] *", "mean[1000000*i0,k] *"),
        ("x[i0,c,i2+r0-1,i3+r1-1]", "x[i0,c,i2+r0,i3+r1-1]"),
        ("select(1 <= i2+r0 < 10 & 1 <= i3+r1 < 8", "select(0 <= i2+r0 < 10 & 1 <= i3+r1 < 8"),
        ("select(1 <= i2+r0 < 10 & 1 <= i3+r1 < 8", "select(1 <= i2+r0 < 11 & 1 <= i3+r1 < 8"),
        ("select(1 <= i2+r0 < 10 & ", "select("),
    ],
)
def test_an_index_out_of_range(good: Path, tmp_path: Path, refused: Refused, old: str, new: str):
    refused(forged(good, tmp_path / "a.tpg", algebra_txt=replaced(old, new)), r"algebra.txt: .* may leave ")


def test_an_index_out_of_range_inside_of_a_kernel(good: Path, tmp_path: Path, refused: Refused):
    path = forged(good, tmp_path / "a.tpg", plan_txt=replaced("head.weight[i1,k] }", "head.weight[i1+1,k] }"))
    refused(path, r"plan.txt: head.weight\[i1\+1, k\] may leave head.weight: f32\[5,8\]")


@pytest.mark.parametrize(
    ("member", "old", "new", "reason"),
    [
        ("original_txt", "x: f32[2,3,9,7]", "x: f32[2,3,9]", "takes or returns other tensors"),
        ("algebra_txt", "x: f32[2,3,9,7]", "x: f32[2,3,9,9]", "takes or returns other tensors|no program"),
        ("plan_txt", "x: f32[2,3,9,7]", "x: f32[2,3,9,9]", "takes other inputs|no program"),
        ("plan_txt", "return mean, linear", "return linear, mean", "returns other tensors"),
        ("original_txt", "head.bias: f32[5]", "head.bias: f32[4000000000,4000000000]", "bytes: at most"),
        ("original_txt", "relu: f32[2,8,9,7]", f"relu: f32[{','.join(['1'] * 65)}]", "has 65 axes"),
        ("original_txt", "weight head.bias: f32[5]", "weight head.bias: f32[7]", "head.bias is declared as"),
        ("original_txt", "relu: f32[2,8,9,7]", "relu: f32[2,8,9,-7]", "no program|extent"),
        ("steps_json", '"kind": "original"', '"kind": 1', "expected text"),
        ("interface_json", "results(mean, linear)", "results(linear, mean)", "the results are not those"),
        ("interface_json", "results(mean, linear)", "results(mean)", "the results are not those"),
        ("interface_json", '"x"', '"y"', "the inputs are not those"),
        ("interface_json", "[0]},", "[0,0]},", "the inputs are not those"),
        ("interface_json", '"sizes": []', '"sizes": [{"name": "s0", "value": 1e3}]', "expected an integer"),
    ],
)
def test_shapes_and_names_that_do_not_fit(
    good: Path, tmp_path: Path, refused: Refused, member: str, old: str, new: str, reason: str
):
    refused(forged(good, tmp_path / "a.tpg", **{member: replaced(old, new)}), reason)


@pytest.mark.parametrize(
    "change",
    [
        replaced("rows=1", "rows=1000000"), replaced("depth=8", "depth=8000000"),
        replaced("columns=(5,)", "columns=(5000,)"), replaced("ones=0", "ones=1"),
        replaced("x_order=(0, 1)", "x_order=(1, 0)"),
    ],
)  # fmt: skip
def test_parameters_that_no_matcher_would_write_are_not_used(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, change
):
    import torch
    from saved.conftest import Small, example

    import tpopt

    monkeypatch.setenv("TPOPT_CACHE_DIR", str(tmp_path / "cache"))
    loaded = tpopt.load(forged(good, tmp_path / "a.tpg", plan_txt=change))
    assert "a kernel that this tpopt does not offer for its algebra" in caplog.text
    with torch.no_grad():
        assert torch.allclose(loaded(*example())["logits"], Small().eval()(*example())["logits"], atol=1e-5)


@pytest.mark.parametrize("depth", [100, 100_000])
def test_nesting_without_end(good: Path, tmp_path: Path, refused: Refused, depth: int):
    deep = replaced("relu[i0,i1,k2,k3]", "exp(" * depth + "relu[i0,i1,k2,k3]" + ")" * depth)
    refused(
        forged(good, tmp_path / "a.tpg", algebra_txt=deep), "algebra.txt is no program: nested deeper than 60 levels"
    )
