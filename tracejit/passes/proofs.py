"""Checks that cannot fail and choices that are known go: bounds of integers, followed through conditions and loops."""

from __future__ import annotations

from collections.abc import Sequence

from tracejit.intervals import Interval, all_of, fits, least_of, outcome
from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.ir.text import walk
from tracejit.passes.gains import most_steps, nothing_known, reach
from tracejit.tracing import constant

Implied = dict[Value, list[tuple[Value, Interval]]]
Path = tuple[tuple[Node, str], ...]  # from the outermost graph to a region: nodes, and which of their regions
_SAME = {"copy", "reshape", "broadcast_to", "transpose", "slice", "stop_gradient"}
_OPPOSITE = {"less": "greater_equal", "less_equal": "greater", "greater": "less_equal", "greater_equal": "less",
             "equal": "not_equal", "not_equal": "equal"}  # fmt: skip
_JOINING = ("logical_and", "logical_or")
SPLITS, PARTS = 4, 8  # bools with `or` for which it is asked whether one of their parts, at most so many, always holds
DEEP = 100  # steps from one bool to another that it is made of
NEAR = 64  # values that are looked at to answer that
_SWAPPED = {"greater": "less", "greater_equal": "less_equal"}


def proven(graph: Graph) -> Graph:
    """The graph without the checks, in it and in its regions, whose conditions always hold.

    Where a condition is known, `where` is the one of its operands that it gives.
    """
    if not any(n.op.name == "check" for g in walk(graph) for n in g.nodes):
        return graph
    proofs = Proofs()
    proofs.run(graph, Facts(), ())
    return _without(graph, (), proofs) if proofs.needless or proofs.chosen else graph


def _without(graph: Graph, path: Path, proofs: Proofs) -> Graph:
    b = Builder()
    env: dict[Value, Value] = {p: b.param(p.type) for p in graph.params}
    for n in graph.nodes:
        if (path, n) in proofs.needless:
            continue
        if (path, n) in proofs.chosen:
            env[n.out] = env[n.inputs[1 if proofs.chosen[path, n] else 2]]
            continue
        b.loc = n.loc
        attrs = tuple([(k, _without(g, (*path, (n, k)), proofs) if type(g) is Graph else g) for k, g in n.attrs])
        env.update(zip(n.outs, b.emit(n.op, tuple([env[v] for v in n.inputs]), attrs), strict=True))
    b.loc = None
    return b.finish(graph.name, [env[r] for r in graph.results])


