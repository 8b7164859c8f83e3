"""Chooses the loops of one stage: what lies in vectors, what stays in registers, what runs in parallel.

Costs are in cycles of one core for one point of a stage, good to perhaps a factor of two: they only have to order the
few ways to run it. The kernel that results is timed like any other candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, prod

from tpopt.backend.generated.access import Access, depends_on, side_by_side
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.plan import Nest, Sweep, Work
from tpopt.backend.generated.sizes import elements, extent
from tpopt.ir import Apply, Iter, Read, Reduce
from tpopt.ir.dtypes import DType

GATHERED = 1.0
"""Cycles for each lane of a vector whose elements are loaded one by one."""
TURNED = 1.0
"""Cycles for each round of exchanges that turn a square of elements, for one vector of it."""
FUNCTION_CYCLES = 8.0
"""Cycles of a transcendental function on one vector."""
PARALLEL_CYCLES = 8_000
"""Work from which a second thread pays for waking it, measured with pointwise kernels: at half of it both are even."""
TILES_PER_THREAD = 4
EVEN = 1.05
"""What the last round of tiles may leave idle, where there are fewer than that: larger tasks read less twice."""
MOST_PARTS = 4
"""Parts of a divided loop for each thread; constants pass by once for each part ..."""
LEAST_TILES = 4
"""... of so many tiles at least."""
UNEVEN = 1.1
"""What dividing a loop's tiles among threads may leave idle."""
MOST_TAPS = 8
"""Taps of a sliding sum that are written out, so that neighbouring results share what they read."""
MOST_VALUES = 48
"""Values that a stage without reductions should have in flight: what is waiting lies in registers."""
STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
NEAR = ((12 << 10, 0.0), (1 << 18, 1.0))
"""Bytes of an operand that each of the caches of a core holds, and what it costs to pass over it once more."""
FAR = 3.0
_EASY = frozenset(
    "add sub mul neg abs max min and or xor not eq ne lt le gt ge where div sqrt fmax fmin copysign sign isnan".split()
)


@dataclass(frozen=True)
class _Way:
    cost: float
    vector: Iter | None = None
    across: Iter | None = None
    lanes: int = 1


