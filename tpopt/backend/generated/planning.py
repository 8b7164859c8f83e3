"""From the algebra of a kernel to its plan: stages fused, loops chosen, constants laid out as they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from tpopt.backend.generated.access import Access, depends_on
from tpopt.backend.generated.blocks import loops_around_blocks, panel_ahead
from tpopt.backend.generated.decisions import Decision, decided
from tpopt.backend.generated.fuse import Rows, fused
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.merge import merged
from tpopt.backend.generated.normal import two_pass
from tpopt.backend.generated.plan import KernelPlan, Nest, Pack, Sweep, Work, dense_strides
from tpopt.backend.generated.products import on_matrix_unit
from tpopt.backend.generated.row_blocks import block_of, blocked
from tpopt.backend.generated.scans import Loop
from tpopt.backend.generated.schedule import PARALLEL_CYCLES, reduced_in_vectors, schedule
from tpopt.backend.generated.sizes import elements, extent, shape
from tpopt.backend.generated.turned import with_turned
from tpopt.backend.generated.unroll import unrolled
from tpopt.errors import KernelUnsupported
from tpopt.ir import Compute, Iter, Lookup, Program, Read, Scan, Tensor
from tpopt.ir.index import walk_atoms
from tpopt.ir.walk import postorder, stage_reads, tensors_of_indices
from tpopt.rewrite.stages import term_indices

SPREAD = 1.25
"""A constant is packed where its packed form is at most this much larger: each element is read at about one place."""
PARALLEL_ROWS = 4
"""Rows a thread at least, so that threads end at about the same time."""
MOST_ELEMENTS = 2**31 - 1 - 2**16
"""Offsets are 32-bit integers; the rest is for the lanes and steps beyond a place."""


def plan_kernel(
    program: Program,
    constants: frozenset[str],
    processor: Processor,
    strides: Mapping[str, tuple[int, ...]] | None = None,
    *,
    matrix: bool = False,
    decisions: Sequence[Decision] = (),
) -> KernelPlan:
    """The plan of a kernel that computes a program of Compute stages, on the matrix unit if asked to.

    ``constants`` names the inputs whose values never change: they may be laid out anew. ``strides`` (elements) belong
    to inputs that are not dense. ``decisions`` say how the loops of each nest run; without them, what costs least does.
    Raises :class:`KernelUnsupported` with what stands in the way.
    """
    known = dict(strides or {})
    if isinstance(program.stages[0], Scan):
        if len(program.stages) > 1 or matrix or decisions:
            raise KernelUnsupported("a loop that carries a state is a kernel of its own, and runs in one way")
        return _of_scan(program, program.stages[0], constants, processor, known)
    stages = computed_stages(program, known)
    rows = fused(stages, program.outputs)
    if matrix:
        return _on_matrix_unit(program, rows.stages, constants, processor, known)
    rows = with_turned(rows, known, constants, processor.threads)
    return _in_loops(program, rows, constants, processor, known, decisions)


def computed_stages(program: Program, strides: Mapping[str, tuple[int, ...]]) -> list[Compute]:
    """The stages of a program that all can be generated. Raises :class:`KernelUnsupported` with what cannot."""
    stages = [s for s in program.stages if isinstance(s, Compute)]
    if len(stages) < len(program.stages):
        other = next(s for s in program.stages if not isinstance(s, Compute))
        raise KernelUnsupported(f"a {type(other).__name__} has no generated kernel")
    if any(elements(t) == 0 for s in stages for t in (*stage_reads(s), *s.outs)):
        raise KernelUnsupported("a tensor has no elements")
    if any(_span(t, strides) > MOST_ELEMENTS for s in stages for t in (*stage_reads(s), *s.outs)):
        raise KernelUnsupported("a tensor has more elements than kernels count in 32 bits")
    return stages


def _in_loops(
    program: Program,
    rows: Rows,
    constants: frozenset[str],
    processor: Processor,
    known: dict[str, tuple[int, ...]],
    decisions: Sequence[Decision],
) -> KernelPlan:
    """The plan of a kernel whose stages share rows, or of a single stage."""
    nests: list[Nest] = []
    packs: list[Pack] = []
    ready = works(rows, known, block_of(rows))
    if decisions and len(decisions) != len(ready.works):
        raise KernelUnsupported(f"{len(decisions)} decisions for {len(ready.works)} nests")
    strides = known | ready.steps
    for number, (work, depth) in enumerate(ready.works):
        packable = _packable(work, constants) if depth == 0 else frozenset()
        nest = schedule(work, processor, depth=depth, strides=strides, packable=packable)
        if decisions:
            nest = decided(nest, decisions[number], reduced_in_vectors(work, processor, strides), processor.threads)
        nest = replace(nest, outside=loops_around_blocks(nest))
        nests.append(nest)
        packs += _packs(nest, packable, len(packs))
    plan = KernelPlan(
        _reads(program, nests, packs),
        program.outputs,
        tuple(nests),
        ready.rows,
        private=rows.private,
        strides=known,
        packs=tuple(packs),
        steps=ready.steps,
        block=ready.block,
    )
    trips, depth = [plan.trips(i) for i in plan.rows], min(depth for _, depth in ready.works)
    cycles = sum(n.cycles * prod(trips[depth : n.depth]) for n in nests)
    return replace(plan, parallel=_leading(trips[:depth], cycles, processor))


def _of_scan(
    program: Program, scan: Scan, constants: frozenset[str], processor: Processor, known: dict[str, tuple[int, ...]]
) -> KernelPlan:
    """The plan of a loop that carries a state: each thread has a block of it, or all share each step."""
    loop = Loop(scan, processor.threads)
    alone = replace(processor, threads=1)
    nests: list[Nest] = []
    packs: list[Pack] = []
    works = list(loop.works())
    again = Counter(r for work, _ in works for r in dict.fromkeys(postorder(*work.bodies)) if isinstance(r, Read))
    for work, depth in works:
        packable = frozenset(
            r for r in _packable(work, constants) if not any(i in depends_on(r) for i in loop.rows) and again[r] == 1
        )
        runner = processor if loop.together else alone
        nest = schedule(work, runner, depth=depth, strides=known, packable=packable, share_steps=loop.together)
        nests.append(nest)
        packs += _packs(nest, packable, len(packs))
    cycles = sum(n.cycles * (extent(loop.steps) if n.depth > 1 else 1) for n in nests)
    return KernelPlan(
        _reads(program, nests, packs),
        program.outputs,
        tuple(nests),
        loop.rows,
        _leading([loop.blocks], cycles, processor) if loop.blocks > 1 else 0,
        private=loop.private,
        strides=known,
        packs=tuple(packs),
    )


def _packs(nest: Nest, packable: frozenset[Read], first: int) -> list[Pack]:
    """The constants of a nest as it reads them, under names that count from ``first``."""
    if nest.vector is None:
        return []
    found = [_pack(read, nest, f"pack{first + n}") for n, read in enumerate(sorted(packable, key=str))]
    return [replace(p, ahead=panel_ahead(p)) for p in found]


def _reads(program: Program, nests: Sequence[Nest], packs: Sequence[Pack]) -> tuple[Tensor, ...]:
    """The inputs that some nest reads as they are."""
    taken = frozenset(p.read for p in packs)
    plain = {t.name for n in nests for t in tensors_read(n.work, taken)}
    return tuple(t for t in program.inputs if t.name in plain)


@dataclass(frozen=True)
class Ready:
    """Works, each with how many of the shared ``rows`` it has; the last of these runs in steps of ``block``.

    ``steps`` are the strides of tensors that a work indexes otherwise than its stage does.
    """

    works: list[tuple[Work, int]]
    rows: tuple[Iter, ...] = ()
    block: int = 1
    steps: dict[str, tuple[int, ...]] = field(default_factory=dict)


def works(rows: Rows, known: Mapping[str, tuple[int, ...]], block: int = 1) -> Ready:
    """What the nests of a kernel compute, its rows in steps of ``block``."""
    stages = [(two_pass(s), rows.depth(s)) for s in rows.stages]
    if len(stages) == 1:
        stage, steps = merged(stages[0][0], known)
        return Ready([(unrolled(stage), 0)], steps=steps)
    found = [(Work.of(s), depth) for s, depth in stages]
    if block == 1:
        return Ready(found, rows.rows, steps=dict(rows.steps))
    *outer, last = rows.rows
    first = Iter(last.name, extent(last) - block + 1)
    found = [(blocked(w, last, first, block) if d == len(rows.rows) else w, d) for w, d in found]
    return Ready(found, (*outer, first), block, dict(rows.steps))


def _on_matrix_unit(
    program: Program,
    stages: tuple[Compute, ...],
    constants: frozenset[str],
    processor: Processor,
    strides: dict[str, tuple[int, ...]],
) -> KernelPlan:
    if len(stages) > 1:
        raise KernelUnsupported("several stages in one kernel of the matrix unit")
    stage, steps = merged(stages[0], strides)
    products = on_matrix_unit(stage, constants, processor, strides | steps)
    taken = frozenset(p.side.read for p in products.constants)
    found = {t.name for t in tensors_read(Work.of(stage), taken)}
    reads = tuple(t for t in program.inputs if t.name in found)
    return KernelPlan(reads, program.outputs, (), strides=strides, steps=steps, products=products)


def _span(tensor: Tensor, strides: Mapping[str, tuple[int, ...]]) -> int:
    """Words from a tensor's first element to its last; a complex number is two."""
    sizes = shape(tensor)
    reach = sum((n - 1) * s for n, s in zip(sizes, strides.get(tensor.name, dense_strides(sizes)), strict=True))
    return (reach + 1) * (2 if tensor.dtype.is_complex else 1)


