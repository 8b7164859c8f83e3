"""Runs generated CUDA kernels on the CPU, where barriers and shuffles do what they do on a GPU.

Tensors that are ``guarded`` end where memory ends: an access beyond them ends the process, as a barrier does that some
threads of a block miss.
"""

from __future__ import annotations

import ctypes
import mmap
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tpopt.backend.build.link import c_compiler, run
from tpopt.backend.cuda.device import Device
from tpopt.backend.cuda.kernel import CudaKernel
from tpopt.backend.cuda.request import CudaRequest
from tpopt.backend.generated.request import FUNCTION
from tpopt.ir import Program

HEADER = Path(__file__).with_name("cuda_on_cpu.hpp")
FLAGS = ("-x", "c++", "-std=c++17", "-O1", "-w", "-fno-exceptions", "-shared", "-fPIC", "-U_FORTIFY_SOURCE")
A100 = Device.of("sm_80")


def kernel_on_cpu(
    request: CudaRequest, constants: Mapping[int, torch.Tensor] | None = None, backwards: int = 0
) -> CudaKernel:
    """The kernel of a request, to be called with tensors of the CPU."""
    return CudaKernel(request, constants or {}, build_on_cpu, partial(load_on_cpu, backwards=backwards))


def run_on_cpu(program: Program, inputs: Sequence[torch.Tensor], device: Device = A100) -> list[torch.Tensor]:
    """The results of a program's kernel for inputs of any strides."""
    request = CudaRequest.of(program, device)
    results, again = (call_guarded(kernel_on_cpu(request, backwards=b), inputs) for b in (0, 1))
    for one, other in zip(results, again, strict=True):
        assert torch.equal(one.nan_to_num(), other.nan_to_num()), "what threads compute depends on their order"
    return results


def call_guarded(kernel: CudaKernel, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Calls a kernel with copies of tensors behind which there is no memory."""
    given = [guarded(t) for t in inputs]
    function = kernel.at(given)
    outs = [guarded(make()) for make in kernel.fresh()]
    function(*given, *outs)
    return outs


def build_on_cpu(request: CudaRequest) -> Path:
    """The machine code of a request for this CPU."""
    from tpopt.backend.tvm.cuda.source import cuda_source

    out = Path(_folder().name) / f"{request.digest}.so"
    if not out.exists():
        compile_for_cpu(cuda_source(request.plan, request.device.arch), out)
    return out


def compile_for_cpu(source: str, out: Path) -> None:
    """Compiles the source of a kernel for this CPU."""
    body = source[source.index('extern "C" __global__') :].replace("__shared__ alignas(64)", "alignas(64) static")
    head = re.search(rf"{FUNCTION}\((.*?)\)", body)
    assert head is not None
    count = head.group(1).count("*")
    rounds = "on_cpu::block(threads);" if "__sync" in body or "__shfl" in body else "on_cpu::alone(threads);"
    text = f"""#include "{HEADER}"
{body}
static void *pointers[{count}];
template <typename... A, size_t... N> static void call(void (*f)(A...), std::index_sequence<N...>) {{
    f((A)pointers[N]...);
}}
static void body() {{ call({FUNCTION}, std::make_index_sequence<{count}>()); }}
extern "C" void launch(int blocks, int threads, void **parameters, int backwards) {{
    on_cpu::backwards = backwards;
    for (int n = 0; n < {count}; ++n) pointers[n] = *(void **)parameters[n];
    on_cpu::body = body;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {{ {rounds} }}
}}
"""
    compiler = c_compiler()
    assert compiler is not None
    written = out.with_suffix(".cpp")
    written.write_text(text)
    said = run((*compiler, *FLAGS, "-o", str(out), str(written), "-lm"))
    assert said is None, f"{said}\n{body}"


def load_on_cpu(
    path: Path, blocks: int, threads: int, device: torch.device, backwards: int = 0
) -> Callable[[Sequence[int]], None]:
    """What :func:`compile_for_cpu` made, as a function of addresses; threads run ``backwards`` or in their order."""
    assert device.type == "cpu"
    library = ctypes.CDLL(str(path))

    def launch(addresses: Sequence[int]) -> None:
        held = (ctypes.c_void_p * len(addresses))(*addresses)
        places = (ctypes.c_void_p * len(addresses))(*(ctypes.addressof(held) + 8 * n for n in range(len(addresses))))
        library.launch(blocks, threads, places, backwards)

    return launch


def guarded(tensor: torch.Tensor) -> torch.Tensor:
    """A copy, with the end of memory behind it."""
    span = 1 + sum((e - 1) * s for e, s in zip(tensor.shape, tensor.stride(), strict=True))
    count, page = span * tensor.element_size(), mmap.PAGESIZE
    size = -(-count // page) * page
    memory = mmap.mmap(-1, size + page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(start + size), ctypes.c_size_t(page), 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    flat = torch.frombuffer(memory, dtype=tensor.dtype, count=span, offset=size - count)
    return flat.as_strided(tensor.shape, tensor.stride()).copy_(tensor)


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="cuda_on_cpu-")
