"""What a measured time depends on: machine, threads, versions of the libraries; and the machine's balance."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch

from tpopt.backend.operators import function, inference
from tpopt.cost_models.roofline import Balance
from tpopt.measure import Stopwatch, bootstrap_median, interleave
from tpopt.store.records import Record, Records, cpu_flags, fingerprint

GEMM_SIDE: Final = 768
"""A product of square matrices of this side is near the peak of a core and takes some milliseconds."""
CUDA_GEMM_SIDE: Final = 4096
COPY_BYTES: Final = 1 << 26
"""More than the caches of one core and its share of a socket's hold."""
COPIES: Final = (1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, COPY_BYTES)
ROUNDS: Final = 5
SAMPLE_SECONDS: Final = 0.002
BALANCE_SECONDS: Final = 0.5
"""No round of the probes begins later than this; three always do (measured: 0.2 s on two cores, 0.3 s on one)."""
OWN_SHARE: Final = 0.9
"""Part of its threads' time that a process gets at least on idle cores (measured: 0.99; 0.5 beside one like it)."""

ASSUMED: Final = "balance: assumed"
"""Key of the record that says that the default balance was taken."""

EXACT_INTEGERS: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})
"""What a processor needs one of (Linux's names) to sum products of bytes in 32 bits."""


def integers_are_exact() -> bool:
    """Whether products of codes and weights of a byte are summed as they are: older instructions saturate at 16 bits.

    Source: oneDNN developer guide, "Nuances of int8 computations".
    """
    return bool(cpu_flags() & EXACT_INTEGERS)


def narrow_products() -> bool:
    """Whether oneDNN multiplies bf16 numbers on this processor."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - what torch's own compiler asks


def synchronizer(device: torch.device) -> Callable[[], None]:
    """Waits until the device has done what it was asked to; nothing to wait for on the CPU."""
    return torch.cuda.synchronize if device.type == "cuda" else _nothing


def _nothing() -> None:
    return None


def machine_fingerprint(device: torch.device) -> str:
    """Text that differs where measurements do."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return fingerprint(name, torch.get_num_threads(), {"torch": torch.__version__})


def measured_balance(device: torch.device, records: Records) -> Balance:
    """The machine's :func:`known_balance`; the default one while other programs hold the cores.

    A file of records that somebody named decides a compilation: it remembers that the default was taken, and whoever
    reads it takes that as well. The records that all share are asked again, as the machine may be free by then.
    """
    if records.get(ASSUMED) is not None:
        return Balance()
    found = known_balance(device, records)
    if found is None and not records.shared:
        records.put(ASSUMED, Record(0.0, 0.0, 0.0, 0))
        records.save()
    return found or Balance()


def known_balance(device: torch.device, records: Records) -> Balance | None:
    """The machine's :class:`Balance` for f32: from the records, or else measured now, under a second, and kept there.

    A product of matrices gives the multiply-adds, a copy the bytes (read and written), an addition of a few numbers the
    cost of a call, a convolution of a few numbers that of a oneDNN primitive. While other programs hold the cores,
    nothing is kept, and there is none.
    """
    side = CUDA_GEMM_SIDE if device.type == "cuda" else GEMM_SIDE
    probes = {
        "gemm": f"balance: packed f32 product of side {side}",
        "copy": f"balance: copy of {COPY_BYTES} bytes",
        "call": "balance: one call",
        "primitive": "balance: one oneDNN primitive",
    }
    if any(records.get(key) is None for key in probes.values()):
        measured = _measure(device, side)
        if measured is None:
            return None
        for name, record in measured.items():
            records.put(probes[name], record)
        records.save()
    us = {name: max(found.us, 1e-3) for name, key in probes.items() if (found := records.get(key)) is not None}
    return Balance(
        macs_per_us=side**3 / us["gemm"],
        bytes_per_us=2 * COPY_BYTES / us["copy"],
        call_us=us["call"],
        primitive_us=us["primitive"],
    )


