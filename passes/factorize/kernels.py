"""Layers whose kernel slides over an image, with fewer channels in between, or one direction after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tpopt.ir import Bound, Compute, Iter, Read, Scalar, Select, apply, const, index
from tpopt.ir import total as sum_over
from tpopt.ir.build import guard, select
from tpopt.ir.walk import rebuild
from tpopt.passes.factorize.factorized import (
    LANES,
    Factorized,
    Names,
    Task,
    done,
    ending,
    extent,
    own_iterator,
    sizes,
    whole_rank,
)
from tpopt.passes.factorize.layers import Layer
from tpopt.passes.factorize.projections import SpatialSvd, Tucker2


def tucker2(task: Task) -> Factorized | None:
    """Channels reduced before a kernel slides, and restored after; ranks by the energy of the full core."""
    layer, ratio = task.layer, task.ratio
    found = _image(layer)
    if found is None:
        return None
    o, c, read, axis = found
    kernel = layer.kernel
    outs, ins, taps = extent((o,)), extent((c,)), extent(kernel)
    tensor = np.asarray(layer.arranged((o, c, *kernel)), dtype=np.float64).reshape(outs, ins, taps)
    budget = int(outs * ins * taps / ratio)
    spectra = task.core(tensor)
    energies = spectra.energies()[:, :, -1]
    options = [
        (float(energies[a - 1, b - 1]), a, b)
        for a in _ranks(outs)
        for b in _ranks(ins)
        if outs * a + ins * b + a * b * taps <= budget
    ]
    if not options:
        return None
    kept, a, b = max(options)
    if 1 - kept / max(spectra.total, 1e-300) > task.most_error**2:
        return None
    made, tag = Tucker2.of(tensor, (a, b)), f"tucker{a}x{b}"
    left, core, right = made.factors
    p, q = own_iterator("p", a), own_iterator("q", b)
    names = Names(layer, tag)
    places = tuple(own_iterator(f"x{k}", e) for k, e in enumerate(read.tensor.shape))
    before = tuple(q if k == axis else x for k, x in enumerate(places))
    reduced, middle = names.value("reduced", before), names.value("core", (p, *layer.loops))
    first, one = names.weight("right", (q, c))
    second, other = names.weight("core_weight", (p, q, *kernel))
    third, last = names.weight("left", (o, p))
    source = read.tensor.at([index(c) if k == axis else index(x) for k, x in enumerate(places)])
    instead = reduced.at([index(q) if k == axis else w for k, w in enumerate(read.indices)])
    data = rebuild(layer.data, lambda t: instead if t is read else t)
    stages = (
        Compute((reduced,), before, (sum_over((c,), apply("mul", source, one)),)),
        Compute((middle,), (p, *layer.loops), (sum_over((q, *kernel), apply("mul", data, other)),)),
        ending(layer, sum_over((p,), apply("mul", middle.at((p, *layer.loops)), last))),
    )
    weights = {third: left, second: core.reshape(sizes(second)), first: right}
    return done(layer, tag, stages, weights, made.whole())


def spatial(task: Task) -> Factorized | None:
    """A kernel of columns, then one of rows, with a rank in between."""
    layer, ratio = task.layer, task.ratio
    found = _image(layer)
    if found is None or len(layer.kernel) != 2:
        return None
    o, c, read, _ = found
    down, across = layer.kernel
    axes = [next(k for k, w in enumerate(read.indices) if i in w.atoms) for i in layer.kernel]
    if min(extent((down,)), extent((across,))) < 2 or axes[0] == axes[1]:
        return None
    tensor = np.asarray(layer.arranged((o, c, down, across)), dtype=np.float64)
    outs, ins, a, b = tensor.shape
    rank = whole_rank(outs * ins * a * b / (ratio * (outs * b + ins * a)), min(outs * b, ins * a))
    if rank < 1:
        return None
    spectrum = task.spectrum("spatial", lambda: SpatialSvd.spectrum(tensor))
    if spectrum.error(rank) > task.most_error:
        return None
    made, tag = SpatialSvd.of(tensor, rank, spectrum), f"spatial{rank}"
    left, right = made.factors
    r, names = own_iterator("rank", rank), Names(layer, tag)
    slide = {k: read.indices[k] for k in axes}
    row = next((i for i in layer.loops if i in slide[axes[0]].atoms), None)
    column = next((i for i in layer.loops if i in slide[axes[1]].atoms), None)
    if row is None or column is None or row is column:
        return None
    width = own_iterator("x", read.tensor.shape[axes[1]])
    between = tuple(width if i is column else i for i in layer.loops)
    inner = names.value("inner", (*between, r))
    first, one = names.weight("right", (r, c, down))
    second, other = names.weight("left", (o, r, across))
    bounds = layer.data.guard.bounds if isinstance(layer.data, Select) else ()
    vertical = [x for x in bounds if across not in x.value.atoms and column not in x.value.atoms]
    horizontal = [x for x in bounds if x not in vertical]
    if any(down in x.value.atoms or row in x.value.atoms for x in horizontal):
        return None
    moved = read.tensor.at([index(width) if k == axes[1] else w for k, w in enumerate(read.indices)])
    inner_read = inner.at([*(slide[axes[1]] if i is column else index(i) for i in layer.loops), index(r)])
    stages = (
        Compute((inner,), (*between, r), (sum_over((c, down), apply("mul", _guarded(moved, vertical), one)),)),
        ending(layer, sum_over((r, across), apply("mul", _guarded(inner_read, horizontal), other))),
    )
    return done(layer, tag, stages, {second: left, first: right}, made.whole())


def _image(layer: Layer) -> tuple[Iter, Iter, Read, int] | None:
    """Filters, channels, the read of the image and its channel axis, where a kernel slides over a plain image."""
    if len(layer.rows) != 1 or len(layer.channels) != 1 or not layer.kernel:
        return None
    (c,) = layer.channels
    read = layer.data.inside if isinstance(layer.data, Select) else layer.data
    if not isinstance(read, Read):
        return None
    axes = [k for k, w in enumerate(read.indices) if c in w.atoms]
    if len(axes) != 1 or read.indices[axes[0]] is not index(c) or read.tensor.shape[axes[0]] != c.extent:
        return None
    bounds = layer.data.guard.bounds if isinstance(layer.data, Select) else ()
    if any(c in b.value.atoms for b in bounds):
        return None
    return layer.rows[0], c, read, axes[0]


def _guarded(read: Read, bounds: Sequence[Bound]) -> Scalar:
    if not bounds:
        return read
    where = guard(*((b.low, b.value, b.high) for b in bounds))
    return select(where, read, const(0, read.dtype))


def _ranks(size: int) -> list[int]:
    return [r for r in range(1, size + 1) if r % LANES == 0 or (size < 2 * LANES and r < LANES)] or [size]
