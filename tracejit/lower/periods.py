"""Loops whose states repeat: which steps are a function of states alone, and code that leaves out whole periods.

A step that depends on neither its number nor anything else that changes is a map of some of the loop's states. Once
these are, bit for bit, what they were p steps before, every further p steps bring them back: the loop may go on as if
any number of such periods had passed. States to which each step adds an integer that the map says, counters among them,
have then grown by as much in each period. (R. P. Brent, "An improved Monte Carlo factorization algorithm", 1980, says
which states to remember: those after 1, 3, 7, 15 … times as many steps.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracejit.intervals import all_of, fits
from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.text import walk
from tracejit.lower.llvm import FLOATS, Fn, Val, elem, i64
from tracejit.lower.scalar import S
from tracejit.lower.scalarmath import LLVMScalar
from tracejit.tracing import constant

FEW = 32  # steps of which none is worth leaving out
SELDOM = 8  # steps between two comparisons where a step takes about as long as one
_QUICK = frozenset(  # operations that take no longer than a comparison of states
    "constant dim cast copy identity stop_gradient check gather slice reshape transpose broadcast_to where "
    "add sub mul neg abs sign square relu maximum minimum floor ceil trunc round isnan isinf isfinite copysign "
    "less less_equal greater greater_equal equal not_equal logical_and logical_or logical_xor logical_not "
    "bit_and bit_or bit_xor bit_not shift_left shift_right cond".split()
)
_DIVISIONS = frozenset(["floordiv", "floormod", "truncdiv", "truncmod"])  # of integers, by constants for the most part
ORDERS = {"less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge", "not_equal": "ne"}
TURNED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "ne": "ne"}
States = frozenset[int]
NO_STATES: States = frozenset()


# --- which loops ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Bound:
    """A test of the condition: `state`, to which each step adds `step`, is compared with what never changes."""

    state: int
    step: int
    order: str
    limit: Value | None  # in the graph of the condition; None: the length of a scan


@dataclass(frozen=True)
class Periods:
    """What a loop needs to know of its states."""

    mapped: tuple[int, ...]  # those that a step computes from each other
    summed: tuple[int, ...]  # integers to which a step adds what those say
    bounds: tuple[Bound, ...]
    every: int  # steps between two comparisons

    def text(self) -> str:
        """What identifies the code for it."""
        return f"repeats {self.mapped} {self.summed} {self.every}"


def of(n: Node) -> Periods | None:
    """How the states of a loop of single numbers repeat; None if they cannot, or if that would save little."""
    if n.op.name not in ("while", "scan") or len(n.outs) != n.attr("n") or any(v.shape for v in n.outs):
        return None
    if n.op.name == "scan" and (n.attr("m") or (type(n.attr("length")) is int and n.attr("length") < FEW)):
        return None
    return _States(n).found()


def quick(n: Node) -> bool:
    """Whether a step of a loop has no operation that takes many times as long as a comparison."""
    inner = [x for _, g in n.attrs if type(g) is Graph for r in walk(g) for x in r.nodes]
    return all(x.op.name in _QUICK or (x.op.name in _DIVISIONS and x.out.dtype.kind in "iu") for x in inner)


class _States:
    """The states of a loop, by what becomes of them in a step."""

    def __init__(self, n: Node) -> None:
        self.node = n
        self.body: Graph = n.attr("body")
        self.count: int = n.attr("n")
        self.reads = _reads(self.body, self.count)
        self.checked = union(self.reads[v] for x in self.body.nodes if not x.pure for v in x.inputs)

    def found(self) -> Periods | None:
        results = [self.reads[r] for r in self.body.results]
        steps = {i: s for i in range(self.count) if (s := self._step(i)) is not None}
        bounds, tested = self._tests(steps)
        read = union(results) | tested | self.checked | {b.state for b in bounds}
        own = [i for i in range(self.count) if i in read]  # the others are made anew by each step, the last one too
        gains = {i: g for i in own if (g := self._gain(i)) is not None}
        if any(not gains[i] and self.body.params[i].dtype.kind == "f" for i in gains):
            return None
        gains = {i: g for i, g in gains.items() if self.body.params[i].dtype.kind in "iu"}
        mapped = {i for i in own if i not in gains}
        while moved := [i for i in gains if i in union(results[j] for j in mapped) | tested | self.checked]:
            if any(not gains.pop(i) for i in moved):
                return None  # a counter
            mapped.update(moved)
        if not mapped or not union(gains.values()) <= mapped or any(b.state not in gains for b in bounds):
            return None
        if self.node.op.name == "scan":
            bounds, gains = [Bound(self.count, 1, "lt", None)], {**gains, self.count: NO_STATES}
        if not bounds or any(self._few(b) for b in bounds) or self._is_affine(mapped):
            return None
        divides = any(x.op.name in _DIVISIONS for x in self.body.nodes)
        every = SELDOM if quick(self.node) and not divides else 1
        return Periods(tuple(sorted(mapped)), tuple(sorted(gains)), tuple(bounds), every)

    def _gain(self, i: int) -> States | None:
        """The states that say how much a step adds to this one; None if it does anything else with it."""
        known: dict[Value, States | None] = {self.body.params[i]: NO_STATES}

        def find(v: Value) -> States | None:
            n = v.node
            if n is None or i not in self.reads[v]:
                return None
            name, xs = n.op.name, n.inputs
            if name == "copy" or (name == "cast" and xs[0].dtype is v.dtype):
                return gain(xs[0])
            if name == "where" and i not in self.reads[xs[0]]:
                return both(gain(xs[1]), gain(xs[2]), self.reads[xs[0]])
            if name in ("add", "sub") and i not in self.reads[xs[1]]:
                return both(gain(xs[0]), self.reads[xs[1]])
            if name == "add" and i not in self.reads[xs[0]]:
                return both(gain(xs[1]), self.reads[xs[0]])
            return None

        def gain(v: Value) -> States | None:
            if v not in known:
                known[v] = find(v)
            return known[v]

        return gain(self.body.results[i])

    def _step(self, i: int) -> int | None:
        """The number that each step adds to an integer, if it is known."""
        n = self.body.results[i].node
        if n is None or n.op.name not in ("add", "sub") or n.out.dtype.kind not in "iu":
            return None
        x, y = n.inputs if n.inputs[0] is self.body.params[i] or n.op.name == "sub" else n.inputs[::-1]
        by = number(y)
        return None if x is not self.body.params[i] or not by else by if n.op.name == "add" else -by

    def _tests(self, steps: dict[int, int]) -> tuple[list[Bound], States]:
        """The condition's tests of counters, and the states that its other tests read."""
        if self.node.op.name == "scan":
            return [], NO_STATES
        cond: Graph = self.node.attr("cond")
        reads = _reads(cond, self.count)
        bounds, tested = [], union(reads[v] for x in cond.nodes if not x.pure for v in x.inputs)
        for v in conjuncts(cond.results[0]):
            bound = _bound(v, cond, reads, steps)
            if bound is not None:
                bounds.append(bound)
            else:
                tested |= reads[v]
        return bounds, tested

    def _is_affine(self, mapped: set[int]) -> bool:
        """Whether integers are only multiplied and added up: that repeats late, and LLVM takes many steps at once."""
        if any(self.body.params[i].dtype.kind not in "iu" for i in mapped):
            return False
        return all(
            n.op.name in ("constant", "cast", "copy", "dim", "add", "sub", "neg")
            or (n.op.name == "mul" and any(not self.reads[v] for v in n.inputs))
            for n in self.body.nodes
        )

    def _few(self, b: Bound) -> bool:
        """Whether a test is known to hold for a few steps only."""
        if b.limit is None:
            return False
        cond: Graph = self.node.attr("cond")
        end = number(b.limit)
        if end is None and b.limit in cond.params:
            end = number(self.node.inputs[cond.params.index(b.limit)])
        first = number(self.node.inputs[b.state])
        return end is not None and first is not None and abs(end - first) < FEW * abs(b.step)


