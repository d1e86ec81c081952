"""Control flow among single elements as one native function: loops and branches whose values stay in registers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.ir.dim import Dim
from tracejit.ir.found import symbols_in
from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.text import number, show_node, walk
from tracejit.ir.types import int64
from tracejit.lower import checked, periods
from tracejit.lower.counted import Counted
from tracejit.lower.elements import Elements, View, picks, plain
from tracejit.lower.inplace import PICKS, Written, operand, puts
from tracejit.lower.llvm import Fn, Module, Val, const, i64
from tracejit.lower.ranges import Ranges
from tracejit.lower.scalar import S
from tracejit.lower.scalarmath import LLVMScalar
from tracejit.passes.proofs import Path
from tracejit.tracing import constant

_LOOPS = ("cond", "while", "scan")
LARGE = 400  # operations that LLVM's pipeline takes too long for


# --- what fits --------------------------------------------------------------------------------------------------------
def fits(n: Node, told: set[str] | frozenset[str] = frozenset()) -> bool:
    """Whether a node of control flow computes with single elements only, by operations with a scalar form.

    They may be elements of arrays that it reads; of those that it carries or stacks, each step may write some, in
    branches and loops of its own too. `told` are the found sizes that are known when the program is bound.
    """
    if n.op.name not in _LOOPS or any(symbols_in(tuple(v.shape)) - told for v in n.outs):
        return False
    k = n.attr("n") if n.op.name != "cond" else 0
    written: Written = set()
    for i, v in enumerate(n.outs[:k]):
        if v.shape:
            found = puts(n.attr("body"), i)
            if found is None:
                return False
            written |= {*found, v}
    rest = n.outs[k:]
    if any(v.shape and (n.op.name == "cond" or len(v.shape) != 1) for v in rest):
        return False
    return _control(n, {v for v in n.inputs if v.shape}, {*written, *rest})


def _control(n: Node, dense: set[Value], written: Written) -> bool:
    if not all(map(plain, (*n.inputs, *n.outs))) or any(v.shape and v not in written for v in n.outs):
        return False
    for g in _regions(n):
        given = n.inputs[1:] if n.op.name == "cond" else n.inputs
        inner = {p for p, v in zip(g.params, given) if v in dense and p.shape}
        if not all(map(plain, g.params)) or not all(_step(x, inner, written) for x in g.nodes):
            return False
    dense.update(v for v in n.outs if v.shape)
    return True


def _step(n: Node, dense: set[Value], written: Written) -> bool:
    """Whether a node of a region has a form in registers."""
    if n.op is constant:
        return n.attr("value").array is None and not n.out.shape and plain(n.out)
    if n.op.name == "check":
        return all(plain(v) and not v.shape for v in n.inputs)
    if n.op.name in _LOOPS:
        return _control(n, dense, written)
    if not n.pure or not all(map(plain, (*n.inputs, *n.outs))):
        return False
    if n in written or n.op.name in ("put", "update"):
        dense.add(n.out)
        return n in written
    if n.op.name in PICKS:
        return picks(n, dense)
    if n.op.name == "dim":
        return True
    return n.op.family == "elementwise" and n.op.scalar is not None and not any(v.shape for v in (*n.inputs, n.out))


def _regions(n: Node) -> list[Graph]:
    return [g for _, g in n.attrs if type(g) is Graph]


def checks(n: Node) -> list[Node]:
    """The checks in the regions of a node, by whose places in this list the function tells which one has failed."""
    return [x for x in _inside(n) if x.op.name == "check"]


def sizes(n: Node) -> list[Dim]:
    """The symbolic sizes that the function has to know: not how many rows a scan's operands have, but its length."""
    found: dict[str, Dim] = {}

    def note(x: Any) -> None:
        if isinstance(x, Dim):
            found.setdefault(str(x), x)
        elif isinstance(x, tuple):
            for y in x:
                note(y)

    def visit(x: Node) -> None:
        picked = x.op.name in (*PICKS, "put", "update")
        for v in (*x.inputs, *x.outs):
            note(tuple(v.shape[0 if picked else 1 :]))
        for _, a in x.attrs if x.op.name != "check" else ():
            if type(a) is Graph:
                for y in a.nodes:
                    visit(y)
            else:
                note(a)

    visit(n)
    return list(found.values())


# --- its identity -----------------------------------------------------------------------------------------------------
def text(n: Node) -> str:
    """What identifies the function: the node and its regions, without lines of the user's code."""
    g = Graph("", [], [n], [])
    given = [_form(v) if (c := _known(v)) is None else f"{_form(v)} {c.tobytes().hex()}" for v in n.inputs]
    return "\n".join(["region", *_lines(g), *given])


