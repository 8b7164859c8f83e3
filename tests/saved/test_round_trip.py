from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from saved.conftest import Small, compile_small, example
from torch import nn

import tpopt
from tpopt._saved import load as loading
from tpopt.errors import GuardFailed, UnsupportedInput, UnsupportedModel, UsageError
from tpopt.store.archive import UNHASHED, open_archive


def test_a_loaded_model_computes_the_same_bits(compiled: tpopt.CompiledModel, saved: Path):
    loaded = tpopt.load(saved)
    for _ in range(2):  # the first call records, the second runs what was recorded
        for name, value in compiled(*example()).items():
            assert torch.equal(value, loaded(*example())[name])
    assert str(loaded.plan) == str(compiled.plan)
    assert [(s.kind, s.name) for s in loaded.plan.steps] == [(s.kind, s.name) for s in compiled.plan.steps]
    assert str(loaded.program) == str(compiled.program)
    assert loaded.report == compiled.report


def test_the_original_comes_back_too(saved: Path):
    loaded, model = tpopt.load(saved), Small().eval()
    with torch.no_grad():
        expected = model(*example())
        found = loaded.original(*example())
    assert torch.equal(found["logits"], expected["logits"])


def test_equal_models_are_equal_files(tmp_path: Path):
    for name in ("one", "two"):
        compile_small().save(tmp_path / f"{name}.tpg")
    one, two = (open_archive(tmp_path / f"{n}.tpg") for n in ("one", "two"))
    assert list(one.places) == list(two.places)
    assert [n for n in one.places if n not in UNHASHED and one.read(n) != two.read(n)] == []


def test_a_loaded_model_can_be_saved_again(saved: Path, tmp_path: Path):
    tpopt.load(saved).save(tmp_path / "again.tpg")
    assert (tmp_path / "again.tpg").read_bytes() == saved.read_bytes()


def test_a_model_that_stayed_as_it_was_is_saved_without_a_plan(tmp_path: Path):
    original = compile_small(nn.Linear(3, 4), (torch.randn(2, 3),), exclude=("*",))
    kept = tpopt.CompiledModel(original._run, original.original, original.report, original.program, None, None)
    with pytest.raises(UnsupportedModel, match="nothing to save"):
        kept.save(tmp_path / "kept.tpg")


def test_dynamic_sizes_travel_with_the_file(tmp_path: Path):
    model, batch = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)).eval(), torch.export.Dim("batch", min=2)
    made = tpopt.compile(
        model, (torch.randn(4, 6),), dynamic_shapes=({0: batch},), choice="model", kernels="library", gate=False
    )  # fmt: skip
    made.save(tmp_path / "dynamic.tpg")
    loaded = tpopt.load(tmp_path / "dynamic.tpg")
    other = torch.randn(9, 6)
    assert torch.equal(made(other), loaded(other))
    assert loaded.original(other).shape == (9, 2)


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(3))

    def forward(self, x: torch.Tensor, scale: float = 2.0, *, flag: bool = True) -> list[torch.Tensor]:
        self.count += 1
        return [x * scale + self.count, self.count * 2]


def test_buffers_that_calls_update_go_on_from_where_they_were(tmp_path: Path):
    made = compile_small(Counter(), (torch.ones(3), 3.0), kwargs={"flag": False})
    made(torch.ones(3), 3.0, flag=False)
    made.save(tmp_path / "counter.tpg")
    loaded = tpopt.load(tmp_path / "counter.tpg")
    assert [t.tolist() for t in loaded(torch.ones(3), 3.0, flag=False)] == [[5.0] * 3, [4.0] * 3]
    assert [t.tolist() for t in loaded(torch.ones(3), 3.0, flag=False)] == [[6.0] * 3, [6.0] * 3]


def test_other_shapes_are_refused_with_what_the_file_takes(saved: Path):
    with pytest.raises(UnsupportedInput, match=r"compiled for inputs x: f32\[2,3,9,7\].*dynamic_shapes"):
        tpopt.load(saved)(torch.randn(3, 3, 9, 7))


class Pair(NamedTuple):
    one: torch.Tensor


def test_containers_that_no_file_holds_are_named(tmp_path: Path):
    class Gives(nn.Module):
        def forward(self, x: torch.Tensor) -> Pair:
            return Pair(x + 1)

    with pytest.raises(UnsupportedModel, match="results hold a Pair"):
        compile_small(Gives(), (torch.ones(2),)).save(tmp_path / "pair.tpg")
    assert list(tmp_path.iterdir()) == []


def test_changed_weights_are_not_saved(tmp_path: Path):
    model = nn.Linear(3, 4)
    made = compile_small(model, (torch.randn(2, 3),))
    with torch.no_grad():
        model.weight += 1
    with pytest.raises(GuardFailed, match="weight weight changed after compilation"):
        made.save(tmp_path / "late.tpg")


@pytest.mark.parametrize(
    ("name", "says"), [("model.pt", r"ends in \.tpg"), ("missing/model.tpg", "cannot write .*No such file")]
)
def test_a_path_that_cannot_be_written_leaves_nothing(
    compiled: tpopt.CompiledModel, tmp_path: Path, name: str, says: str
):
    with pytest.raises(UsageError, match=says):
        compiled.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_error_and_leaves_what_was_there(compiled: tpopt.CompiledModel, tmp_path: Path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "model.tpg"
    path.write_text("before")

    def full(*_: object) -> object:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tpopt.store.archive.os.fsync", full)
        with pytest.raises(UsageError, match="No space left on device"):
            compiled.save(path)
    assert (path.read_text(), list(tmp_path.iterdir())) == ("before", [path])


def test_on_another_machine_it_is_chosen_again_with_one_warning(
    saved: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    before = tpopt.load(saved)(*example())["logits"]
    monkeypatch.setattr(loading, "machine_fingerprint", lambda _device: "another; avx2; threads=64")
    with caplog.at_level(logging.WARNING, "tpopt"):
        found = tpopt.load(saved)(*example())["logits"]
    assert [r.getMessage().count("chosen again") for r in caplog.records] == [1]
    assert "another; avx2; threads=64" in caplog.text
    assert torch.allclose(found, before, atol=1e-5)


class Attends(nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class Filters(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft(torch.fft.rfft(x)[..., :5], n=16)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [(Attends(), tuple(torch.randn(3, 2, 4, 8, 16))), (Filters(), (torch.randn(3, 16),))],
    ids=["attention", "fft"],
)
def test_operators_that_the_algebra_keeps_whole_are_admitted_where_nobody_knows_the_file(
    model: nn.Module, inputs: tuple[torch.Tensor, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = tpopt.compile(model.eval(), inputs, choice="model", kernels="library", gate=False)
    made.save(tmp_path / "m.tpg")
    monkeypatch.setenv("TPOPT_CACHE_DIR", str(tmp_path / "elsewhere"))
    loaded = tpopt.load(tmp_path / "m.tpg")
    assert torch.equal(loaded(*inputs), made(*inputs))
    assert str(loaded.plan) == str(made.plan)