def _bound(v: Value, cond: Graph, reads: dict[Value, States], steps: dict[int, int]) -> Bound | None:
    n = v.node
    if n is None or n.op.name not in ORDERS:
        return None
    for (x, y), order in ((n.inputs, ORDERS[n.op.name]), (n.inputs[::-1], TURNED[ORDERS[n.op.name]])):
        p = widened(x)
        i = cond.params.index(p) if p in cond.params else -1
        step = steps.get(i, 0)
        right = step > 0 if order in ("lt", "le") else step < 0 if order in ("gt", "ge") else abs(step) == 1
        if step and right and not reads[y] and (order != "ne" or p is x):
            return Bound(i, step, order, y)
    return None


def widened(v: Value) -> Value:
    """What is converted to a type that has all its numbers."""
    n = v.node
    if n is None or n.op.name != "cast" or v.dtype.kind not in "iu" or n.inputs[0].dtype.kind not in "iu":
        return v
    return n.inputs[0] if fits(all_of(n.inputs[0].dtype), all_of(v.dtype)) else v


def conjuncts(v: Value) -> list[Value]:
    """Bools of which all are true where v is."""
    found, todo, seen = list[Value](), [v], set[Value]()
    while todo:
        v = todo.pop()
        n = v.node
        if v in seen:
            continue
        seen.add(v)
        if n is not None and n.op.name == "logical_and":
            todo += n.inputs[::-1]
        elif n is not None and n.op.name == "where" and n.inputs[2] is n.inputs[0]:
            todo += n.inputs[1::-1]
        else:
            found.append(v)
    return found


def _reads(g: Graph, count: int) -> dict[Value, States]:
    """The states that values are made of."""
    found = {p: frozenset([i]) if i < count else NO_STATES for i, p in enumerate(g.params)}
    for n in g.nodes:
        found.update(dict.fromkeys(n.outs, union(found[v] for v in n.inputs)))
    return found


def union(parts: object) -> States:
    return frozenset().union(*parts)  # type: ignore[misc]


