"""Complex values taken apart into real and imaginary parts, so that loops and products of real numbers compute them.

Parts of what lies in memory are views of it. Results, states of loops and operands of steps that take whole numbers are
put together again by `complex`, whose loop writes both parts next to each other. 0-d values of loops and branches stay
apart, so that these run in registers.

A matrix product is four real ones: three would do (Gauss), but lose digits where the parts differ in size. Products
over an axis are taken in a tree where its size is known, else by a loop. Calls of Python get whole numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.ir.graph import Attrs, Builder, Const, Graph, Node, Value, freeze
from tracejit.ir.op import OPS
from tracejit.ir.sizes import product
from tracejit.ir.types import DType, TensorType, float32, float64
from tracejit.passes import complexmath
from tracejit.passes.match import DEFAULT, FINITE, Level, const_of, level, literal, make, splat_of
from tracejit.passes.simplify import Simplifier, rules_at
from tracejit.tracing import trace_graph

SMALL_POWER = 100  # constant exponents below which powers are products
_EACH = frozenset(
    """identity stop_gradient copy add sub neg where reshape transpose broadcast_to slice concat update gather
    scatter_sum add_at put reduce_sum cumsum""".split()
)  # done to each part alone
_LOOPS = ("while", "while_saving", "scan")
_REGIONS = ("cond", *_LOOPS)


def parts_type(d: DType) -> DType:
    """The type of the parts of complex numbers."""
    return float32 if d.name == "complex64" else float64


def is_complex(v: Value) -> bool:
    return v.dtype.kind == "c"


def has_complex(graph: Graph) -> bool:
    """Whether a value of the graph or of a region is complex."""
    return any(map(is_complex, graph.params)) or any(
        any(map(is_complex, n.outs)) or any(type(x) is Graph and has_complex(x) for _, x in n.attrs)
        for n in graph.nodes
    )


@functools.cache
def _template(f: Callable[..., Any], d: DType, count: int) -> Graph:
    """A formula as a graph over 0-d parts."""
    return trace_graph(f, [TensorType(d, ())] * count, getattr(f, "__name__", "formula"))


@functools.cache
def _integer_power(n: int) -> Callable[..., Any]:
    return complexmath.integer_power(n)


class _Parts:
    """A complex value: whole, as two parts, or both."""

    __slots__ = ("whole", "re", "im")

    def __init__(self, whole: Value | None = None, re: Value | None = None, im: Value | None = None) -> None:
        self.whole, self.re, self.im = whole, re, im


class _Splitter:
    """The state of one run over a graph or region."""

    def __init__(self, upto: Level) -> None:
        self.upto = upto
        self.b = Builder(Simplifier(rules_at(min(upto, FINITE))))
        self.real: dict[Value, Value] = {}
        self.complex: dict[Value, _Parts] = {}

    # --- values -------------------------------------------------------------------------------------------------------
    def parts(self, v: Value) -> tuple[Value, Value]:
        """The two parts of a complex value of the old graph."""
        p = self.complex[v]
        if p.re is None or p.im is None:
            assert p.whole is not None
            p.re, p.im = self._parts_of(p.whole)
        return p.re, p.im

    def _parts_of(self, v: Value) -> tuple[Value, Value]:
        c, d = const_of(v), parts_type(v.dtype)
        if c is None:
            return make(self.b, "real", v), make(self.b, "imag", v)
        if c.array is None:
            return literal(self.b, c.splat.real, d, c.shape), literal(self.b, c.splat.imag, d, c.shape)
        arrays = (np.ascontiguousarray(x) for x in (c.array.real, c.array.imag))
        re, im = (self.b.emit(OPS["constant"], (), (("value", Const(a)),))[0] for a in arrays)
        return re, im

    def whole(self, v: Value) -> Value:
        """A value of the old graph as one value, put together if it is complex."""
        if not is_complex(v):
            return self.real[v]
        p = self.complex[v]
        if p.whole is None:
            assert p.re is not None and p.im is not None
            p.whole = make(self.b, "complex", p.re, p.im)
        return p.whole

    def fit(self, v: Value, shape: tuple[Any, ...]) -> Value:
        return v if v.shape == shape else make(self.b, "broadcast_to", v, shape=shape)

    def set(self, v: Value, re: Value, im: Value) -> None:
        self.complex[v] = _Parts(None, self.fit(re, v.shape), self.fit(im, v.shape))

    def set_whole(self, v: Value, new: Value) -> None:
        if is_complex(v):
            self.complex[v] = _Parts(new)
        else:
            self.real[v] = new

    def zero(self, v: Value) -> bool:
        """Whether a part is known to be zero, and results may differ where numbers are not finite."""
        return self.upto >= FINITE and _repeated(v) == 0

    # --- graphs -------------------------------------------------------------------------------------------------------
    def run(self, graph: Graph, apart: bool = False) -> Graph:
        """The graph with its nodes taken apart; with `apart`, 0-d parameters and results are too."""
        for p in graph.params:
            if apart and loose(p.type):
                d = TensorType(parts_type(p.dtype), p.shape)
                re = self.b.param(d)
                self.set(p, re, self.b.param(d))
            else:
                self.set_whole(p, self.b.param(p.type.strong()))
        for n in graph.nodes:
            self.b.loc = n.loc
            self.node(n)
        self.b.loc = None
        return self.b.finish(graph.name, self.flat(graph.results, [apart and loose(r.type) for r in graph.results]))

    def flat(self, values: Sequence[Value], apart: Sequence[bool]) -> list[Value]:
        """Values of the old graph as values of the new one, some of them as two."""
        out: list[Value] = []
        for v, loose_ in zip(values, apart, strict=True):
            out += self.parts(v) if loose_ else (self.whole(v),)
        return out

    def region(self, graph: Graph) -> Graph:
        return _Splitter(self.upto).run(graph, apart=True) if has_complex(graph) else graph

    def node(self, n: Node) -> None:
        if n.op.family == "control":
            self.control(n)
        elif not any(map(is_complex, (*n.inputs, *n.outs))):
            self.again(n)
        elif n.op.name == "constant":
            self.again(n)
        elif n.op.name in _EACH:
            self.each(n, [self.parts(v) if is_complex(v) else (self.real[v],) * 2 for v in n.inputs])
        elif n.op.name in RULES:
            RULES[n.op.name](self, n)
        elif n.op.name in complexmath.FORMULAS:
            self.formula(n, complexmath.FORMULAS[n.op.name])
        else:
            self.again(n)

    def again(self, n: Node, attrs: Attrs | None = None) -> None:
        """The node as it is, over whole values."""
        outs = self.b.emit(n.op, tuple([self.whole(v) for v in n.inputs]), n.attrs if attrs is None else attrs)
        for v, new in zip(n.outs, outs, strict=True):
            self.set_whole(v, new)

    def each(self, n: Node, inputs: Sequence[tuple[Value, ...]]) -> None:
        """The node done to the real parts, and done to the imaginary parts."""
        re, im = (self.b.emit(n.op, tuple([p[i] for p in inputs]), n.attrs)[0] for i in range(2))
        self.set(n.out, re, im)

    def formula(self, n: Node, f: Callable[..., Any]) -> None:
        given = [p for v in n.inputs for p in self.parts(v)]
        self.result(n, self.applied(f, given))

    def applied(self, f: Callable[..., Any], given: Sequence[Value]) -> list[Value]:
        """What a formula gives for parts."""
        template = _template(f, given[0].dtype, len(given))
        env = dict(zip(template.params, given, strict=True))
        for m in template.nodes:
            env[m.out] = self.b.emit(m.op, tuple([env[x] for x in m.inputs]), m.attrs)[0]
        return [env[r] for r in template.results]

    def result(self, n: Node, made: Sequence[Value]) -> None:
        if len(made) == 2:
            self.set(n.out, *made)
        else:
            self.real[n.out] = self.fit(made[0], n.out.shape)

    # --- branches and loops -------------------------------------------------------------------------------------------
    def control(self, n: Node) -> None:
        regions = {k: g for k, g in n.attrs if type(g) is Graph}
        if n.op.name not in _REGIONS or not has_complex(Graph("", n.inputs, [n], ())):
            self.again(n)
            return
        attrs = dict(n.attrs) | {k: self.region(g) for k, g in regions.items()}
        body: Graph = next(iter(regions.values())) if n.op.name == "cond" else regions["body"]
        inputs = [loose(p.type) for p in body.params]
        outs = [loose(r.type) for r in body.results]
        if n.op.name == "cond":
            inputs = [False, *inputs]
        if n.op.name in _LOOPS:
            states = n.attr("n")
            attrs["n"] = states + sum(inputs[:states])
            if n.op.name == "scan":
                attrs["m"] = n.attr("m") + sum(inputs[states : states + n.attr("m")])
            if n.op.name == "while_saving":
                outs = [*outs[:states], False, *outs[states:]]
        made = iter(self.b.emit(n.op, tuple(self.flat(n.inputs, inputs)), freeze(attrs)))
        for v, apart in zip(n.outs, outs, strict=True):
            if apart:
                self.set(v, next(made), next(made))
            else:
                self.set_whole(v, next(made))


def loose(t: TensorType) -> bool:
    """Whether a value of a branch or loop is kept as two parts."""
    return t.dtype.kind == "c" and not t.shape


def split(graph: Graph, numerics: str | Level = DEFAULT) -> Graph:
    """The graph with arithmetic of real numbers only; parameters and results keep their types."""
    return _Splitter(level(numerics)).run(graph) if has_complex(graph) else graph


# --- rules ------------------------------------------------------------------------------------------------------------
def _cast(s: _Splitter, n: Node) -> None:
    x, d = n.inputs[0], n.attr("dtype")
    if d.kind != "c":
        s.real[n.out] = make(s.b, "cast", s.parts(x)[0], dtype=d)
        return
    part = parts_type(d)
    re, im = s.parts(x) if is_complex(x) else (s.real[x], literal(s.b, 0.0, part))
    s.set(n.out, make(s.b, "cast", re, dtype=part), make(s.b, "cast", im, dtype=part))


def _real(s: _Splitter, n: Node) -> None:
    s.real[n.out] = s.parts(n.inputs[0])[n.op.name == "imag"]


def _conj(s: _Splitter, n: Node) -> None:
    re, im = s.parts(n.inputs[0])
    s.set(n.out, re, make(s.b, "neg", im))


def _complex(s: _Splitter, n: Node) -> None:
    s.set(n.out, s.real[n.inputs[0]], s.real[n.inputs[1]])


def _assigned(s: _Splitter, n: Node) -> None:
    s.set(n.out, *s.parts(n.inputs[0]))


def _mul(s: _Splitter, n: Node) -> None:
    """Products and quotients by real numbers are those of the parts."""
    (a, b), (c, d) = s.parts(n.inputs[0]), s.parts(n.inputs[1])
    if n.op.name == "mul" and s.zero(b):
        a, b, c, d = c, d, a, b
    if s.zero(d):
        s.set(n.out, make(s.b, n.op.name, a, c), make(s.b, n.op.name, b, c))
    else:
        s.formula(n, complexmath.FORMULAS[n.op.name])


def _repeated(v: Value) -> Any:
    """The one number that a part is known to repeat, else None."""
    while v.node is not None and v.node.op.name in ("broadcast_to", "reshape"):
        v = v.node.inputs[0]
    return splat_of(v)


def _pow(s: _Splitter, n: Node) -> None:
    c, d = (_repeated(p) for p in s.parts(n.inputs[1]))
    if c is not None and d == 0 and float(c).is_integer() and 0 < abs(c) < SMALL_POWER:
        made = s.applied(_integer_power(int(c)), s.parts(n.inputs[0]))
        s.set(n.out, *made)
    else:
        s.formula(n, complexmath.power)


def _place(s: _Splitter, n: Node) -> None:
    fill = complex(dict(n.attrs).get("fill", 0))
    made = []
    for p, x in zip(s.parts(n.inputs[0]), (fill.real, fill.imag), strict=True):
        made.append(s.b.emit(n.op, (p,), freeze(dict(n.attrs) | {"fill": x}))[0])
    s.set(n.out, *made)


def _matmul(s: _Splitter, n: Node) -> None:
    (a, b), (c, d) = s.parts(n.inputs[0]), s.parts(n.inputs[1])

    def times(x: Value, y: Value) -> Value:
        return s.b.emit(n.op, (x, y), n.attrs)[0]

    re = make(s.b, "sub", times(a, c), times(b, d))
    s.set(n.out, re, make(s.b, "add", times(a, d), times(b, c)))


def _lined_up(s: _Splitter, x: Value, axis: Sequence[int], first: bool) -> tuple[list[Value], Any]:
    """Both parts with some axes as one, which comes first or last; and its size."""
    rest = [i for i in range(len(x.shape)) if i not in axis]
    count = product(tuple([x.shape[a] for a in axis]))
    kept = [x.shape[i] for i in rest]
    perm, shape = ((*axis, *rest), (count, *kept)) if first else ((*rest, *axis), (*kept, count))
    moved = [make(s.b, "transpose", p, perm=perm) for p in s.parts(x)]
    return [make(s.b, "reshape", p, shape=shape) for p in moved], count


def _cut(s: _Splitter, parts: Sequence[Value], first: Any, size: Any, step: int = 1) -> list[Value]:
    """Some elements along the last axis."""
    before = parts[0].shape[:-1]
    attrs = {"start": (*[0] * len(before), first), "size": (*before, size), "step": (*[1] * len(before), step)}
    return [make(s.b, "slice", p, **attrs) for p in parts]


def _ones(s: _Splitter, d: DType, shape: tuple[Any, ...]) -> list[Value]:
    return [s.fit(literal(s.b, x, d), shape) for x in (1.0, 0.0)]


def _one_by_one(s: _Splitter, rows: Sequence[Value], count: Any, n: Node) -> list[Value]:
    """The product so far of rows of parts; for running products those of all rows, stacked."""
    d, shape = rows[0].dtype, rows[0].shape[1:]
    inner = _Splitter(s.upto)
    state, row = ([inner.b.param(TensorType(d, shape)) for _ in range(2)] for _ in range(2))
    made = inner.applied(complexmath.mul, [*state, *row])
    running = n.op.name == "cumprod"
    kept = (state if n.attr("exclusive") else made) if running else []
    attrs = {
        "body": inner.b.finish("product", [*made, *kept]), "n": 2, "m": 2, "length": count,
        "reverse": running and n.attr("reverse"),
    }  # fmt: skip
    outs = s.b.emit(OPS["scan"], (*_ones(s, d, shape), *rows), freeze(attrs))
    return list(outs[2:] if running else outs)


def _reduce_prod(s: _Splitter, n: Node) -> None:
    """Products of halves, again and again; what an odd number of elements leaves over comes last."""
    x, axis = n.inputs[0], n.attr("axis")
    now, count = _lined_up(s, x, axis, False)
    if type(count) is not int:
        rows, count = _lined_up(s, x, axis, True)
        s.set(n.out, *_one_by_one(s, rows, count, n))
        return
    over: list[list[Value]] = [] if count else [_ones(s, now[0].dtype, (*now[0].shape[:-1], 1))]
    while count > 1:
        half = count // 2
        if count % 2:
            over.append(_cut(s, now, count - 1, 1))
        now = s.applied(complexmath.mul, [*_cut(s, now, 0, half), *_cut(s, now, half, half)])
        count = half
    if not count:
        now = over.pop()
    for p in over:
        now = s.applied(complexmath.mul, [*now, *p])
    s.set(n.out, *[make(s.b, "reshape", p, shape=n.out.shape) for p in now])


def _cumprod(s: _Splitter, n: Node) -> None:
    """Each element times the one k places before it, for k = 1, 2, 4 …"""
    x, axis = n.inputs[0], n.attr("axis")
    rest = [i for i in range(len(x.shape)) if i != axis]
    count = x.shape[axis]
    if type(count) is not int:
        rows, _ = _lined_up(s, x, (axis,), True)
        made, order = _one_by_one(s, rows, count, n), [axis, *rest]
    else:
        made, order = _doubling(s, _lined_up(s, x, (axis,), False)[0], count, n), [*rest, axis]
    perm = tuple([order.index(i) for i in range(len(order))])
    s.set(n.out, *[make(s.b, "transpose", p, perm=perm) for p in made])


def _doubling(s: _Splitter, now: list[Value], count: int, n: Node) -> list[Value]:
    """Running products along the last axis."""
    back, last = n.attr("reverse"), len(now[0].shape) - 1

    def joined(a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
        return [s.b.emit(OPS["concat"], pair, (("axis", last),))[0] for pair in zip(a, b, strict=True)]

    if not count:
        return now
    now = _cut(s, now, count - 1, count, -1) if back else now
    if n.attr("exclusive"):
        now = joined(_ones(s, now[0].dtype, (*now[0].shape[:-1], 1)), _cut(s, now, 0, count - 1))
    k = 1
    while k < count:
        times = s.applied(complexmath.mul, [*_cut(s, now, k, count - k), *_cut(s, now, 0, count - k)])
        now = joined(_cut(s, now, 0, k), times)
        k *= 2
    return _cut(s, now, count - 1, count, -1) if back else now


RULES: dict[str, Callable[[_Splitter, Node], None]] = {
    "cast": _cast, "real": _real, "imag": _real, "conj": _conj, "complex": _complex, "assigned": _assigned, "mul": _mul,
    "div": _mul, "pow": _pow, "place": _place, "matmul": _matmul, "reduce_prod": _reduce_prod, "cumprod": _cumprod,
}  # fmt: skip
