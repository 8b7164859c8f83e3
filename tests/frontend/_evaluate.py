"""Stand-in evaluator until the project's own lands: dense broadcasting, every read checked to be in bounds."""

from __future__ import annotations

import torch

from tpopt.ir import *  # noqa: F403
from tpopt.ir import aten
from tpopt.ir.index import FloorDiv, Iter, Lookup, Mod, Symbol, evaluate, index
from tpopt.ir.stages import Compute, Cond, Kernel, Opaque, Scan, Scatter, Sort, TopK
from tpopt.ir.terms import Apply, Cast, Const, Position, Read, Reduce, Select
from tpopt.ir.walk import postorder

td = aten.torch_dtype


def run_program(program, inputs, weights, symbols=None):
    symbols = dict(symbols or {})
    env = {}
    pending = []
    for t, v in zip(program.inputs, inputs, strict=True):
        env[t.name] = v
        pending += [(index(e), s) for e, s in zip(t.shape, v.shape, strict=True)]
    for _ in range(5):
        for e, s in pending:
            if len(e.atoms) == 1 and isinstance(e.atoms[0], Symbol) and len(e.terms) <= 2:
                a = e.atoms[0]
                c = e.coefficient(a).constant
                if c:
                    symbols[a.name] = (s - e.offset) // c
    for e, s in pending:
        assert evaluate(e, symbols) == s, (e, s, symbols)
    for t in program.weights:
        if t.name in weights:
            env[t.name] = weights[t.name]
        elif t.name in program.constants:
            env[t.name] = aten.from_numpy(program.constants[t.name], t.dtype)
        else:
            from tpopt.ir.materialize import materialize

            env[t.name] = torch.as_tensor(materialize(t)).to(td(t.dtype))
    run_stages(program.stages, env, symbols)
    return [env[o.name] for o in program.outputs]


def run_stages(stages, env, symbols):
    for stage in stages:
        outs = run_stage(stage, env, symbols)
        for o, v in zip(stage.outs, outs, strict=True):
            if o is None:
                continue
            for e, s in zip(o.shape, v.shape, strict=True):
                if (
                    len(index(e).atoms) == 1
                    and isinstance(index(e).atoms[0], Symbol)
                    and index(e).coefficient(index(e).atoms[0]).constant == 1
                ):
                    symbols.setdefault(index(e).atoms[0].name, s - index(e).offset)
            want = tuple(evaluate(e, symbols) for e in o.shape)
            assert tuple(v.shape) == want, (o, tuple(v.shape), want)
            assert v.dtype == td(o.dtype), (o, v.dtype)
            env[o.name] = v


def run_stage(stage, env, symbols):
    match stage:
        case Compute():
            shape = [evaluate(i.extent, symbols) for i in stage.loops]
            if 0 in shape:
                return [torch.empty(shape, dtype=td(o.dtype)) for o in stage.outs]
            ev = Evaluator(stage.loops, stage.bodies, env, symbols)
            return [ev.full(b) for b in stage.bodies]
        case Opaque():
            return aten.call(stage, env, symbols)
        case Kernel():
            inner = dict(env)
            run_stages(stage.defines, inner, symbols)
            return [inner[o.name] for o in stage.outs]
        case Sort():
            v, i = torch.sort(env[stage.source.name], dim=stage.axis, descending=stage.descending, stable=True)
            return [v, i]
        case TopK():
            v, i = torch.topk(
                env[stage.source.name], evaluate(stage.k, symbols), stage.axis, stage.largest, stage.sorted
            )
            return [v, i]
        case Scatter():
            return [scatter(stage, env, symbols)]
        case Scan():
            return scan(stage, env, symbols)
        case Cond():
            p = stage.then if bool(env[stage.predicate.name]) else stage.otherwise
            return sub(p, [env[c.name] for c in stage.captures], symbols)
    raise NotImplementedError(stage)


def sub(program, inputs, symbols):
    env = {t.name: v for t, v in zip(program.inputs, inputs, strict=True)}
    for w in program.weights:
        env[w.name] = aten.from_numpy(program.constants[w.name], w.dtype)
    run_stages(program.stages, env, symbols)
    return [env[o.name] for o in program.outputs]


def scan(stage, env, symbols):
    carry = [env[c.name] for c in stage.init]
    xs = [env[x.name] for x in stage.xs]
    caps = [env[c.name] for c in stage.captures]
    n = evaluate(stage.over.extent, symbols)
    ys = []
    for t in range(n):
        out = sub(stage.body, [*carry, *(x[t] for x in xs), *caps], {**symbols, stage.over.name: t})
        carry = out[: len(carry)]
        ys.append(out[len(carry) :])
    stacked = []
    for k, o in enumerate(stage.outs[len(carry) :]):
        shape = tuple(evaluate(e, symbols) for e in o.shape)
        stacked.append(torch.stack([y[k] for y in ys]) if ys else torch.empty(shape, dtype=td(o.dtype)))
    return [*carry, *stacked]


