"""The rows of a report: what was recorded during one compilation, and nothing computed from it.

The field names are the keys of the JSON form. The ``Attributes`` of each docstring are its documentation: the JSON
Schema (``docs/report.schema.json``) and the page (``docs/report.md``) are made from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["chosen", "lost", "refused"]
Handed = Literal["optimized", "original"]


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """What the user got, and the end-to-end race that decided it.

    Attributes:
        status: ``optimized``: the plan; ``original``: the model as it was, because nothing better was certain.
        reason: why, in one sentence.
        speedup: time of the original over time of the plan, median of interleaved rounds; null when nothing was timed.
        low: lower end of the 95 % interval of ``speedup``.
        high: upper end of it.
    """

    status: Handed
    reason: str
    speedup: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Work:
    """Arithmetic and traffic of the model as it was traced, and of the plan; null when it could not be traced.

    Attributes:
        macs_before: multiply-accumulates of the model as traced.
        macs_after: multiply-accumulates of the plan.
        bytes_before: bytes that the operators of the model read and write.
        bytes_after: bytes that the kernels of the plan read and write.
        macs_algebra_share: the part of ``macs_before`` that is tensor algebra, from 0 to 1.
        macs_opaque: multiply-accumulates of the operators that have no algebra.
    """

    macs_before: int | None = None
    macs_after: int | None = None
    bytes_before: int | None = None
    bytes_after: int | None = None
    macs_algebra_share: float | None = None
    macs_opaque: int | None = None


@dataclass(frozen=True, kw_only=True)
class KernelRow:
    """One step of the plan, in the order of execution.

    Attributes:
        kind: the family: ``original``, ``onednn``, ``gemm``, ``view``, ``layout`` and others.
        name: what the plan calls it.
        source: lines of the model that it comes from.
        predicted_us: microseconds that the cost model expects; null when it does not know.
        measured_us: microseconds measured; null when the choice needed no measurement.
        next_best: the cheapest other candidate that makes the same values of the same; empty where there is none.
        next_best_us: its price.
    """

    kind: str
    name: str
    source: tuple[str, ...] = ()
    predicted_us: float | None = None
    measured_us: float | None = None
    next_best: str = ""
    next_best_us: float | None = None


@dataclass(frozen=True, kw_only=True)
class OpaqueRow:
    """One operator that has no algebra and runs in torch.

    Attributes:
        target: the ATen overload.
        name: the tensor it produces.
        source: lines of the model that it comes from.
        reason: why it has no algebra.
    """

    target: str
    name: str
    source: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class RefusalRow:
    """A reason why a pass left something as it was.

    Attributes:
        reason: what its check said.
        count: how often.
    """

    reason: str
    count: int


@dataclass(frozen=True, kw_only=True)
class PassRow:
    """One pass of the pipeline, in the order in which they ran.

    Attributes:
        name: its name, as in ``tpopt passes``.
        applied: how often it changed something.
        refused: why it did not, where it could have.
        seconds: time it took.
    """

    name: str
    applied: int
    refused: tuple[RefusalRow, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DerivationRow:
    """A chain of laws that turned some stages into others.

    Attributes:
        cover: the tensors whose computation was derived anew.
        laws: the laws, in the order of their application.
    """

    cover: tuple[str, ...]
    laws: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ParetoRow:
    """One plan that was tried within a budget.

    Attributes:
        predicted_us: the sum of its kernels' prices.
        predicted_error: relative L2 error of the worst output, from the errors of single values.
        measured_error: the same on the plan itself, against float64; null where it was not run.
        drop: how far the user's metric drops on the validation data; null where there is none.
        weights_bytes: bytes of its constants.
        status: ``admitted``, or ``refused`` by what was measured.
        note: why it was refused.
    """

    predicted_us: float
    predicted_error: float
    measured_error: float | None
    drop: float | None
    weights_bytes: int | None
    status: Literal["admitted", "refused"]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class VerificationRow:
    """The comparison of the plan with the original and with a reference in float64.

    Attributes:
        programs: number of input sets that were compared; 0 when verification was off.
        l2_rel: largest relative L2 error of an output against float64.
        max_abs: largest absolute difference of an element from the original's.
        tolerance: relative L2 error that was allowed.
        seed: seed of the inputs.
        passed: whether every comparison was within ``tolerance``; null when verification was off.
    """

    programs: int = 0
    l2_rel: float | None = None
    max_abs: float | None = None
    tolerance: float | None = None
    seed: int | None = None
    passed: bool | None = None


@dataclass(frozen=True, kw_only=True)
class MemoryRow:
    """Memory of one call of the plan, in bytes; zero when the original was handed out.

    Attributes:
        arena_bytes: the arena that holds every placed buffer.
        owned_peak_bytes: peak of the buffers that library kernels allocate, workspaces included.
        weights_bytes: weights as the plan keeps them, prepacked ones included.
    """

    arena_bytes: int = 0
    owned_peak_bytes: int = 0
    weights_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class CandidateRow:
    """One way to compute the tensors of a cover.

    Attributes:
        name: the candidate.
        kind: its family, as in ``kernels``.
        price_us: microseconds at which it competed; null when it was refused unpriced.
        low_us: lower end of the interval when the price was measured; null when it was predicted.
        high_us: upper end of it.
        predicted_us: microseconds that the cost model expects, also where a measurement took its place.
        status: ``chosen``, ``lost`` against the chosen one, or ``refused``.
        reason: why it lost or was refused; why it won, when there is more to say than its price.
    """

    name: str
    kind: str
    price_us: float | None
    low_us: float | None = None
    high_us: float | None = None
    predicted_us: float | None = None
    status: Verdict
    reason: str = ""

    @property
    def measured_us(self) -> float | None:
        """The price, when it is a measured one."""
        return None if self.low_us is None else self.price_us


@dataclass(frozen=True, kw_only=True)
class CoverRow:
    """One decision: some tensors, and the candidates that can compute them.

    Attributes:
        cover: the tensors.
        source: lines of the model that they come from.
        candidates: all that were considered, the original among them.
        chosen: name of the one that was taken.
        reason: why it was taken.
    """

    cover: tuple[str, ...]
    source: tuple[str, ...]
    candidates: tuple[CandidateRow, ...]
    chosen: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SettingRow:
    """One named setting.

    Attributes:
        name: its name.
        value: its value, as text.
    """

    name: str
    value: str


@dataclass(frozen=True, kw_only=True)
class EnvironmentRow:
    """The machine and the process in which all of this is true.

    Attributes:
        tpopt: version of tpopt.
        python: version of Python.
        packages: versions of the libraries that decide about kernels; ``missing`` when not installed.
        platform: operating system and architecture.
        cpu: model name of the processor.
        isa: instruction sets that matter for kernels.
        cores: cores that the process may use.
        threads: threads that kernels were compiled for.
        device: ``cpu``, or the name of the accelerator.
        settings: variables of the environment that change speed, where set.
        options: options of the compilation.
    """

    tpopt: str
    python: str
    packages: tuple[SettingRow, ...]
    platform: str
    cpu: str
    isa: tuple[str, ...]
    cores: int
    threads: int
    device: str
    settings: tuple[SettingRow, ...] = ()
    options: tuple[SettingRow, ...] = ()