class Facts:
    """What is known of the integers of one graph at one place in it, of each element of an array for itself.

    `implied` says what else is known where a bool, which a loop carries, is true.
    """

    def __init__(self, known: dict[Value, Interval] | None = None, implied: Implied | None = None) -> None:
        self.known = known or {}
        self.implied = implied or {}

    def copy(self) -> Facts:
        return Facts(dict(self.known), self.implied)

    def of(self, v: Value) -> Interval:
        return self.known.get(v) or all_of(v.dtype)

    def note(self, n: Node) -> None:
        """The bounds of a node's result."""
        v = n.outs[0] if n.outs else None
        if v is None or v.dtype.kind not in "iu":
            return
        found = self._found(n)
        if found is not None and fits(found, all_of(v.dtype)):
            self.known[v] = found

    def _found(self, n: Node) -> Interval | None:
        name = n.op.name
        if n.op is constant:
            c = n.attr("value")
            return (int(c.splat), int(c.splat)) if c.array is None else None
        if name == "dim":
            low, high = all_of(n.out.dtype)
            return least_of(n.attr("size"), low), high
        if name == "iota":
            size, most = n.out.shape[n.attr("axis")], all_of(n.out.dtype)[1]
            return 0, max(min(size - 1, most), 0) if type(size) is int else most
        if name == "where":
            return _joined(self.of(n.inputs[1]), self.of(n.inputs[2]))
        if not n.inputs or any(i.dtype.kind not in "biu" for i in n.inputs):
            return None
        given = [self.of(i) for i in n.inputs]
        if name == "shift_left" and given[1][0] < 0:  # which gives nothing but zeros
            return None
        return given[0] if name in _SAME else outcome(name, given)

    def assume(self, v: Value, holds: bool) -> None:
        """A bool is known: so are bounds of what was compared."""
        todo, seen = [(v, holds)], set[tuple[Value, bool]]()
        while todo:
            if (first := todo.pop()) not in seen:
                seen.add(first)
                todo += self._assumed(*first)[::-1]

    def _assumed(self, v: Value, holds: bool) -> list[tuple[Value, bool]]:
        """Which other bools are known with one."""
        if holds:
            for x, a in self.implied.get(v, ()):
                if x.shape == v.shape or not x.shape:
                    self._narrow(x, a)
        n = v.node
        if n is None:
            return []
        name = n.op.name
        if name == "logical_not":
            return [(n.inputs[0], not holds)]
        if name == ("logical_and" if holds else "logical_or"):
            return [(x, holds) for x in n.inputs]
        if name == "where" and holds and (n.inputs[2] is n.inputs[0] or _is_false(n.inputs[2])):
            return [(n.inputs[0], True), (n.inputs[1], True)]
        if name in _OPPOSITE and all(i.dtype.kind in "iu" for i in n.inputs):
            self._compared(name if holds else _OPPOSITE[name], *n.inputs)
        return []

    def _compared(self, name: str, x: Value, y: Value) -> None:
        if name in _SWAPPED:
            name, x, y = _SWAPPED[name], y, x
        a, b = self.of(x), self.of(y)
        if name == "equal":
            self._narrow(x, b)
            self._narrow(y, a)
        elif name in ("less", "less_equal"):
            gap = 1 if name == "less" else 0
            self._narrow(x, (a[0], b[1] - gap))
            self._narrow(y, (a[0] + gap, b[1]))

    def _narrow(self, v: Value, to: Interval) -> None:
        """A value lies between these bounds too; so does, moved along, what it was made of."""
        a = self.of(v)
        low, high = max(a[0], to[0]), min(a[1], to[1])
        while low <= high and (low, high) != a:  # what cannot be is not run
            self.known[v] = low, high
            n = v.node
            if n is not None and n.op.name in ("cast", "copy") and n.inputs[0].dtype.kind in "iu":
                if not fits(self.of(n.inputs[0]), all_of(v.dtype)):
                    return
            elif n is not None and n.op.name in ("add", "sub"):
                x, (least, most) = n.inputs[0], self.of(n.inputs[1])
                whole = outcome(n.op.name, [self.of(x), (least, most)])
                if least != most or whole is None or not fits(whole, all_of(v.dtype)):
                    return
                by = -least if n.op.name == "add" else least
                low, high = low + by, high + by
            else:
                return
            v, a = n.inputs[0], self.of(n.inputs[0])
            low, high = max(a[0], low), min(a[1], high)

    def fail(self, v: Value) -> bool:
        """Whether a bool is known to be false: that of a comparison of integers."""
        n = v.node
        if n is None or n.op.name not in _OPPOSITE or not all(i.dtype.kind in "iu" for i in n.inputs):
            return False
        return self._ordered(_OPPOSITE[n.op.name], *n.inputs)

    def hold(self, v: Value, known: Answers | None = None) -> bool:
        """Whether a bool is known to be true. `known`: what has been found of others, for the same facts."""
        known = Answers() if known is None else known
        if v not in known:
            known.depth += 1
            known[v] = v.node is not None and known.depth < DEEP and self._holds(v.node, known)
            known.depth -= 1
        return known[v]

    def _holds(self, n: Node, known: Answers) -> bool:
        name = n.op.name
        if name in _JOINING:
            parts = _parts(n.out, name)
            if name == "logical_and":
                return all(self.hold(x, known) for x in parts)
            return any(self.hold(x, known) for x in parts) or self._one_of(parts, known)
        if n.op is constant:
            c = n.attr("value")
            return c.array is None and bool(c.splat)
        if name == "reduce_all":
            return self.hold(n.inputs[0], known)
        if name == "less" and n.inputs[0].dtype.kind == "f":
            return self._in_range(*n.inputs)
        if name not in _OPPOSITE or not all(i.dtype.kind in "iu" for i in n.inputs):
            return False
        return self._ordered(name, *n.inputs)

    def _ordered(self, name: str, x: Value, y: Value) -> bool:
        if name in _SWAPPED:
            name, x, y = _SWAPPED[name], y, x
        a, b = self.of(x), self.of(y)
        if name == "less":
            return a[1] < b[0]
        if name == "less_equal":
            return a[1] <= b[0]
        return name == "not_equal" and (a[1] < b[0] or b[1] < a[0])

    def _in_range(self, x: Value, limit: Value) -> bool:
        """Whether a result, or its size, found in floating point from integers, is below a number."""
        n, c = x.node, limit.node
        if n is None or c is None or c.op is not constant or c.attr("value").array is not None:
            return False
        sized = n.op.name == "abs"
        made = n.inputs[0].node if sized else n
        if made is None or made.op.name not in ("add", "sub", "mul", "square"):
            return False
        casts = [v.node for v in made.inputs]
        if any(m is None or m.op.name != "cast" or m.inputs[0].dtype.kind not in "iu" for m in casts):
            return False
        found = outcome(made.op.name, [self.of(m.inputs[0]) for m in casts if m is not None])
        most = 0 if found is None else max(found[1], -found[0] if sized else 0)
        return found is not None and most * (1 + 2.0**-50) < c.attr("value").splat

    def _one_of(self, parts: Sequence[Value], known: Answers) -> bool:
        """Whether one of several bools holds wherever the others do not."""
        known.splits -= 1
        return known.splits >= 0 and len(parts) <= PARTS and any(self._unless(parts, x) for x in parts)

    def _unless(self, parts: Sequence[Value], x: Value) -> bool:
        here = self.copy()
        for y in parts:
            if y is not x and y.shape == x.shape:
                here.assume(y, False)
        here.renew([x], NEAR)
        return here.hold(x, Answers(splits=0))

    def renew(self, values: Sequence[Value], most: int | None = None) -> None:
        """Bounds of what values are made of, once more of what is known now; of so many of these at most."""
        for v in _made_of(values, most):
            if v.dtype.kind in "iu":
                before = self.of(v)
                assert v.node is not None
                self.note(v.node)
                now = self.of(v)
                self.known[v] = max(before[0], now[0]), min(before[1], now[1])


