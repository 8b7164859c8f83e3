"""Short-time Fourier transforms: windowed frames, one transform of each, and the overlap-add back."""

from __future__ import annotations

from collections.abc import Callable

from tpopt.frontend.context import Context
from tpopt.frontend.lowerings.fft import FORWARD, INVERSE, Step, Transform
from tpopt.frontend.numerics import number
from tpopt.frontend.registry import Lowerings
from tpopt.frontend.windows import Window
from tpopt.ir import DType, Index, Iter, Scalar, Tensor, apply, cast, guard, index, select, size, total
from tpopt.ir.index import IndexLike
from tpopt.ir.terms import const

lowers = Lowerings()
ReadWindow = Callable[[IndexLike, DType], Scalar]


def _window(n: int, length: int, window: Tensor | None) -> ReadWindow:
    """The window's value at each of ``n`` positions: it is centered, with zeros around."""
    left = (n - length) // 2

    def at(j: IndexLike, kind: DType) -> Scalar:
        value = const(1, kind) if window is None else cast(window[index(j) - left], kind)
        return select(guard((left, j, left + length)), value, const(0, kind))

    return at


@lowers("aten.stft.default")
def stft(
    ctx: Context,
    x: Tensor,
    n_fft: object,
    hop: object,
    length: object,
    window: Tensor | None,
    normalized: bool,
    onesided: bool | None,
    return_complex: bool | None,
    _align: object,
) -> Tensor:
    """``out[…, f, t] = sum[j]{x[…, hop*t + j] * window[j] * exp(-2πi f j / n)}``."""
    n = number(n_fft, "n_fft")
    stride = n // 4 if hop is None else number(hop, "hop_length")
    weight = _window(n, n if length is None else number(length, "win_length"), window)
    half = not x.dtype.is_complex if onesided is None else onesided
    kind = ctx.dtype.complex if x.dtype.is_complex else ctx.dtype.real
    count = ctx.out.shape[x.rank]

    def framed(*i: Iter) -> Scalar:
        t, j = i[-2:]
        read = x.at([*map(index, i[:-2]), index(t) * stride + j])
        return apply("mul", cast(read, kind), weight(j, kind))

    frames = ctx.compute([*x.shape[:-1], count, n], framed, "frames")
    columns = n // 2 + 1 if half else n
    spectra = Transform((Step(x.rank, n, columns),), FORWARD, int(normalized)).apply(ctx, frames)
    if return_complex:
        return ctx.pointwise(lambda *i: spectra.at([*i[:-2], i[-1], i[-2]]))

    def parts(*i: Iter) -> Scalar:
        value = spectra.at([*i[:-3], i[-2], i[-3]])
        return select(guard((0, i[-1], 1)), apply("real", value), apply("imag", value))

    return ctx.pointwise(parts)


@lowers("aten.istft.default")
def istft(
    ctx: Context,
    x: Tensor,
    n_fft: object,
    hop: object,
    length: object,
    window: Tensor | None,
    center: bool,
    normalized: bool,
    _onesided: bool | None,
    _length: object,
    _return_complex: bool,
) -> Tensor:
    """Transforms back, windows again, adds what overlaps and divides by the sum of the squared windows there.

    A real signal is made from one half of a spectrogram; torch leaves the other half, where it is given, unread.
    """
    n = number(n_fft, "n_fft")
    stride = n // 4 if hop is None else number(hop, "hop_length")
    weight = _window(n, n if length is None else number(length, "win_length"), window)
    if not x.dtype.is_complex:
        raise ctx.refuse("istft takes a complex spectrogram")
    frames, kind = x.shape[-1], ctx.dtype
    read = n if kind.is_complex else n // 2 + 1
    turned = ctx.compute([*x.shape[:-2], frames, read], lambda *i: x.at([*i[:-2], i[-1], i[-2]]), "turned")
    steps = (Step(turned.rank - 1, n, n, real=not kind.is_complex),)
    signals = Transform(steps, INVERSE, 1 if normalized else 2).apply(ctx, turned)
    whole = size((index(frames) - 1) * stride + n)
    along = Window(whole, frames, n, stride)
    t = Iter("t", along.covers)

    def added(y: Index, term: Callable[[Index, Index], Scalar]) -> Scalar:
        found = along.cover(y, t)
        value = term(found.window, found.tap)
        return total((t,), select(guard(*found.within, found.real), value, const(0, value.dtype)))

    def body(*i: Iter) -> Scalar:
        y = index(i[-1]) + (n // 2 if center else 0)
        lead = [index(k) for k in i[:-1]]
        signal = added(y, lambda p, r: apply("mul", cast(signals.at([*lead, p, r]), kind), weight(r, kind)))
        square = added(y, lambda _, r: apply("mul", weight(r, kind), weight(r, kind)))
        return select(guard((0, y, whole)), apply("div", signal, square), const(0, kind))

    return ctx.compute(ctx.out.shape, body)