def scatter(stage, env, symbols):
    ev = Evaluator(stage.loops, (stage.value,), env, symbols)
    mask = ev.guard(stage.guard) if stage.guard is not None else torch.ones((), dtype=torch.bool)
    ev.mask = mask
    size = [evaluate(i.extent, symbols) for i in stage.loops]
    mask = mask.expand(size).reshape(-1) if mask.dim() else mask.expand(size).reshape(-1)
    at = [ev.index(i).expand(size).reshape(-1)[mask] for i in stage.at]
    value = ev.full(stage.value).reshape(-1)[mask]
    out = env[stage.base.name].clone().contiguous()
    shape = out.shape
    flat = torch.zeros((int(mask.sum()),), dtype=torch.int64)
    for a, s in zip(at, shape, strict=True):
        assert bool(((a >= 0) & (a < s)).all()), "scatter out of bounds"
        flat = flat * s + a
    out = out.reshape(-1)
    if stage.op == "set":

        last = {int(f): k for k, f in enumerate(flat)}
        if last:
            out[torch.tensor(list(last.keys()))] = value[torch.tensor(list(last.values()))]
    elif stage.op == "add":
        out.index_put_((flat,), value, accumulate=True)
    else:
        reduce = {"mul": "prod", "max": "amax", "min": "amin"}[stage.op]
        out.scatter_reduce_(0, flat, value, reduce, include_self=True)
    return out.reshape(shape)


F1 = "exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh sigmoid erf erfc erfinv lgamma digamma ceil floor round trunc neg abs sign reciprocal isnan isinf signbit real imag angle complex atan2 hypot copysign fmax fmin eq ne lt le gt ge where fmod sub pow".split()


def fn(name):
    if name in F1:
        return getattr(torch, name)
    return {
        "conj": torch.conj_physical,
        "not": torch.bitwise_not,
        "add": lambda *a: fold(torch.add, a),
        "mul": lambda *a: fold(torch.mul, a),
        "max": lambda *a: fold(torch.maximum, a),
        "min": lambda *a: fold(torch.minimum, a),
        "and": lambda *a: fold(torch.bitwise_and, a),
        "or": lambda *a: fold(torch.bitwise_or, a),
        "xor": lambda *a: fold(torch.bitwise_xor, a),
        "div": torch.true_divide,
        "floordiv": torch.floor_divide,
        "truncdiv": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
        "mod": torch.remainder,
        "shl": torch.bitwise_left_shift,
        "shr": torch.bitwise_right_shift,
    }[name]


def fold(f, args):
    out = args[0]
    for a in args[1:]:
        out = f(out, a)
    return out