class Answers(dict[Value, bool]):
    """Which bools hold, for one state of what is known. Of so many more it is asked whether one of their parts does."""

    def __init__(self, splits: int = SPLITS) -> None:
        self.splits, self.depth = splits, 0


def _parts(v: Value, name: str) -> list[Value]:
    """What this operation joins, itself included where it is among the operands."""
    found, todo, seen = list[Value](), [v], {v}
    while todo:
        x = todo.pop()
        n = x.node
        if n is None or n.op.name != name:
            found.append(x)
            continue
        more = [y for y in dict.fromkeys(n.inputs[::-1]) if y not in seen]
        seen.update(more)
        todo += more
    return found


def _made_of(values: Sequence[Value], most: int | None) -> list[Value]:
    """Values and what they are computed from element by element, each once and after its operands."""
    near, seen = [v for v in dict.fromkeys(values) if _by_element(v)], set[Value]()
    for v in near:  # which gets longer
        if most is not None and len(seen) >= most:
            break
        if v not in seen:
            seen.add(v)
            near += [x for x in v.node.inputs if x.shape == v.shape and _by_element(x)]  # type: ignore[union-attr]
    found, todo = list[Value](), [(v, False) for v in values[::-1]]
    while todo:
        v, ready = todo.pop()
        if ready:
            found.append(v)
        elif v in seen:
            seen.remove(v)
            todo.append((v, True))
            todo += [(x, False) for x in v.node.inputs[::-1]]  # type: ignore[union-attr]
    return found


def _by_element(v: Value) -> bool:
    return v.node is not None and v.node.op.family == "elementwise"