def tensors_read(work: Work, packed: frozenset[Read] = frozenset()) -> list[Tensor]:
    """Tensors that are read as they are."""
    terms = postorder(*work.bodies)
    read = [t.tensor for t in terms if isinstance(t, Read) and t not in packed]
    return [*read, *tensors_of_indices(term_indices(*work.bodies))]


def _leading(trips: Sequence[int], cycles: float, processor: Processor) -> int:
    """How many of the leading shared loops run in parallel as one, when one point of them takes so many cycles."""
    if processor.threads == 1 or cycles * prod(trips) < PARALLEL_CYCLES:
        return 0
    total = 1
    for number, count in enumerate(trips, 1):
        total *= count
        if total >= PARALLEL_ROWS * processor.threads:
            return number
    return len(trips)


def _packable(work: Work, constants: frozenset[str]) -> frozenset[Read]:
    """Reads of constants inside a reduction that take each element about once, and depend on one of its iterators.

    Where the place depends on data, nothing can be laid out before there are any.
    """
    access = Access(work, {})
    summed = {i for r in access.reduces for i in r.iters}
    found = []
    for read in access.reads:
        iters = depends_on(read)
        points = prod(extent(i) for i in iters)
        size = elements(read.tensor)
        small = points <= SPREAD * size and not any(isinstance(a, Lookup) for i in read.indices for a in walk_atoms(i))
        if read.tensor.name in constants and access.is_summed(read) and small and any(i in summed for i in iters):
            found.append(read)
    return frozenset(found)


def _pack(read: Read, nest: Nest, name: str) -> Pack:
    iters = depends_on(read)
    access = Access(nest.work, {})
    tiles = tuple(i for i in nest.order if i in iters)
    reduced = tuple(dict.fromkeys(i for r in access.reduces for i in r.iters if i in iters))
    sweeps = {i: nest.sweeps.get(i, Sweep()) for i in tiles}
    steps = tuple(i for i in nest.sweeps if i in iters and sweeps[i].count > 1)
    lane = nest.vector if nest.vector in iters else None
    sizes = [-(-extent(i) // sweeps[i].span) for i in tiles]
    sizes += [extent(i) for i in reduced]
    sizes += [sweeps[i].count for i in steps]
    if lane is not None:
        sizes.append(sweeps[lane].lanes)
    return Pack(name, read, nest, tiles, reduced, steps, lane, tuple(sizes))