def measured_bandwidths(device: torch.device, records: Records) -> dict[int, float]:
    """Bytes a microsecond of copies, by the bytes that they read and write: from the caches first, from memory last.

    From the records, or else measured now, under a second, and kept there. Empty while other programs hold the cores.
    """
    probes = {str(size): f"balance: copy of {size} bytes" for size in COPIES}
    if any(records.get(key) is None for key in probes.values()):
        with torch.no_grad():
            calls = {str(size): _copy(device, size) for size in COPIES}
            product = _probes(device, CUDA_GEMM_SIDE if device.type == "cuda" else GEMM_SIDE)["gemm"]
        for name, record in (_timed(calls, product, device) or {}).items():
            records.put(probes[name], record)
        records.save()
    found = {2 * int(size): records.get(key) for size, key in probes.items()}
    return {size: size / max(record.us, 1e-3) for size, record in found.items() if record is not None}


def _copy(device: torch.device, size: int) -> Callable[[], Any]:
    source = torch.zeros(size // 4, device=device)
    target, copy = torch.empty_like(source), function("aten.copy_.default")
    return lambda: copy(target, source)


def _measure(device: torch.device, side: int) -> dict[str, Record] | None:
    """A record for each probe; ``None`` when the machine was not ours before or after."""
    with torch.no_grad():
        calls = _probes(device, side)
    return _timed(calls, calls["gemm"], device)


def _timed(
    calls: Mapping[str, Callable[[], Any]], product: Callable[[], Any], device: torch.device
) -> dict[str, Record] | None:
    with inference():
        if not _undisturbed(product, device):
            return None
        watch = Stopwatch(min_sample_s=SAMPLE_SECONDS, settle_s=0.0, synchronize=synchronizer(device))
        timings = interleave(calls, rounds=ROUNDS, stopwatch=watch, budget_s=BALANCE_SECONDS)
        if not _undisturbed(product, device):
            return None
    found = {}
    for name, seconds in timings.seconds.items():
        middle = bootstrap_median(np.asarray(seconds) * 1e6)
        found[name] = Record(middle.median, middle.low, middle.high, len(seconds))
    return found


def _undisturbed(product: Callable[[], Any], device: torch.device) -> bool:
    """Whether this process gets the time of all its threads, which a product of matrices keeps busy."""
    if device.type != "cpu":
        return True
    product()  # the first call makes the threads
    began, used = time.perf_counter(), time.process_time()
    for _ in range(3):
        product()
    needed = OWN_SHARE * torch.get_num_threads() * (time.perf_counter() - began)
    return time.process_time() - used >= needed


def _probes(device: torch.device, side: int) -> dict[str, Callable[[], Any]]:
    """Calls as a plan makes them; without oneDNN a primitive costs what any call does.

    A processor's peak is what oneDNN reaches: torch's other library for products is half as fast on some.
    """
    matrix, product = torch.ones(side, side, device=device), torch.empty(side, side, device=device)
    source = torch.zeros(COPY_BYTES // 4, device=device)
    target, few = torch.empty_like(source), torch.ones(16, device=device)
    multiply, copy, add = (function(f"aten.{n}") for n in ("mm.out", "copy_.default", "add.Tensor"))
    calls: dict[str, Callable[[], Any]] = {
        "gemm": lambda: multiply(matrix, matrix, out=product),
        "copy": lambda: copy(target, source),
        "call": lambda: add(few, few),
        "primitive": lambda: add(few, few),
    }
    if device.type == "cpu" and torch._C._has_mkldnn:  # noqa: SLF001 - is_available() has no types
        one, common = [1, 1], ([1, 1], [1, 1], 1)
        image, weight = torch.ones(1, 16, 4, 4), torch.ones(16, 16, 1, 1)
        packed = function("mkldnn._reorder_convolution_weight.default")(weight, [0, 0], *common, [1, 16, 4, 4])
        convolve = function("mkldnn._convolution_pointwise.default")
        tiled = function("mkldnn._reorder_linear_weight.default")(matrix, side)
        linear = function("mkldnn._linear_pointwise.default")
        calls["gemm"] = lambda: linear(matrix, tiled, None, "none", [], "")
        calls["primitive"] = lambda: convolve(image, packed, None, [0, 0], one, one, 1, "none", [], "")
    return calls