def schedule(
    work: Work,
    processor: Processor,
    *,
    depth: int = 0,
    strides: Mapping[str, tuple[int, ...]] | None = None,
    packable: frozenset[Read] = frozenset(),
    share_steps: bool = False,
) -> Nest:
    """The nest of a work whose ``depth`` leading loops are shared. ``packable`` reads may be laid out as wanted.

    Threads run parts of it where it shares no loops, or where they are to ``share_steps`` of loops that run in order.
    """
    access = Access(work, strides or {})
    loops = work.loops[depth:]
    lanes = processor.lanes(_widest(access))
    way = min(_ways(access, loops, lanes, packable), key=lambda w: w.cost)
    sweeps: dict[Iter, Sweep] = {}
    if way.vector is not None:
        own = _fitting(extent(way.vector), way.lanes)
        square = _square(access, loops, way.vector, own)
        if square is not None:
            sweeps[square] = Sweep(1, own)
        alone = access.reduces or square is not None
        sweeps[way.vector] = Sweep(own, 1 if alone else _side_by_side(access, extent(way.vector) // own))
    across = {
        i: _across(i, way.lanes) for r in access.reduces for i in (_reduced(access, r, way.lanes),) if i is not None
    }
    if access.reduces:
        sweeps.update(_registers(access, loops, way, sweeps, processor, packable))
        for iterator, sweep in across.items():
            steps = prod(s.count for s in sweeps.values())
            across[iterator] = Sweep(sweep.lanes, max(1, min(sweep.count, processor.registers // 2 // steps)))
    sweeps = {i: sweeps[i] for i in loops if i in sweeps}  # steps in the loops' order: registers spill least
    order = _order(access, loops, way.vector, sweeps)
    cycles = way.cost * prod(extent(i) for i in loops) * _terms(access)
    parallel = _parallel(order, sweeps, cycles, processor) if depth == 0 or share_steps else 0
    nest = Nest(work, depth, order, sweeps, across, parallel, cycles=cycles)
    divided = _divided(access, nest, packable, processor.threads)
    if divided is None:
        return nest
    return replace(nest, parallel=0, divided=divided, shares=parts(divided, sweeps, processor.threads))


def _widest(access: Access) -> int:
    """Bytes of the widest element that is computed with."""
    dtypes = {t.dtype for t in access.terms} | {o.dtype for o in access.work.outs}
    sizes = [4 if d in (DType.F16, DType.BF16) else d.real.itemsize for d in dtypes]
    return max(4, *(s for s in sizes))


def _ways(access: Access, loops: tuple[Iter, ...], lanes: int, packable: frozenset[Read]) -> list[_Way]:
    found = [_Way(_cost(access, loops, None, 1, packable))]
    for iterator in loops:
        size = extent(iterator)
        if size > 1:
            own = _fitting(size, lanes)
            wasted = ceil(size / own) * own / size
            found.append(_Way(_cost(access, loops, iterator, own, packable) * wasted / own, iterator, None, own))
    for reduce in access.reduces:
        reduced = _reduced(access, reduce, lanes)
        if reduced is not None:
            size = extent(reduced)
            own = _fitting(size, lanes)
            folded = 3.0 * own.bit_length() * own / max(size, own)
            cost = _cost(access, loops, reduced, own, packable) * ceil(size / own) * own / size + folded
            found.append(_Way(cost / own, None, reduced, own))
    return found


def _cost(access: Access, loops: Sequence[Iter], iterator: Iter | None, lanes: int, packable: frozenset[Read]) -> float:
    """Cycles of one vector along an iterator, for one term of the stage's reductions."""
    terms = _terms(access)
    square = _square(access, loops, iterator, lanes) if iterator is not None and iterator in loops else None
    total = 0.0
    for term in access.terms:
        share = 1.0 if access.is_summed(term) or not access.reduces else 1.0 / terms
        if isinstance(term, Read):
            total += share * _load(access, term, iterator, lanes, packable, square)
        elif isinstance(term, Apply):
            total += share * (0.5 if term.function in _EASY else FUNCTION_CYCLES)
        elif isinstance(term, Reduce):
            total += 0.5
    if iterator is not None and iterator in access.work.loops:
        written = 1.0 if access.out_step(iterator) == 1 else GATHERED * lanes
        total += written * len(access.work.outs) * len(access.work.cases) / terms
    return max(total, 0.5)


def _load(
    access: Access, read: Read, iterator: Iter | None, lanes: int, packable: frozenset[Read], square: Iter | None
) -> float:
    """Cycles of a read in a vector along an iterator; one by one along the last loop, where there is none."""
    if read in packable or (iterator is None and (access.reduces or not access.work.loops)):
        return 0.5
    along = iterator or access.work.loops[-1]
    step = access.step(read, along, lanes)
    if step in (-1, 0, 1):
        return 1.0 if step == -1 else 0.5
    turned = square is not None and side_by_side(read, access.strides(read.tensor), along, [square]) is not None
    return 0.5 + TURNED * (lanes.bit_length() - 1) if turned else GATHERED * lanes


def reduced_in_vectors(work: Work, processor: Processor, strides: Mapping[str, tuple[int, ...]]) -> tuple[Iter, ...]:
    """The reduced iterators of a work that may lie in vectors."""
    access = Access(work, strides)
    lanes = processor.lanes(_widest(access))
    found = (_reduced(access, r, lanes) for r in access.reduces)
    return tuple(dict.fromkeys(i for i in found if i is not None))


def _square(access: Access, loops: Sequence[Iter], vector: Iter, lanes: int) -> Iter | None:
    """The loop of which as many steps as lanes make a square with vectors of elements that lie apart, to be turned."""
    if access.reduces or extent(vector) < lanes or len(access.terms) > MOST_VALUES:
        return None
    enough = [i for i in loops if extent(i) >= lanes > 1]
    found = (side_by_side(r, access.strides(r.tensor), vector, enough) for r in access.reads)
    return next((i for i in found if i is not None), None)


def _terms(access: Access) -> int:
    """Terms of the longest reduction."""
    return max((prod(extent(i) for i in r.iters) for r in access.reduces), default=1) or 1


def _reduced(access: Access, reduce: Reduce, lanes: int) -> Iter | None:
    """The iterator of a reduction along which its reads lie side by side."""
    inside = [t for t in access.reads if any(i in depends_on(t) for i in reduce.iters)]
    for iterator in reversed(reduce.iters):
        steps = [access.step(r, iterator, lanes) for r in inside]
        if extent(iterator) >= 4 and all(s in (0, 1) for s in steps) and (1 in steps or not inside):
            return iterator
    return None


def _side_by_side(access: Access, vectors: int) -> int:
    """How many vectors a stage without reductions computes at once: independent ones hide each other's latency."""
    most = max(1, min(4, MOST_VALUES // max(1, len(access.terms)), vectors))
    return 1 << (most.bit_length() - 1)


def _across(iterator: Iter, lanes: int) -> Sweep:
    size = extent(iterator)
    own = _fitting(size, lanes)
    return Sweep(own, max(1, min(4, size // own)))


def _fitting(size: int, lanes: int) -> int:
    """The widest vector that is worth it for so many elements: a power of two at most the next above them."""
    while lanes > 2 and lanes // 2 >= size:
        lanes //= 2
    return lanes


def _registers(
    access: Access,
    loops: tuple[Iter, ...],
    way: _Way,
    sweeps: Mapping[Iter, Sweep],
    processor: Processor,
    packable: frozenset[Read],
) -> dict[Iter, Sweep]:
    """How many steps of which loops share the loads of a reduction: the least loads for each product."""
    summed = [r for r in access.reads if access.is_summed(r)]
    free = [i for i in loops if extent(i) > 1 or i is way.vector]
    tiled = sorted(free, key=lambda i: (i is not way.vector, sum(i in depends_on(r) for r in summed), -extent(i)))[:3]
    best, chosen = float("inf"), dict(sweeps)
    registers = processor.registers // (2 if any(r.dtype.is_complex for r in access.reduces) else 1)
    moving = {r: [i for i in tiled if i in depends_on(r)] for r in summed}
    windows = {r: found for r in summed if way.vector in moving[r] and (found := _window(access, r, tiled))}
    most = registers // 2 if windows else registers - 4  # a window's own values lie in registers too
    apart = [
        r for r in summed
        if way.vector is not None and r not in packable and access.step(r, way.vector, way.lanes) not in (0, 1)
    ]  # fmt: skip
    for counts in product(*(_counts(i, sweeps) for i in tiled)):
        number = dict(zip(tiled, counts, strict=True))
        accumulators = prod(counts)
        values = [prod(_shared(number[i], windows.get(r, {}).get(i)) for i in moving[r]) for r in summed]
        if accumulators > most or accumulators + min(values, default=0) + 2 > registers:
            continue
        loads = sum(values)
        extra = sum(prod(number[i] for i in moving[r]) for r in apart)
        wasted = prod(
            ceil(extent(i) / (n * _lanes(i, sweeps))) * n * _lanes(i, sweeps) / extent(i) for i, n in number.items()
        )
        chain = max(1.0, 8.0 / accumulators)
        cost = wasted * (max(0.5 * accumulators * chain, 0.5 * loads) + 0.1 * loads + way.lanes * extra) / accumulators
        if cost < best - 1e-9:
            best = cost
            chosen = {i: Sweep(_lanes(i, sweeps), n) for i, n in number.items() if n > 1 or i in sweeps}
    return chosen


def _window(access: Access, read: Read, tiled: Sequence[Iter]) -> dict[Iter, tuple[int, int]]:
    """For each loop along which a read slides over taps: its step, and how many taps there are."""
    reduced = {i for r in access.reduces for i in r.iters}
    found = {}
    for where in read.indices:
        atoms = [a for a in where.atoms if isinstance(a, Iter)]
        loops, taps = [a for a in atoms if a in tiled], [a for a in atoms if a in reduced]
        if len(loops) == 1 and len(taps) == 1 and where.coefficient(taps[0]).constant == 1:
            step = where.coefficient(loops[0]).constant
            if step is not None and 0 < step <= extent(taps[0]) <= MOST_TAPS:
                found[loops[0]] = step, extent(taps[0])
    return found


def _shared(count: int, window: tuple[int, int] | None) -> float:
    """Values that so many steps read for one tap, where neighbours share what they read for all of them."""
    if window is None:
        return count
    step, taps = window
    return ((count - 1) * step + taps) / taps


def _counts(iterator: Iter, sweeps: Mapping[Iter, Sweep]) -> list[int]:
    most = max(1, extent(iterator) // _lanes(iterator, sweeps))
    return [n for n in STEPS if n <= most and (iterator not in sweeps or n <= 4)]


def _lanes(iterator: Iter, sweeps: Mapping[Iter, Sweep]) -> int:
    return sweeps[iterator].lanes if iterator in sweeps else 1


def _order(
    access: Access, loops: tuple[Iter, ...], vector: Iter | None, sweeps: Mapping[Iter, Sweep]
) -> tuple[Iter, ...]:
    """Loops from the outside in: those of one operand of a reduction first, which streams by once.

    For each of its tiles the others pass by as a whole; it is the operand for which that costs least.
    """
    outer = [i for i in loops if i is not vector] + ([vector] if vector is not None else [])
    summed = [r for r in access.reads if access.is_summed(r)]
    if len(summed) < 2:
        return tuple(outer)

    def cost(read: Read) -> tuple[float, int]:
        tiles = prod(ceil(extent(i) / sweeps.get(i, Sweep()).span) for i in loops if i in depends_on(read))
        others = [4 * elements(r.tensor) for r in summed if r is not read]
        again = sum(next((c for most, c in NEAR if size <= most), FAR) * size for size in others)
        return tiles * again, -elements(read.tensor)

    first = depends_on(min(summed, key=cost))
    return tuple(sorted(outer, key=lambda i: i not in first))


def _parallel(order: tuple[Iter, ...], sweeps: Mapping[Iter, Sweep], cycles: float, processor: Processor) -> int:
    """How many leading loops run in parallel as one."""
    if processor.threads == 1 or cycles < PARALLEL_CYCLES:
        return 0
    total = 1
    for number, iterator in enumerate(order, 1):
        total *= ceil(extent(iterator) / sweeps.get(iterator, Sweep()).span)
        rounds = ceil(total / processor.threads)
        even = rounds > 1 and rounds * processor.threads <= EVEN * total
        if total >= TILES_PER_THREAD * processor.threads or even:
            return number
    return len(order) if total > 1 else 0


def parts(divided: Iter, sweeps: Mapping[Iter, Sweep], threads: int) -> int:
    """Parts of a divided loop: a thread that is done with its own takes those that another has not begun."""
    tiles = ceil(extent(divided) / sweeps.get(divided, Sweep()).span)
    return threads * max(1, min(MOST_PARTS, tiles // (LEAST_TILES * threads)))


def _divided(access: Access, nest: Nest, packable: frozenset[Read], threads: int) -> Iter | None:
    """The loop that threads divide among them so that each reads what it wrote itself in the kernel before.

    It is the outermost loop of the result along which data moves and no constant does. A core reads what another one
    wrote at a fraction of the speed, where they share no cache at a small one; constants are read by all threads then,
    which pays while they are smaller than the data.
    """
    if not nest.parallel or not packable:
        return None
    moving = [r for r in access.reads if access.is_summed(r) and r not in packable]
    along = {i for r in packable for i in depends_on(r)}
    own = nest.work.loops[nest.depth :]
    free = [i for i in own if i not in along and moving and all(i in depends_on(r) for r in moving)]
    for iterator in free:
        tiles = ceil(extent(iterator) / nest.sweeps.get(iterator, Sweep()).span)
        if tiles == 1:
            continue
        first = next(i for i in nest.order if ceil(extent(i) / nest.sweeps.get(i, Sweep()).span) > 1)
        constant = sum(elements(r.tensor) for r in packable)
        data = sum(elements(r.tensor) for r in moving) + sum(map(elements, nest.work.outs))
        even = ceil(tiles / threads) * threads <= UNEVEN * tiles
        return iterator if even and first is not iterator and constant <= data else None
    return None