def _known(v: Value) -> np.ndarray | None:
    """The number that an operand always is, which then is part of the code."""
    while v.node is not None and v.node.op.name == "copy":
        v = v.node.inputs[0]
    if v.shape or v.node is None or v.node.op is not constant or v.node.attr("value").array is not None:
        return None
    return np.asarray(v.node.attr("value").splat, v.dtype.np)


def pipeline_level(n: Node) -> int:
    """The level of LLVM's pipeline that pays for a function.

    2 where steps of a loop take so short that what is around their arithmetic counts; 1 where loops go over arrays:
    what a step has stored stays in a register for the next, and steps that do not need each other become vectors.
    """
    inner = _inside(n)
    loops = [x for x in (n, *inner) if x.op.name in ("while", "scan")]
    if len(inner) > LARGE or not loops:
        return 0
    return 2 if any(periods.quick(x) for x in loops) else 1 if any(v.shape for v in (*n.inputs, *n.outs)) else 0


def _inside(n: Node) -> list[Node]:
    return [x for g in _regions(n) for r in walk(g) for x in r.nodes]


def ends_early(n: Node) -> bool:
    """Whether a loop ends as soon as its states repeat."""
    return periods.of(n) is not None


def _form(v: Value) -> str:
    return f"{v.dtype.short}[{', '.join(map(str, v.shape))}]" if v.shape else v.dtype.short


def _lines(g: Graph) -> list[str]:
    names = number(g)
    out = [", ".join(f"{names[p]}:{_form(p)}" for p in g.params)]
    for n in g.nodes:
        if n.op.name == "check":  # what it says is no part of the function
            out.append("check " + ", ".join(names[v] for v in n.inputs))
            continue
        out.append(show_node(n, names))
        if (repeats := periods.of(n)) is not None:
            out.append(repeats.text())
        for _, v in n.attrs:
            if type(v) is Graph:
                out += ["  " + line for line in _lines(v)]
    return [*out, ", ".join(names[r] for r in g.results)]


# --- its code ---------------------------------------------------------------------------------------------------------
def emit(module: Module, name: str, node: Node) -> None:
    """`void name(ptr frame, ptr idx, i64 lo, i64 hi)`: idx: operands, results, sizes; with checks, `failed` and `why`.

    The bool at `failed` says whether a check did; then `why` holds its place among the checks and its operands, each in
    eight bytes, and the results have no meaning. Arrays that are carried lie in the results already.
    """
    f = module.function(name, [("frame", "ptr"), ("idx", "ptr"), ("lo", "i64"), ("hi", "i64")])
    f.branchless = True  # data tell what is selected: a branch would often be guessed wrong
    frame, idx = f.args[:2]
    m = LLVMScalar(f, 1)
    slots = 0

    def slot() -> Val:
        nonlocal slots
        slots += 1
        return f.gep(frame, f.cast("zext", f.load("i32", f.gep(idx, 4 * (slots - 1))), "i64"), "i64")

    pointers = [f.load("ptr", slot()) for _ in (*node.inputs, *node.outs)]
    known = {str(d): f.load("i64", slot()) for d in sizes(node)}
    found = checks(node)
    failed, why = [f.load("ptr", slot()) for _ in range(2)] if found else (None, None)
    numbers = {v: int(c) for v in node.inputs if v.dtype.kind in "iu" and (c := _known(v)) is not None}
    ranges = Ranges(node, {v: (c, c) for v, c in numbers.items()})
    w = _Writer(f, m, known, {c: i for i, c in enumerate(found)}, failed, why, ranges)
    k = len(node.inputs)
    carried = node.attr("n") if node.op.name != "cond" else 0
    places = [*pointers[k : k + carried], *pointers[carried:k]]
    args: list[Any] = []
    for v, p, place in zip(node.inputs, pointers, places, strict=False):
        fixed = _known(v)
        if fixed is not None:
            args.append(m.const(fixed.item(), v.dtype))
        else:
            args.append(w.elements.whole(place, v) if v.shape else m.load(p, v.dtype, None))
    stacked = [w.elements.whole(p, v) for p, v in list(zip(pointers[k:], node.outs, strict=True))[carried:] if v.shape]
    for x, p in zip(w.control(node, args, stacked), pointers[k:], strict=False):
        if isinstance(x, S):
            m.store(x, p, None)
    if failed is not None:
        f.store(const("i8", 0), failed)
    f.ret_()