class Proofs:
    """Goes through a graph as it runs.

    needless   the checks that hold, with the regions in which they stand
    chosen     the same for each `where` of which the condition is known, and what it is
    """

    def __init__(self) -> None:
        self.needless: set[tuple[Path, Node]] = set()
        self.chosen: dict[tuple[Path, Node], bool] = {}
        self.inside = Facts()  # what holds in every step of the loop that was looked at last

    def run(self, graph: Graph, facts: Facts, path: Path) -> list[Interval]:
        """The bounds of the results."""
        for n in graph.nodes:
            if n.op.name == "check":
                ok = n.inputs[0]
                (self.needless.add if facts.hold(ok) else self.needless.discard)((path, n))
                facts.assume(ok, True)
            elif n.op.name == "cond":
                self._branches(n, facts, path)
            elif n.op.name in ("while", "while_saving", "scan"):
                self._loop(n, facts, path)
            else:
                for k, g in n.attrs:
                    if type(g) is Graph:
                        self.run(g, Facts(), (*path, (n, k)))
                if n.op.name == "where":
                    self._choice(n, facts, path)
                self.seen(n, facts, path)
                facts.note(n)
        return [facts.of(r) for r in graph.results]

    def _choice(self, n: Node, facts: Facts, path: Path) -> None:
        self.chosen.pop((path, n), None)
        for i, known in ((1, facts.hold(n.inputs[0])), (2, facts.fail(n.inputs[0]))):
            if known and n.inputs[i].shape == n.out.shape:
                self.chosen[path, n] = i == 1

    def seen(self, n: Node, facts: Facts, path: Path) -> None:
        """Is told of each operation and what is known before it; in loops several times, the last of which is right."""

    def _branches(self, n: Node, facts: Facts, path: Path) -> None:
        ends = []
        for k, holds in (("then", True), ("orelse", False)):
            here = facts.copy()
            here.assume(n.inputs[0], holds)
            g: Graph = n.attr(k)
            given = [here.of(v) for v in n.inputs[1:]]
            ends.append(self.run(g, _entered(g.params, given), (*path, (n, k))))
        for v, a, b in zip(n.outs, *ends, strict=True):
            _set(facts, v, _joined(a, b))

    def _loop(self, n: Node, facts: Facts, path: Path) -> None:
        """Bounds of the states that the steps keep, wherever within them a step begins: widened, then drawn in."""
        k = n.attr("n")
        given = [facts.of(v) for v in n.inputs]
        rest = given[k:]
        steps = most_steps(n, nothing_known)
        types = [reach(n, i, given[i], steps, nothing_known) for i in range(k)]
        flags = [i for i in range(k) if n.outs[i].dtype.kind == "b"]
        first = [given[:k]] * (1 + len(flags))  # of the states; of the states while one of the bools is true
        at = first
        while True:
            ends = _clipped(self._stepped(n, at, rest, flags, path), types)
            pairs = zip(at, ends, strict=True)
            wider = [[_widened(a, b, t) for a, b, t in zip(*x, types, strict=False)] for x in pairs]
            if wider == at:
                break
            at = wider
        for _ in range(2):
            trial = [[_joined(a, b) for a, b in zip(*x, strict=False)] for x in zip(first, ends, strict=True)]
            if trial == at:
                break
            ends = _clipped(self._stepped(n, trial, rest, flags, path), types)
            if not all(fits(b, a) for x in zip(trial, ends, strict=True) for a, b in zip(*x, strict=False)):
                self._stepped(n, at, rest, flags, path)
                break
            at = trial
        at = self._bounded(n, at, given, flags, path)
        for v, a in zip(n.outs[:k], at[0], strict=True):
            _set(facts, v, a)

    def _bounded(
        self, n: Node, at: list[list[Interval]], given: list[Interval], flags: list[int], path: Path
    ) -> list[list[Interval]]:
        """Narrower bounds of states to which each step adds a number, from those of the number and of a counter."""
        known = self.inside.known.get
        steps = most_steps(n, known)
        limits = [reach(n, i, given[i], steps, known) for i in range(len(at[0]))]
        new = _clipped(at, limits)
        if new != at:
            self._stepped(n, new, given[len(at[0]) :], flags, path)
        return new

    def _stepped(
        self, n: Node, at: list[list[Interval]], rest: list[Interval], flags: list[int], path: Path
    ) -> list[list[Interval]]:
        """Bounds after a step that begins within these."""
        here = [*at[0], *rest]
        body: Graph = n.attr("body")
        if n.op.name != "scan":
            cond: Graph = n.attr("cond")
            tested = _entered(cond.params, here)
            self.run(cond, tested, (*path, (n, "cond")))
            tested.assume(cond.results[0], True)
            here = [tested.of(p) for p in cond.params]
        inside = _entered(body.params, here)
        inside.implied = {body.params[i]: list(zip(body.params, a, strict=False)) for i, a in zip(flags, at[1:])}
        ends = self.run(body, inside, (*path, (n, "body")))
        self.inside = inside
        k = len(at[0])
        return [ends[:k], *[self._if_true(body, i, inside)[:k] for i in flags]]

    @staticmethod
    def _if_true(body: Graph, i: int, facts: Facts) -> list[Interval]:
        """Bounds of the next states, where that of number i is true."""
        at = facts.copy()
        at.assume(body.results[i], True)
        at.renew(body.results)
        at.assume(body.results[i], True)
        return [at.of(r) for r in body.results]


def _clipped(ends: list[list[Interval]], to: list[Interval]) -> list[list[Interval]]:
    """Bounds within those that are known to hold."""
    return [[(max(a[0], t[0]), min(a[1], t[1])) for a, t in zip(x, to, strict=True)] for x in ends]


def _widened(a: Interval, b: Interval, whole: Interval) -> Interval:
    """Bounds that hold for a stay if they hold for b too, else there are none but the type's."""
    return a[0] if a[0] <= b[0] else whole[0], a[1] if b[1] <= a[1] else whole[1]


def _joined(a: Interval, b: Interval) -> Interval:
    return min(a[0], b[0]), max(a[1], b[1])


def _entered(params: Sequence[Value], given: Sequence[Interval]) -> Facts:
    facts = Facts()
    for p, a in zip(params, given, strict=True):
        _set(facts, p, a)
    return facts


def _set(facts: Facts, v: Value, a: Interval) -> None:
    if v.dtype.kind in "iu":
        facts.known[v] = a


def _is_false(v: Value) -> bool:
    n = v.node
    return n is not None and n.op is constant and n.attr("value").array is None and not n.attr("value").splat
