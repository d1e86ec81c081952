"""Loops that count: positions which grow evenly with the counter are checked for its first and last number only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tracejit.ir.dim import Dim
from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.types import DType, int64
from tracejit.lower.llvm import Fn, Val, i64
from tracejit.lower.scalar import S
from tracejit.lower.scalarmath import LLVMScalar
from tracejit.tracing import constant

NUMBER = 29  # bits that the counter, and a number from outside the loop, may take
MOST = 60  # bits that what is computed of them may take
LONG = 96  # nodes of a step that is not written twice
_ORDERS = {"less": (1, 0, -1), "less_equal": (1, 0, 0), "greater": (0, 1, -1), "greater_equal": (0, 1, 0)}
_INSIDE = ("while", "scan", "while_saving")


class Form(NamedTuple):
    """factor * counter + rest, exactly; `bits` is what both may take, `needs` are what must not be negative for it."""

    factor: Val
    rest: Val
    bits: tuple[int, int]
    needs: tuple[Any, ...] = ()


class Counted:
    """What is known of a loop's steps where `sure` holds.

    spared   checks that cannot fail then
    direct   positions → how they follow from the counter; they lie on their axes, counted from the front
    """

    def __init__(self, f: Fn, m: LLVMScalar, n: Node, xs: Sequence[Any], size: Callable[[int | Dim], Any]) -> None:
        self.f, self.m, self.node, self.xs, self.size = f, m, n, xs, size
        self.body: Graph = n.attr("body")
        self.spared: set[Node] = set()
        self.direct: dict[Value, Form] = {}
        self.forms: dict[Value, Form | None] = {}
        self.known: dict[Value, Value] = {}  # parameters of branches, and what they stand for
        self.wanted: list[Form] = []  # what must not be negative
        self.guards: list[Val] = []
        self.sure: Val | None = None
        found = self._counter() if _is_short(self.body) else None
        if found is None:
            return
        self.counter, first, last = found
        for g, outer in self._regions(self.body):
            self._spare(g)
            if outer:
                self._places(g)
        if self.spared or self.direct:
            self.sure = self._holds(first, last)

    # --- the counter --------------------------------------------------------------------------------------------------
    def _counter(self) -> tuple[Value, Val, Val] | None:
        """The state that counts up by ones, with the least and the largest number that steps see."""
        n = self.node
        for i, p in enumerate(self.body.params[: n.attr("n")]):
            if p.shape or p.dtype.kind != "i" or p.dtype.bits < 32 or not _grows(p, self.body.results[i]):
                continue
            first = self.m.cast(self.xs[i], int64).v
            if n.op.name == "scan":
                last = self.f.add(first, self.f.add(self.size(n.attr("length")), i64(-1)))
                return p, first, last
            limit = self._limit(n.attr("cond"), i)
            if limit is not None:
                return p, first, self.f.add(limit, i64(-1))
        return None

    def _limit(self, cond: Graph, i: int) -> Val | None:
        """What the counter stays below."""
        for v in _all_of(cond.results[0]):
            if v.node is None or v.node.op.name != "less":
                continue
            a, b = map(_widened, v.node.inputs)
            if a is cond.params[i]:
                return self._number(b, cond.params)
        return None

    def _number(self, v: Value, params: Sequence[Value]) -> Val | None:
        """A number that is the same in all steps."""
        if v.shape or v.dtype.kind not in "iu":
            return None
        if v.node is not None:
            return i64(int(v.node.attr("value").splat)) if v.node.op is constant and _is_small(v.node) else None
        if v not in params or (i := params.index(v)) < self.node.attr("n") + _rows(self.node):
            return None
        x: Val = self.m.cast(self.xs[i], int64).v
        self.guards += [self.f.cmp("sge", x, i64(-(1 << NUMBER))), self.f.cmp("slt", x, i64(1 << NUMBER))]
        return x

    # --- what follows from it -----------------------------------------------------------------------------------------
    def _regions(self, g: Graph, outer: bool = True) -> Iterator[tuple[Graph, bool]]:
        yield g, outer
        for n in g.nodes:
            for name in ("then", "orelse") if n.op.name == "cond" else ():
                self.known.update(zip(n.attr(name).params, n.inputs[1:], strict=True))
                yield from self._regions(n.attr(name), False)

    def form(self, v: Value) -> Form | None:
        v = self._outside(v)
        if v not in self.forms:
            self.forms[v] = None if v.shape or v.dtype.kind not in "iu" else self._form(v)
        return self.forms[v]

    def _outside(self, v: Value) -> Value:
        while v in self.known:
            v = self.known[v]
        return v

    def _form(self, v: Value) -> Form | None:
        if v is self.counter:
            return Form(i64(1), i64(0), (1, 0))
        fixed = self._number(v, self.body.params)
        if fixed is not None:
            return Form(i64(0), fixed, (0, NUMBER))
        n = v.node
        if n is None:
            return None
        if n.op.name == "where":
            return self._from_the_front(*n.inputs)
        if n.op.name not in ("add", "sub", "mul", "cast"):
            return None
        parts = [self.form(x) for x in n.inputs]
        if None in parts:
            return None
        if n.op.name == "cast":
            return parts[0]._replace(needs=(*parts[0].needs, *self._exact(n.inputs[0], n.out.dtype)))  # type: ignore[union-attr]
        x, y = parts
        assert x is not None and y is not None
        return self._product(x, y) if n.op.name == "mul" else self._sum(x, y, n.op.name)

    def _exact(self, v: Value, d: DType | None = None) -> list[Form]:
        """What keeps a value from leaving its type, where that is no wider than another one."""
        v = self._outside(v)
        x = self.form(v)
        computed = v.node is not None and v.node.op is not constant
        if x is None or not computed or (d is not None and d.bits <= v.dtype.bits):
            return []
        if v.dtype.bits > 32:
            return [x] if v.dtype.kind == "u" else []
        low = 0 if v.dtype.kind == "u" else 1 << (v.dtype.bits - 1)
        top = (1 << v.dtype.bits) - 1 - low
        return [self._moved(x, low), Form(self.f.sub(i64(0), x.factor), self.f.sub(i64(top), x.rest), x.bits)]

    def _sum(self, x: Form, y: Form, op: str) -> Form | None:
        bits = (max(x.bits[0], y.bits[0]) + 1, max(x.bits[1], y.bits[1]) + 1)
        made = [getattr(self.f, op)(a, b) for a, b in ((x.factor, y.factor), (x.rest, y.rest))]
        return self._within(Form(made[0], made[1], bits, x.needs + y.needs))

    def _product(self, x: Form, y: Form) -> Form | None:
        if x.bits[0] and y.bits[0]:
            return None
        x, y = (x, y) if x.bits[0] else (y, x)
        bits = (x.bits[0] and x.bits[0] + y.bits[1], x.bits[1] + y.bits[1])
        made = [self.f.mul(a, y.rest) for a in (x.factor, x.rest)]
        return self._within(Form(made[0], made[1], bits, x.needs + y.needs))

    def _within(self, x: Form) -> Form | None:
        return x if x.bits[0] + NUMBER <= MOST and x.bits[1] <= MOST else None

    def _from_the_front(self, c: Value, x: Value, y: Value) -> Form | None:
        """A position that is counted from the front: `where(y < 0, y + size, y)`."""
        test = self._outside(c).node
        if test is None or test.op.name != "less" or not _is_zero(test.inputs[1]):
            return None
        made = self.form(y)
        if made is None or self._origin(test.inputs[0]) is not self._origin(y):
            return None
        return made._replace(needs=(*made.needs, made, *self._exact(self._origin(y))))

    def _origin(self, v: Value) -> Value:
        while (w := _widened(self._outside(v))) is not v:
            v = w
        return v

    # --- what has to hold ---------------------------------------------------------------------------------------------
    def _spare(self, g: Graph) -> None:
        for n in g.nodes:
            if n.op.name != "check":
                continue
            wanted: list[Form] = []
            for v in _all_of(n.inputs[0]):
                more = self._compared(self._outside(v))
                if more is None:
                    break
                wanted += more
            else:
                self.wanted += wanted
                self.spared.add(n)

    def _compared(self, v: Value) -> list[Form] | None:
        """What must not be negative for a comparison to hold, computed without leaving the type."""
        n = v.node
        if n is None or n.op.name not in _ORDERS or any(x.dtype.kind != "i" for x in n.inputs):
            return None
        sides = [self.form(x) for x in n.inputs]
        if sides[0] is None or sides[1] is None:
            return None
        high, low, less = _ORDERS[n.op.name]
        rest = self._sum(sides[high], sides[low], "sub")  # type: ignore[arg-type]
        if rest is None:
            return None
        rest = self._moved(rest, less)
        limits = [y for v in n.inputs for y in self._exact(v)]
        return [rest, *limits, *[y for x in sides if x is not None for y in x.needs]]

    def _moved(self, x: Form, by: int) -> Form:
        return x._replace(rest=self.f.add(x.rest, i64(by))) if by else x

    def _places(self, g: Graph) -> None:
        """Positions at which steps read and write."""
        for n in g.nodes:
            if n.op.name not in ("gather", "put") or n.inputs[1].shape or n.inputs[1] in self.direct:
                continue
            x = self.form(n.inputs[1])
            room = self.size(n.inputs[0].shape[n.attr("axis")])
            if x is None or not x.bits[0] or room is None:
                continue
            self.direct[n.inputs[1]] = x
            last = Form(self.f.sub(i64(0), x.factor), self.f.sub(self.f.add(room, i64(-1)), x.rest), x.bits)
            self.wanted += [x, last, *x.needs, *self._exact(n.inputs[1])]

    def _holds(self, first: Val, last: Val) -> Val:
        f = self.f
        sure = f.cmp("sge", first, i64(-(1 << NUMBER)))
        tests = [*self.guards, f.cmp("slt", last, i64(1 << NUMBER))]
        tests += [f.cmp("sge", self.at(x, i), i64(0)) for x in self.wanted for i in (first, last)]
        for t in tests:
            sure = f.pure(f"and i1 {sure}, {t}", "i1")
        return sure

    def at(self, x: Form, i: Val) -> Val:
        """Its value at a number of the counter."""
        return self.f.add(self.f.mul(i, x.factor), x.rest)

    def place(self, v: Value, env: dict[Value, Any]) -> S | None:
        """A position that lies on its axis, in a step."""
        x = self.direct.get(v)
        return None if x is None else S(self.at(x, self.m.cast(env[self.counter], int64).v), int64)


def _is_short(body: Graph) -> bool:
    inner = [x for n in body.nodes if n.op.name == "cond" for a in ("then", "orelse") for x in n.attr(a).nodes]
    return len(body.nodes) + len(inner) <= LONG and not any(n.op.name in _INSIDE for n in (*body.nodes, *inner))


def _rows(n: Node) -> int:
    return int(n.attr("m")) if n.op.name == "scan" else 0


def _grows(p: Value, r: Value) -> bool:
    """Whether a step adds one to a state."""
    n = r.node
    return n is not None and n.op.name == "add" and n.inputs[0] is p and _is_number(n.inputs[1], 1)


def _is_number(v: Value, k: int) -> bool:
    n = v.node
    return n is not None and n.op is constant and n.attr("value").array is None and n.attr("value").splat == k


def _is_zero(v: Value) -> bool:
    return _is_number(v, 0)


def _is_small(n: Node) -> bool:
    c = n.attr("value")
    return c.array is None and abs(int(c.splat)) < 1 << NUMBER


def _all_of(v: Value) -> Iterator[Value]:
    """The conditions that all have to hold."""
    todo, seen = [v], set[Value]()
    while todo:
        v = todo.pop()
        if v in seen:
            continue
        seen.add(v)
        if v.node is not None and v.node.op.name == "logical_and":
            todo += v.node.inputs[::-1]
        else:
            yield v


def _widened(v: Value) -> Value:
    """What an integer was before it became one of a wider type."""
    while v.node is not None and v.node.op.name == "cast" and v.dtype.kind == v.node.inputs[0].dtype.kind == "i":
        if v.node.inputs[0].dtype.bits > v.dtype.bits:
            break
        v = v.node.inputs[0]
    return v