class Evaluator:
    def __init__(self, loops, bodies, env, symbols):
        self.env, self.symbols = env, symbols
        self.iters = list(loops)
        for t in postorder(*bodies):
            if isinstance(t, Reduce):
                self.iters += [i for i in t.iters if i not in self.iters]
        self.where = {i: k for k, i in enumerate(self.iters)}
        self.loops = loops
        self.memo = {}
        self.mask = torch.ones((), dtype=torch.bool)

    def extent(self, it):
        return evaluate(it.extent, self.symbols)

    def full(self, body):
        v = self.term(body)
        r = len(self.iters)
        n = len(self.loops)
        v = v.reshape((1,) * (r - v.dim()) + tuple(v.shape)) if v.dim() < r else v
        v = v.reshape(tuple(v.shape)[:n])
        return v.expand([self.extent(i) for i in self.loops]).clone()

    def index(self, where):
        total = torch.zeros((1,) * len(self.iters), dtype=torch.int64)
        for c, atoms in index(where).terms:
            part = torch.full((1,) * len(self.iters), c, dtype=torch.int64)
            for a in atoms:
                part = part * self.atom(a)
            total = total + part
        return total

    def atom(self, a):
        match a:
            case Iter():
                shape = [1] * len(self.iters)
                shape[self.where[a]] = -1
                n = self.extent(a)
                return torch.arange(n).reshape([n if s == -1 else 1 for s in shape])
            case Symbol():
                return torch.tensor(self.symbols[a.name])
            case FloorDiv():
                return torch.floor_divide(self.index(a.numerator), self.index(a.denominator))
            case Mod():
                return torch.remainder(self.index(a.numerator), self.index(a.denominator))
            case Lookup():
                v = self.read(a.tensor, a.indices).to(torch.int64)
                ok = (v >= self.index(a.low)) & (v < self.index(a.high))
                assert bool((ok | ~self.mask).all()), "lookup breaks its promise"
                return v

    def read(self, t, indices):
        src = self.env[t.name]
        if not indices:
            return src.reshape((1,) * len(self.iters))
        ix = [self.index(i) for i in indices]
        shape = torch.broadcast_shapes(*[i.shape for i in ix])
        if 0 in shape:
            return torch.empty(shape, dtype=src.dtype)
        cl = []
        for i, s in zip(ix, src.shape, strict=True):
            ok = (i >= 0) & (i < s)
            if not bool((ok | ~self.mask).all()):
                raise AssertionError(f"read of {t} out of bounds: {indices}")
            cl.append(i.clamp(0, max(s - 1, 0)))
        if 0 in src.shape:
            return torch.zeros(shape, dtype=src.dtype)
        return src[tuple(torch.broadcast_tensors(*cl))]

    def guard(self, g):
        m = torch.ones((1,) * len(self.iters), dtype=torch.bool)
        for b in g.bounds:
            v = self.index(b.value)
            m = m & (v >= self.index(b.low)) & (v < self.index(b.high))
        return m

    def term(self, t):
        key = (t, id(self.mask))
        if key not in self.memo:
            self.memo[key] = (self.mask, self._term(t))
        return self.memo[key][1]

    def _term(self, t):
        match t:
            case Const():
                return torch.full((1,) * len(self.iters), t.value, dtype=td(t.dtype))
            case Read():
                return self.read(t.tensor, t.indices)
            case Position():
                return self.index(t.value)
            case Cast():
                v = self.term(t.value)
                if v.is_complex() and not t.dtype.is_complex and t.dtype is not DType.BOOL:
                    v = v.real
                return v.to(td(t.dtype))
            case Select():
                m = self.guard(t.guard)
                old = self.mask
                self.mask = old & m
                a = self.term(t.inside)
                self.mask = old & ~m
                b = self.term(t.outside)
                self.mask = old
                return torch.where(m, a, b)
            case Apply():
                r = fn(t.function)(*[self.term(a) for a in t.args])
                return r
            case Reduce():
                return self.reduce(t)

    def reduce(self, t):
        vs = [self.term(b) for b in t.bodies]
        r = len(self.iters)
        vs = [v.reshape((1,) * (r - v.dim()) + tuple(v.shape)) for v in vs]
        axes = [self.where[i] for i in t.iters]
        out = []
        full = list(torch.broadcast_shapes(*[v.shape for v in vs]))
        for a, i in zip(axes, t.iters, strict=True):
            full[a] = self.extent(i)
        vs = [v.expand(full) for v in vs]
        rest = [k for k in range(r) if k not in axes]
        moved = [
            v.permute(rest + axes).reshape([full[k] for k in rest] + [-1])
            if 0 not in full
            else v.permute(rest + axes).flatten(len(rest))
            for v in vs
        ]
        res = monoid(t.monoid, moved, t.pick)
        shape = [1 if k in axes else full[k] for k in range(r)]
        return res.reshape(shape)


def monoid(name, vs, pick):
    v = vs[0]
    empty = v.shape[-1] == 0
    dt = v.dtype
    match name:
        case "sum":
            return v.sum(-1, dtype=dt)
        case "prod":
            return v.prod(-1, dtype=dt)
        case "any":
            return v.any(-1)
        case "all":
            return v.all(-1)
        case "max" | "min":
            if empty:
                lo = (
                    (float("-inf") if name == "max" else float("inf"))
                    if dt.is_floating_point
                    else (False if name == "max" else True)
                    if dt == torch.bool
                    else getattr(torch.iinfo(dt), "min" if name == "max" else "max")
                )
                return torch.full(v.shape[:-1], lo, dtype=dt)
            return v.amax(-1) if name == "max" else v.amin(-1)
        case "argmax" | "argmin":
            f = v.to(torch.uint8) if dt == torch.bool else v
            n = torch.isnan(f) if dt.is_floating_point else torch.zeros_like(f, dtype=torch.bool)
            best = f.amax(-1, keepdim=True) if name == "argmax" else f.amin(-1, keepdim=True)
            hit = torch.where(n.any(-1, keepdim=True), n, f == best)
            big = torch.where(hit, vs[1], torch.iinfo(torch.int64).max)
            pos = big.amin(-1, keepdim=True)
            if pick == 1:
                return pos.squeeze(-1).to(vs[1].dtype)
            first = (hit & (vs[1] == pos)).to(torch.uint8).argmax(-1, keepdim=True)
            return torch.gather(v, -1, first).squeeze(-1)
        case "welford":
            mean, m2, count = vs
            n = count.sum(-1)
            total = (mean * count).sum(-1) / n
            m = (m2 + count * (mean - total.unsqueeze(-1)) ** 2).sum(-1)
            return [total, m, n][pick]
        case "logsumexp":
            m, s = vs
            best = m.amax(-1)
            safe = torch.where(torch.isfinite(best), best, torch.zeros((), dtype=dt))
            return best if pick == 0 else (s * torch.exp(m - safe.unsqueeze(-1))).sum(-1)
    raise NotImplementedError(name)
