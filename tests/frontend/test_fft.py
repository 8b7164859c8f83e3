from __future__ import annotations

import numpy as np
import pytest
import torch
from frontend.checking import check_lowering, check_table, texts
from torch import fft, randn

from tpopt.ir import Kernel
from tpopt.ir.interpret import interpret

AUTO = torch.export.Dim.AUTO
ATEN = torch.ops.aten


def _complex(*shape):
    return torch.complex(randn(shape), randn(shape))


@pytest.mark.parametrize("norm", [None, "ortho", "forward"])
@pytest.mark.parametrize("n", [None, 4, 5, 9])
def test_transforms_along_one_axis(n, norm):
    def table(*names):
        return {f"{f} {d}": lambda x, f=f, d=d: getattr(fft, f)(x, n, d, norm) for f in names for d in (0, -1)}

    check_table(table("fft", "ifft", "irfft", "hfft"), _complex(6, 7))
    check_table(table("fft", "rfft", "ihfft"), randn(6, 7))


@pytest.mark.parametrize("norm", [None, "ortho", "forward"])
def test_transforms_along_many_axes(norm):
    shapes = ({}, {"s": (5, 8), "dim": (0, 1)}, {"dim": (2, 0)})

    def table(*names):
        return {f"{f} {k}": lambda x, f=f, k=k: getattr(fft, f)(x, norm=norm, **k) for f in names for k in shapes}

    check_table(table("fft2", "ifft2", "irfft2", "hfft2", "fftn", "ifftn", "irfftn", "hfftn"), _complex(3, 6, 7))
    check_table(table("rfft2", "ihfft2", "rfftn", "ihfftn", "fftn"), randn(3, 6, 7))


def test_lengths_without_axes_are_the_last_ones():
    check_lowering(lambda x: fft.fftn(x, s=(4, 5)), _complex(3, 6, 7))
    check_lowering(lambda x: fft.rfftn(x, s=(-1, 5), dim=(0, 1)), randn(3, 6, 7))


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_the_operators_they_are_made_of(mode):
    complex_ = {
        "c2c": lambda x: ATEN._fft_c2c(x, [0, 2], mode, True),
        "c2c inverse": lambda x: ATEN._fft_c2c(x, [1], mode, False),
        "c2r even": lambda x: ATEN._fft_c2r(x, [0, 2], mode, 12),
        "c2r odd": lambda x: ATEN._fft_c2r(x, [0, 2], mode, 13),
    }
    check_table(complex_, _complex(3, 6, 7))
    real = {"half": lambda x: ATEN._fft_r2c(x, [0, 2], mode, True), "all": lambda x: ATEN._fft_r2c(x, [1], mode, False)}
    check_table(real, randn(3, 6, 7))


def test_a_transform_is_one_kernel_over_a_structured_weight():
    traced = check_lowering(lambda x: fft.irfft(x, n=6), _complex(2, 4))
    (stage,) = traced.algebra.stages
    assert isinstance(stage, Kernel)
    assert dict(stage.parameters) == {"axes": (1,), "kind": "c2r", "scale": 2, "sign": 1, "sizes": (6,)}
    (weight,) = traced.algebra.weights
    assert str(weight.structure) == "dft(6, 4, 6, 1)"
    assert weight.name not in traced.algebra.constants
    assert (
        "real(sum[k:4]{ (args_0[i0,k] * dft6.inverse[k,i1]) * select(1 <= k < 3, 2.0, 1.0) }) * 0.16666666666666666"
        in texts(traced)[0]
    )


def test_imaginary_parts_of_the_first_and_the_middle_coefficient_do_not_count():
    spectrum = _complex(4)
    program = check_lowering(lambda x: fft.irfft(x, n=6), spectrum).algebra
    changed = spectrum.numpy() + np.array([5j, 0, 0, 7j])
    assert np.array_equal(*(interpret(program, [v])[0] for v in (spectrum.numpy(), changed)))


def test_one_weight_serves_all_transforms_of_its_length():
    traced = check_lowering(lambda x: fft.ifft2(fft.fft2(x)).real + fft.fft(x).imag, randn(6, 6))
    assert [w.name for w in traced.algebra.weights] == ["dft6", "dft6.inverse"]


def test_lengths_known_at_run_time_use_a_formula():
    traced = check_lowering(fft.fft, randn(3, 6), dynamic=True, also=[(randn(4, 11),)])
    assert traced.algebra.weights == ()
    check_lowering(
        lambda x: fft.irfft(fft.rfft(x), n=x.shape[1]), randn(3, 7), dynamic=({1: AUTO},), also=[(randn(3, 10),)]
    )
    check_lowering(lambda x: fft.rfft2(x), randn(3, 6, 7), dynamic=({0: AUTO},), also=[(randn(5, 6, 7),)])


def test_other_element_types():
    check_lowering(fft.fft, randn(3, 6).double())
    check_lowering(fft.fft, torch.arange(7))


def test_frequencies_and_shifts():
    table = {
        "fftfreq": lambda x: x + fft.fftfreq(7),
        "fftfreq even": lambda x: x[:6] + fft.fftfreq(6, 0.3),
        "rfftfreq": lambda x: x[:4] + fft.rfftfreq(7, 0.3),
        "fftshift": fft.fftshift,
        "ifftshift": fft.ifftshift,
    }
    check_table(table, randn(7))


@pytest.mark.parametrize(
    "settings",
    [
        {"n_fft": 16},
        {"n_fft": 15, "normalized": True, "onesided": False},
        {"n_fft": 16, "hop_length": 5, "win_length": 12, "center": False},
    ],
    ids=str,
)
def test_spectrograms(settings):
    window = torch.hann_window(settings.get("win_length", settings["n_fft"]))

    def transform(x):
        return torch.stft(x, window=window, return_complex=True, **settings)

    check_lowering(transform, randn(3, 64), dynamic=({0: AUTO, 1: AUTO},), also=[(randn(2, 77),)])
    check_lowering(lambda x: torch.view_as_real(transform(x)), randn(64))


def test_spectrograms_of_complex_signals():
    check_lowering(lambda x: torch.stft(x, 15, window=torch.hann_window(15), return_complex=True), _complex(2, 64))


@pytest.mark.parametrize(
    "settings",
    [
        {"n_fft": 16},
        {"n_fft": 16, "hop_length": 5, "win_length": 14, "normalized": True, "length": 90},
        {"n_fft": 16, "center": False},
    ],
    ids=str,
)
def test_signals_from_spectrograms(settings):
    window = torch.hann_window(settings.get("win_length", settings["n_fft"])) + 0.1
    given = {k: v for k, v in settings.items() if k in ("n_fft", "hop_length", "win_length")}
    spectrogram = torch.stft(randn(2, 100), window=window, return_complex=True, **given)
    check_lowering(lambda x: torch.istft(x, window=window, **settings), spectrogram)


def test_complex_signals_from_spectrograms():
    window = torch.hann_window(9) + 0.1
    check_lowering(
        lambda x: torch.istft(x, 9, 3, window=window, onesided=False, return_complex=True), _complex(2, 9, 20)
    )


def test_a_real_signal_reads_one_half_of_a_spectrogram():
    window = torch.hann_window(8) + 0.1
    check_lowering(lambda x: torch.istft(x, 8, 3, window=window, onesided=False), _complex(2, 8, 20))
