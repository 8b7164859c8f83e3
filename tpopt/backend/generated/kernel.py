"""A generated kernel as a call of a plan: built in a worker, loaded, handed its constants and its results' memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache, partial
from typing import Any

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.build.cache import kernel_digest
from tpopt.backend.build.pool import BuildRequest, Built, build_pool
from tpopt.backend.call import Call, Ref
from tpopt.backend.generated.machine import host_processor
from tpopt.backend.generated.normal import algebra
from tpopt.backend.generated.packing import packed
from tpopt.backend.generated.plan import KernelPlan
from tpopt.backend.generated.request import KernelRequest
from tpopt.backend.generated.sizes import shape
from tpopt.backend.native.loading import load_kernel
from tpopt.ir import DType, Kernel, Stage, Tensor, aten
from tpopt.ir.materialize import materialize

IMPLEMENTATION = "generated"
ENTRY = "tpopt.backend.tvm.build:build_kernel"
FUNCTION = "kernel"


@lru_cache(maxsize=4096)
def request_of(stage: Kernel) -> KernelRequest:
    """The request for a kernel of a plan. Raises :class:`KernelUnsupported` where there can be none."""
    return KernelRequest.of(algebra(stage), constants_of(stage), host_processor())


def constants_of(stage: Kernel) -> tuple[int, ...]:
    """Positions of the tensors that a kernel reads and whose values never change."""
    found = dict(stage.parameters)["constants"]
    assert isinstance(found, tuple)
    return tuple(n for n in found if isinstance(n, int))


def prefetch(stages: Iterable[Stage]) -> None:
    """Has the kernels of these stages built meanwhile."""
    for stage in stages:
        if isinstance(stage, Kernel) and stage.implementation == IMPLEMENTATION:
            submit(request_of(stage))


def submit(request: KernelRequest) -> Future[Built]:
    """Asks for a kernel to be built; the same request twice is built once."""
    payload = request.encode()
    return build_pool().submit(BuildRequest(ENTRY, payload, kernel_digest(payload)))


class GeneratedKernel:
    """The machine code of one request, and of the same algebra for inputs laid out in other ways.

    ``constants`` has the value of each constant input by its position.
    """

    def __init__(self, request: KernelRequest, constants: Mapping[int, torch.Tensor]) -> None:
        self.request = request
        self._constants = dict(constants)
        self._variants: dict[tuple[tuple[int, ...], ...], Callable[..., None]] = {}
        self._outs = [_Made(t) for t in request.program.outputs]
        self.packed_bytes = 0

    def fresh(self) -> list[Callable[[], torch.Tensor]]:
        """For each result a function that allocates a tensor for it."""
        return [made.allocate() for made in self._outs]

    def at(self, args: Sequence[torch.Tensor]) -> Callable[..., None]:
        """The function for inputs with the strides of these."""
        key = tuple(a.stride() for a in args)
        if key not in self._variants:
            self._variants[key] = self._variant(args)
        return self._variants[key]

    def __call__(self, *args: torch.Tensor) -> Any:
        """Runs it on inputs of any strides; the results are new tensors."""
        outs = [allocate() for allocate in self.fresh()]
        self.at(args)(*args, *outs)
        return outs[0] if len(outs) == 1 else tuple(outs)

    def _variant(self, args: Sequence[torch.Tensor]) -> Callable[..., None]:
        moving = [n for n in range(len(self.request.program.inputs)) if n not in self._constants]
        strides = {n: tuple(a.stride()) for n, a in zip(moving, args, strict=True) if not a.is_contiguous()}
        base = self.request
        request = KernelRequest(base.text, base.constants, base.processor, tuple(sorted(strides.items())))
        built = submit(request).result()
        function = load_kernel(built.path, FUNCTION)
        return self._with_constants(function, request.plan, moving)

    def _with_constants(
        self, function: Callable[..., Any], plan: KernelPlan, moving: Sequence[int]
    ) -> Callable[..., None]:
        """The loaded function as one of the inputs that vary and the results alone."""
        names = [t.name for t in self.request.program.inputs]
        positions = {names[n]: k for k, n in enumerate(moving)}
        values = {names[n]: value for n, value in self._constants.items()}
        nest_of = {p.name: n for p in plan.packs for n in plan.nests if p.read in _reads(n)}
        slots: list[int | torch.Tensor] = [
            positions[t.name] if t.name in positions else _passed(values[t.name].contiguous()) for t in plan.reads
        ]
        laid_out = [packed(p, nest_of[p.name], values[p.read.tensor.name]) for p in plan.packs]
        self.packed_bytes += sum(p.numel() * p.element_size() for p in laid_out)
        slots += map(_passed, laid_out)
        slots += range(len(moving), len(moving) + len(plan.outs))
        dtypes = [self.request.program.inputs[n].dtype for n in moving] + [t.dtype for t in plan.outs]
        return _arranged(function, slots, dtypes)


def _reads(nest: Any) -> set[Any]:
    from tpopt.backend.generated.access import Access

    return set(Access(nest.stage, {}).reads)


def _passed(value: torch.Tensor) -> torch.Tensor:
    """A tensor as kernels take it: complex numbers as pairs, bf16 as its bits."""
    if value.is_complex():
        return torch.view_as_real(value)
    return value.view(torch.uint16) if value.dtype is torch.bfloat16 else value


def _arranged(
    function: Callable[..., Any], slots: Sequence[int | torch.Tensor], dtypes: Sequence[DType]
) -> Callable[..., None]:
    """A function of tensors of these types that passes each of ``slots``: an argument by number, or a constant."""
    viewed = [d.is_complex or d is DType.BF16 for d in dtypes]
    if list(slots) == list(range(len(dtypes))) and not any(viewed):
        return function
    names = [f"a{n}" for n in range(len(dtypes))]
    scope: dict[str, Any] = {"function": function, "passed": _passed}
    passed = []
    for number, slot in enumerate(slots):
        if isinstance(slot, torch.Tensor):
            scope[f"c{number}"] = slot
            passed.append(f"c{number}")
        else:
            passed.append(f"passed({names[slot]})" if viewed[slot] else names[slot])
    text = f"def call({', '.join(names)}):\n    function({', '.join(passed)})\n"
    exec(compile(text, "<tpopt kernel>", "exec"), scope)  # noqa: S102 - made of names written here
    made: Callable[..., None] = scope["call"]
    return made


class _Made:
    """A result: its shape and type."""

    def __init__(self, tensor: Tensor) -> None:
        self.shape = shape(tensor)
        self.dtype: torch.dtype = aten.torch_dtype(tensor.dtype)

    def allocate(self) -> Callable[[], torch.Tensor]:
        """A function that makes an empty tensor for it."""
        return partial(torch.empty, self.shape, dtype=self.dtype)


def bind_generated(stage: Kernel, binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``generated``: the kernel with the model's weights as its constants."""
    constants = constants_of(stage)

    def make() -> GeneratedKernel:
        return GeneratedKernel(request_of(stage), {n: _value(stage.reads[n], binder) for n in constants})

    kernel = binder.packed((IMPLEMENTATION, stage), make)
    moving = tuple(Ref(t.name) for n, t in enumerate(stage.reads) if n not in constants)
    outs = tuple(o.name for o in stage.outs)
    return Call(IMPLEMENTATION, kernel, moving, (), outs, len(outs) == 1, into=kernel)


def _value(tensor: Tensor, binder: Binder) -> torch.Tensor:
    """A constant: the model's own, or the one that its formula stands for."""
    if tensor.name in binder.weights:
        return binder.weights[tensor.name]
    formula = binder.packed(("formula", tensor), lambda: torch.from_numpy(materialize(tensor)))
    assert isinstance(formula, torch.Tensor)
    return formula.to(aten.torch_dtype(tensor.dtype))


BINDERS = {IMPLEMENTATION: bind_generated}