def both(*parts: States | None) -> States | None:
    return None if None in parts else union(parts)


def advanced(states: Sequence[S], summed: Sequence[int], got: Sequence[Val]) -> tuple[list[S], Val]:
    """The states with what is summed as `got` has it, and the steps that are left, which it has last."""
    out = list(states)
    for i, v in zip(summed, got, strict=False):
        out[i] = S(v, states[i].dtype)
    return out, got[-1]


def number(v: Value) -> int | None:
    n = v.node
    if n is not None and n.op.name in ("cast", "copy"):
        return number(n.inputs[0])
    if n is None or n.op is not constant or v.dtype.kind not in "iu":
        return None
    c = n.attr("value")
    return int(c.splat) if c.array is None else None


# --- their code -------------------------------------------------------------------------------------------------------
class Watch:
    """The code after a step. What is remembered lies on the stack, so that a step has all registers for itself."""

    def __init__(self, f: Fn, m: LLVMScalar, p: Periods, first: Sequence[S]) -> None:
        self.f, self.m, self.p = f, m, p
        self.kept = {i: f.alloca(8, 8) for i in (*p.mapped, *p.summed)}
        self.span = f.alloca(8, 8)  # steps for which a state is remembered
        self.start = i64(max(p.every, 4))
        self._remember(first)
        f.store(self.start, self.span)

    def _remember(self, states: Sequence[S]) -> None:
        for i, p in self.kept.items():
            self.f.store(_word(self.f, states[i]), p)

    def after(self, states: Sequence[S], left: Val, limits: Sequence[S]) -> tuple[list[S], Val]:
        """The states as they are some periods later, if they repeat; `left` counts the steps of a span down."""
        f, p = self.f, self.p
        left = f.add(left, i64(-1))

        def same() -> list[Val]:
            return self._compared(states, left, limits)

        if p.every == 1:
            got = same()
        else:
            due = f.cmp("eq", f.and_(left, i64(p.every - 1)), i64(0))
            got = f.if_(due, same, lambda: [*[states[i].v for i in p.summed], left])
        return advanced(states, p.summed, got)

    def _compared(self, states: Sequence[S], left: Val, limits: Sequence[S]) -> list[Val]:
        """What is summed, and the steps that are left of the span."""
        f, p = self.f, self.p
        unlike = None
        for i in p.mapped:
            d = f.xor(_word(f, states[i]), f.load("i64", self.kept[i]))
            unlike = d if unlike is None else f.or_(unlike, d)
        assert unlike is not None
        sums = [states[i] for i in p.summed]

        def further() -> list[Val]:
            out = self._later(states, left, limits)
            for i, s in zip(p.summed, out, strict=True):
                f.store(_word(f, s), self.kept[i])
            return [*[s.v for s in out], f.load("i64", self.span)]

        def renewed() -> list[Val]:
            span = f.op("shl", f.load("i64", self.span), i64(1))
            f.store(span, self.span)
            self._remember(states)
            return [span]

        def unequal() -> list[Val]:
            return [*[s.v for s in sums], *f.if_(f.cmp("eq", left, i64(0)), renewed, lambda: [left])]

        return f.if_(f.cmp("eq", unlike, i64(0)), further, unequal)

    def _later(self, states: Sequence[S], left: Val, limits: Sequence[S]) -> list[S]:
        """The sums after as many periods as fit before the last step."""
        f, p = self.f, self.p
        steps = None
        for b, limit in zip(p.bounds, limits, strict=True):
            more = _steps(f, b, self.m.cast(states[b.state], limit.dtype), limit)
            steps = more if steps is None else f.intrinsic("umin", steps, more)
        assert steps is not None
        periods = f.op("udiv", steps, f.sub(f.load("i64", self.span), left))
        out = []
        for i in p.summed:
            s = states[i]
            gain = f.sub(_word(f, s), f.load("i64", self.kept[i]))
            v = f.add(_word(f, s), f.mul(gain, periods))
            out.append(S(f.cast("trunc", v, s.v.ty), s.dtype))
        return out


def _steps(f: Fn, b: Bound, at: S, limit: S) -> Val:
    """How many steps a test allows beyond the next one; 0 if not even that."""
    sign = "" if b.order == "ne" else "s" if at.dtype.kind == "i" else "u"
    on = f.cmp(sign + b.order, at.v, limit.v)
    ahead = f.sub(limit.v, at.v) if b.step > 0 else f.sub(at.v, limit.v)
    ahead = f.cast("zext", ahead, "i64")
    if b.order in ("lt", "gt", "ne"):
        ahead = f.add(ahead, i64(-1))
    steps = f.op("udiv", ahead, i64(abs(b.step))) if abs(b.step) > 1 else ahead
    return f.select(on, steps, i64(0))


def _word(f: Fn, x: S) -> Val:
    """The bits of a number as 64-bit integer."""
    v = f.bits(x.v) if elem(x.v.ty) in FLOATS else x.v
    return f.cast("sext" if x.dtype.kind == "i" else "zext", v, "i64")

