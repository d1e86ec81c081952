"""Loops over rows whose states repeat: what `periods` does for one number, for all rows of a vector at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracejit.ir.graph import Graph, Node, Value
from tracejit.lower.llvm import FLOATS, Fn, Val, const, elem, i64, lanes, vec
from tracejit.lower.periods import NO_STATES, ORDERS, TURNED, States, advanced, both, conjuncts, number, union, widened
from tracejit.lower.scalar import S
from tracejit.lower.scalarmath import LLVMScalar

EVERY = 32  # steps between two comparisons
FEW = 100  # steps of which none is worth leaving out
ALIGN = 64  # bytes, of what is remembered


@dataclass(frozen=True)
class Bound:
    """A test of a state to which each step adds `step`; `limit`, of the body, never changes."""

    state: int
    step: int
    order: str
    limit: Value


@dataclass(frozen=True)
class Periods:
    """What a loop needs to know of its states, where the mask is true."""

    mask: int
    mapped: tuple[int, ...]  # those that a step computes from each other
    summed: tuple[int, ...]  # integers to which a step adds what those say
    bounds: tuple[Bound, ...]

    def text(self) -> str:
        """What identifies the code for it."""
        return f"repeats {self.mapped} {self.summed} {EVERY}"


def of(n: Node, mask: int) -> Periods | None:
    """How the states of a loop by rows repeat; None if they cannot. Each but the mask stays where that is false."""
    body: Graph = n.attr("body")
    count = n.attr("n")
    active = body.params[mask]
    reads: dict[Value, States] = {p: frozenset([i]) if i < count else NO_STATES for i, p in enumerate(body.params)}
    reads[active] = NO_STATES
    for x in body.nodes:
        given = x.inputs[1:2] if x.op.name == "where" and x.inputs[0] is active else x.inputs
        reads.update(dict.fromkeys(x.outs, union(reads[v] for v in given)))
    new = {i: r.node.inputs[1] for i, r in enumerate(body.results) if i != mask and r.node is not None}
    steps = {i: s for i, v in new.items() if (s := _step(body.params[i], v))}
    bounds, tested = [], NO_STATES
    for v in conjuncts(body.results[mask]):
        if v is active:
            continue
        b = _bound(v, body, reads, steps)
        if b is None:
            tested |= reads[v]
        else:
            bounds.append(b)
    read = union(reads[v] for v in new.values()) | tested | {b.state for b in bounds}
    own = [i for i in new if i in read]
    gains = {i: g for i in own if (g := _Gain(body.params[i], i, reads).of(new[i])) is not None}
    if any(body.params[i].dtype.kind not in "iu" for i in gains):
        return None
    mapped = {i for i in own if i not in gains}
    while moved := [i for i in gains if i in union(reads[new[j]] for j in mapped) | tested]:
        if any(not gains.pop(i) for i in moved):
            return None
        mapped.update(moved)
    if not mapped or not bounds or not union(gains.values()) <= mapped or any(b.state not in gains for b in bounds):
        return None
    if any(_few(n, b) for b in bounds):
        return None
    return Periods(mask, tuple(sorted(mapped)), tuple(sorted(gains)), tuple(bounds))


def _step(p: Value, v: Value) -> int | None:
    n = v.node
    if n is None or n.op.name not in ("add", "sub") or v.dtype.kind not in "iu":
        return None
    x, y = n.inputs if n.inputs[0] is p or n.op.name == "sub" else n.inputs[::-1]
    by = number(y)
    return None if x is not p or not by else by if n.op.name == "add" else -by


def _bound(v: Value, body: Graph, reads: dict[Value, States], steps: dict[int, int]) -> Bound | None:
    n = v.node
    if n is None or n.op.name not in ORDERS or n.op.name == "not_equal":
        return None
    for (x, y), order in ((n.inputs, ORDERS[n.op.name]), (n.inputs[::-1], TURNED[ORDERS[n.op.name]])):
        r = widened(x)
        i = next((i for i, s in enumerate(body.results) if s is r), -1)
        step = steps.get(i, 0)
        if (step > 0 if order in ("lt", "le") else step < 0) and not reads[y]:
            return Bound(i, step, order, y)
    return None


class _Gain:
    """The states that say how much a step adds to state i, which is p; None if it does anything else with it."""

    def __init__(self, p: Value, i: int, reads: dict[Value, States]) -> None:
        self.i, self.reads = i, reads
        self.known: dict[Value, States | None] = {p: NO_STATES}

    def of(self, v: Value) -> States | None:
        if v not in self.known:
            self.known[v] = None if v.node is None or self.i not in self.reads[v] else self._find(v.node)
        return self.known[v]

    def _find(self, n: Node) -> States | None:
        name, xs, reads = n.op.name, n.inputs, self.reads
        if name == "where" and self.i not in reads[xs[0]]:
            return both(self.of(xs[1]), self.of(xs[2]), reads[xs[0]])
        if name in ("add", "sub") and self.i not in reads[xs[1]]:
            return both(self.of(xs[0]), reads[xs[1]])
        if name == "add" and self.i not in reads[xs[0]]:
            return both(self.of(xs[1]), reads[xs[0]])
        return None


def _few(n: Node, b: Bound) -> bool:
    body: Graph = n.attr("body")
    end = number(b.limit)
    if end is None and b.limit in body.params:
        end = number(n.inputs[body.params.index(b.limit)])
    first = number(n.inputs[b.state])
    return end is not None and first is not None and abs(end - first) < FEW * abs(b.step)


class Watch:
    """The code after a step of a vector of rows: what is remembered lies on the stack."""

    def __init__(self, f: Fn, m: LLVMScalar, p: Periods, first: Sequence[S]) -> None:
        self.f, self.m, self.p = f, m, p
        self.kept = {i: f.alloca(lanes(_bits(f, first[i]).ty) * 8, ALIGN) for i in (*p.mapped, *p.summed)}
        self.span = f.alloca(8, 8)  # steps for which states are remembered
        self.start = i64(EVERY)
        self._remember(first)
        f.store(self.start, self.span)

    def _remember(self, states: Sequence[S]) -> None:
        for i, p in self.kept.items():
            self.f.store(_bits(self.f, states[i]), p, ALIGN)

    def _saved(self, x: S, i: int) -> Val:
        return self.f.load(_bits(self.f, x).ty, self.kept[i], ALIGN)

    def after(self, states: Sequence[S], left: Val, limits: Sequence[S]) -> tuple[list[S], Val]:
        """The states as they are some periods later, if all that go on repeat; `left` counts a span's steps down."""
        f, p = self.f, self.p
        left = f.add(left, i64(-1))
        due = f.cmp("eq", f.and_(left, i64(EVERY - 1)), i64(0))
        sums = [states[i].v for i in p.summed]
        got = f.if_(due, lambda: self._compared(states, left, limits), lambda: [*sums, left])
        return advanced(states, p.summed, got)

    def _compared(self, states: Sequence[S], left: Val, limits: Sequence[S]) -> list[Val]:
        """What is summed, and the steps that are left of the span."""
        f, p = self.f, self.p
        unlike = None
        for i in p.mapped:
            d = f.cmp("ne", _bits(f, states[i]), self._saved(states[i], i))
            unlike = d if unlike is None else f.or_(unlike, d)
        assert unlike is not None
        some = f.intrinsic("vector.reduce.or", f.and_(unlike, states[p.mask].v), ty="i1")
        sums = [states[i].v for i in p.summed]

        def renewed() -> list[Val]:
            span = f.op("shl", f.load("i64", self.span), i64(1))
            f.store(span, self.span)
            self._remember(states)
            return [span]

        return f.if_(
            some,
            lambda: [*sums, *f.if_(f.cmp("eq", left, i64(0)), renewed, lambda: [left])],
            lambda: self._later(states, left, limits),
        )

    def _later(self, states: Sequence[S], left: Val, limits: Sequence[S]) -> list[Val]:
        """After as many periods as fit before the last step of every row that goes on."""
        f, p = self.f, self.p
        mask = states[p.mask].v
        width = lanes(mask.ty)
        steps = None
        for b, limit in zip(p.bounds, limits, strict=True):
            more = self._steps(b, self.m.cast(states[b.state], limit.dtype), limit, width)
            steps = more if steps is None else f.intrinsic("umin", steps, more)
        assert steps is not None
        least = f.intrinsic("vector.reduce.umin", f.select(mask, steps, const(steps.ty, (1 << 63) - 1)), ty="i64")
        periods = f.op("udiv", least, f.sub(f.load("i64", self.span), left))
        out = []
        for i in p.summed:
            v = states[i].v
            times = f.splat(f.cast("trunc", periods, elem(v.ty)), width)
            new = f.select(mask, f.add(v, f.mul(f.sub(v, self._saved(states[i], i)), times)), v)
            f.store(new, self.kept[i], ALIGN)
            out.append(new)
        return [*out, f.load("i64", self.span)]

    def _steps(self, b: Bound, at: S, limit: S, width: int) -> Val:
        """How many steps a test that holds allows beyond the next one."""
        f = self.f
        x, y = f.splat(at.v, width), f.splat(limit.v, width)
        wide = vec("i64", width)
        ahead = f.cast("zext", f.sub(y, x) if b.step > 0 else f.sub(x, y), wide)
        if b.order in ("lt", "gt"):
            ahead = f.sub(ahead, const(wide, 1))
        return f.op("udiv", ahead, const(wide, abs(b.step))) if abs(b.step) > 1 else ahead


def _bits(f: Fn, x: S) -> Val:
    """Numbers as integers that have their bits."""
    if elem(x.v.ty) in FLOATS:
        return f.bits(x.v)
    return f.cast("zext", x.v, vec("i8", lanes(x.v.ty))) if elem(x.v.ty) == "i1" else x.v