class _Writer:
    def __init__(
        self, f: Fn, m: LLVMScalar, known: dict[str, Val], numbers: dict[Node, int], failed: Val | None,
        why: Val | None, ranges: Ranges,
    ) -> None:  # fmt: skip
        self.f, self.m, self.known = f, m, known
        self.numbers, self.failed, self.why = numbers, failed, why
        self.ranges = ranges
        self.path: Path = ()  # where the region stands that is being written
        self.counted: Counted | None = None  # of the loop in the form for which that holds
        self.elements = Elements(f, m, self.size)

    def size(self, d: int | Dim) -> Any:
        return self.known.get(str(d)) if isinstance(d, Dim) else i64(d)  # None: nothing depends on it

    def region(self, owner: Node, name: str, args: Sequence[Any]) -> list[Any]:
        env = self.values(owner, name, args)
        return [env[r] for r in owner.attr(name).results]

    def values(self, owner: Node, name: str, args: Sequence[Any]) -> dict[Value, Any]:
        """All values of a region."""
        g: Graph = owner.attr(name)
        outer, self.path = self.path, (*self.path, (owner, name))
        env: dict[Value, Any] = dict(zip(g.params, args, strict=True))
        counted = self.counted if self.counted is not None and self.counted.node is owner and name == "body" else None
        tested: set[Node] = set()  # checks that the branch of another one before them sees to
        exact: dict[Value, int] = {}  # floats whose whole parts are integers of so many bits
        for k, n in enumerate(g.nodes):
            xs = [env[v] for v in n.inputs]
            moves = counted is not None and n.op.name in ("gather", "put") and isinstance(xs[0], View)
            place = counted.place(n.inputs[1], env) if counted is not None and moves else None
            if n.op is constant:
                env[n.out] = self.m.const(n.attr("value").splat.item(), n.out.dtype)
            elif n.op.name == "check":
                if n not in tested:
                    tested |= self.checks(checked.run_of(g.nodes, k), env, exact)
            elif place is not None and n.op.name == "gather":
                env[n.out] = self.elements.at(xs[0], n.attr("axis"), place.v)
            elif place is not None:
                self.elements.store(xs[2], xs[0], place.v)
                env[n.out] = xs[0]
            elif n.op.name in _LOOPS:
                env.update(zip(n.outs, self.control(n, xs), strict=True))
            elif n.op.name == "put":
                env[n.out] = self.elements.put(xs[0], xs[1], xs[2], self.ranges.place(self.path, n))
            elif n.op.name == "update":
                env[n.out] = self.elements.update(xs[0], xs[1], n.attr("start"))
            elif n.op.name == "copy" and isinstance(xs[0], View):
                env[n.out] = xs[0]
            elif n.op.name in PICKS:
                env[n.out] = self.elements.pick(n, xs[0], xs[1:], self.ranges.place(self.path, n))
            elif n.op.name == "cast" and n.out.dtype is int64 and exact.get(n.inputs[0]) == 64:
                env[n.out] = S(self.f.cast("fptosi", xs[0].v, "i64"), int64)
            elif n.op.name == "dim":
                env[n.out] = self.m.cast(S(self.size(n.attr("size")), int64), n.out.dtype)
            else:
                made = self.ranges.divided(self.m, n, self.path, xs)
                env[n.out] = n.op.scalar(self.m, *xs, **dict(n.attrs)) if made is None else made  # type: ignore[misc]
        self.path = outer
        return env

    def checks(self, run: Sequence[Node], env: dict[Value, Any], exact: dict[Value, int]) -> set[Node]:
        """Leave the function if one of several conditions is false; the first that is says why."""
        f = self.f
        wanted = [n for n in run if self.counted is None or n not in self.counted.spared]
        tests = [checked.test(f, n.inputs[0], env) for n in checked.needed(wanted)]
        if len(tests) == 1 and len(wanted) == 1:
            self.check(wanted[0], tests[0], [env[v] for v in wanted[0].inputs[1:]])
        elif tests:
            every = functools.reduce(f.and_, tests)
            on, off = f.fresh("hold"), f.fresh("fail")
            f.br_if(every, on, off)
            f.label(off)
            f.scopes.append({})
            for n in wanted:
                self.check(n, env[n.inputs[0]].v, [env[v] for v in n.inputs[1:]])
            f.scopes.pop()
            f.br(on)
            f.label(on)
        for n in wanted:
            x = checked.limited_by(n.inputs[0])
            if x is not None and checked.fits(n.inputs[0], 64):
                exact[x] = 64
        return set(run)

    def check(self, n: Node, holds: Val, xs: Sequence[S]) -> None:
        """Leave the function if the condition is false."""
        f = self.f
        assert self.failed is not None and self.why is not None
        on, off = f.fresh("holds"), f.fresh("fails")
        f.br_if(holds, on, off)
        f.label(off)
        f.scopes.append({})
        f.store(const("i8", 1), self.failed)
        f.store(i64(self.numbers[n]), self.why)
        for i, x in enumerate(xs):
            self.m.store(x, f.gep(self.why, 8 * (1 + i)), None)
        f.scopes.pop()
        f.ret_()
        f.label(on)

    def control(self, n: Node, xs: Sequence[Any], stacked: Sequence[View] = ()) -> list[Any]:
        f = self.f
        if n.op.name == "cond":
            got = iter(
                f.if_(
                    xs[0].v,
                    lambda: _numbers(self.region(n, "then", xs[1:])),
                    lambda: _numbers(self.region(n, "orelse", xs[1:])),
                )
            )
            places: dict[Value | None, Any] = dict(zip(n.inputs, xs, strict=True))  # where branches write to arrays
            return [places[operand(n, k)] if o.shape else S(next(got), o.dtype) for k, o in enumerate(n.outs)]
        if (repeats := periods.of(n)) is not None:
            return self._repeating(n, repeats, xs)
        counted = Counted(f, self.m, n, xs, self.size)
        if counted.sure is None:
            return self._stepping(n, xs, stacked)
        outer, self.counted = self.counted, counted
        arrays: list[Any] = []

        def as_counted() -> list[Val]:
            arrays[:] = self._stepping(n, xs, stacked)
            self.counted = outer
            return _numbers(arrays)

        got = iter(f.if_(counted.sure, as_counted, lambda: _numbers(self._stepping(n, xs, stacked))))
        return [S(next(got), x.dtype) if isinstance(x, S) else x for x in arrays]

    def _stepping(self, n: Node, xs: Sequence[Any], stacked: Sequence[View]) -> list[Any]:
        """A loop step by step."""
        f = self.f
        first = list(xs[: n.attr("n")])

        def states(vs: Sequence[Val]) -> list[Any]:
            """Numbers are carried in registers, arrays stay where they are."""
            it = iter(vs)
            return [S(next(it), x.dtype) if isinstance(x, S) else x for x in first]

        start = [x.v for x in first if isinstance(x, S)]
        if n.op.name == "while":
            got = f.while_(
                start,
                lambda *vs: self.region(n, "cond", [*states(vs), *xs[len(first) :]])[0].v,
                lambda *vs: _numbers(self.region(n, "body", [*states(vs), *xs[len(first) :]])),
            )
        else:
            got = f.loop(i64(0), self.size(n.attr("length")), self._row(n, xs, states, stacked), start)
        return states(got)

    def _repeating(self, n: Node, p: periods.Periods, xs: Sequence[S]) -> list[S]:
        """A loop that leaves out whole periods once its states repeat. Those of a scan are counted here."""
        k = n.attr("n")
        counted = n.op.name == "scan"
        first = [*xs[:k], S(i64(0), int64)] if counted else list(xs[:k])
        watch = periods.Watch(self.f, self.m, p, first)
        limits: list[S] = []

        def states(vs: Sequence[Val]) -> list[S]:
            return [S(v, x.dtype) for v, x in zip(vs, first, strict=False)]

        def go_on(*vs: Val) -> Val:
            if counted:
                limits.append(S(self.size(n.attr("length")), int64))
                return self.f.cmp("slt", vs[k], limits[0].v)
            cond: Graph = n.attr("cond")
            env = self.values(n, "cond", [*states(vs), *xs[k:]])
            limits.extend(env[b.limit] for b in p.bounds if b.limit is not None)
            return env[cond.results[0]].v  # type: ignore[no-any-return]

        def step(*vs: Val) -> list[Val]:
            new = self.region(n, "body", [*states(vs)[:k], *xs[k:]])
            new += [S(self.f.add(vs[k], i64(1)), int64)] if counted else []
            new, left = watch.after(new, vs[-1], limits)
            return [*[s.v for s in new], left]

        return states(self.f.while_([*[s.v for s in first], watch.start], go_on, step))[:k]

    def _row(self, n: Node, xs: Sequence[Any], states: Any, stacked: Sequence[View]) -> Any:
        """A step of a scan: it reads rows, and writes to what is stacked."""
        k, m = n.attr("n"), n.attr("m")

        def step(i: Val, *vs: Val) -> list[Val]:
            f = self.f
            at = f.sub(f.add(self.size(n.attr("length")), i64(-1)), i) if n.attr("reverse") else i
            rows = [self.elements.at(x, 0, at) for x in xs[k : k + m]]
            out = self.region(n, "body", [*states(vs), *rows, *xs[k + m :]])
            for s, x in zip(out[k:], stacked, strict=True):
                self.elements.store(s, x, at)
            return _numbers(out[:k])

        return step


def _numbers(xs: Sequence[Any]) -> list[Val]:
    return [x.v for x in xs if isinstance(x, S)]
