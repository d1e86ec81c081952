"""Rebuild a graph: every node is born again, equal ones become one, constants fold, rules fire, dead ones go."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.errors import Location
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Attrs, Builder, Const, Graph, Node, Value
from tracejit.ir.op import Op
from tracejit.ir.sizes import product
from tracejit.ir.types import TensorType, as_dtype
from tracejit.passes.match import DEFAULT, Level, RuleSet, const_of, level
from tracejit.passes.movement import MOVEMENT
from tracejit.passes.neighbours import NEIGHBOURS
from tracejit.passes.rules import PATTERNS
from tracejit.tracing import constant

FOLD_LIMIT = 65536  # elements of operands and result up to which constants are computed while compiling
RULES = [*PATTERNS, *MOVEMENT, *NEIGHBOURS]
_FOLDED = {"elementwise", "reduce", "shape", "contract", "index", "opaque"}


@functools.cache
def rules_at(numerics: str | Level = DEFAULT, late: bool = True) -> RuleSet:
    """The rules that keep results as exact as `numerics` says; without `late`, those that keep gradients too."""
    return RuleSet(RULES, level(numerics), late)


class Report:
    """What was done to a graph, for `explain`: how often each thing happened, and at which lines of the user's code."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self.places: dict[tuple[str, str], dict[str, None]] = {}

    def merge(self, name: str, first: Location | None, second: Location | None) -> None:
        """An operation that is computed already, at an earlier line perhaps."""
        self.note("merged", name)
        if second is not None:
            where = f"{second} is that of {first}" if first is not None and str(first) != str(second) else str(second)
            self.places.setdefault(("merged", name), {})[where] = None

    def note(self, kind: str, name: str, loc: Location | None = None, times: int = 1) -> None:
        """`kind` is merged, folded, rewritten or kept."""
        key = (kind, name)
        self.counts[key] = self.counts.get(key, 0) + times
        if loc is not None:
            self.places.setdefault(key, {})[str(loc)] = None

    def count(self, kind: str) -> int:
        return sum(n for (k, _), n in self.counts.items() if k == kind)

    def rows(self) -> list[tuple[str, str, int, list[str]]]:
        """(kind, name, how often, where) for each thing done, the most frequent first."""
        order = sorted(self.counts.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
        return [(*key, n, list(self.places.get(key, ()))) for key, n in order]

    def lines(self) -> list[str]:
        """One line for each thing done: `rewritten  x · 1  ×3   (step.py:14, step.py:15)`."""
        out = []
        for kind, name, n, where in self.rows():
            shown = f"   ({', '.join(where[:3])}{', …' if len(where) > 3 else ''})" if where else ""
            out.append(f"{kind:<9}  {name}  ×{n}{shown}")
        return out

    def __str__(self) -> str:
        return "\n".join(self.lines())


class Simplifier:
    """What a Builder asks as each node is born: fold it, order its operands, rewrite it; or let it be."""

    def __init__(self, rules: RuleSet | None, fold: bool = True, report: Report | None = None) -> None:
        self.rules, self.fold, self.report = rules, fold, report or Report()

    def __call__(self, b: Builder, op: Op, inputs: tuple[Value, ...], attrs: Attrs) -> tuple[Value, ...] | None:
        if not op.pure:
            return None
        if not inputs or op.name == "cast":
            # a Python scalar's weakness decided dtypes while tracing and means nothing from here on
            strong = tuple([kv for kv in attrs if kv[0] != "weak"])
            if len(strong) != len(attrs):
                return b.emit(op, inputs, strong)
            if op is constant and attrs[0][1].owner is not None:
                return b.emit(op, inputs, (("value", attrs[0][1].without_owner()),))
            if not inputs:
                return None
        if self.fold and all(v.node is not None and v.node.op is constant for v in inputs):
            c = fold(op, inputs, attrs)
            if c is not None:
                self.report.note("folded", op.name, b.loc)
                return b.emit(constant, (), (("value", c),))
        if self.rules is None:
            return None
        if self.rules.commutes(op):
            swapped = self._ordered(b, op, inputs, attrs)
            if swapped is not None:
                return swapped
        hit = self.rules.apply(b, op, inputs, attrs)
        if hit is None:
            return None
        self.report.note("rewritten", hit[0], b.loc)
        return (hit[1],)

    def _ordered(self, b: Builder, op: Op, inputs: tuple[Value, ...], attrs: Attrs) -> tuple[Value, ...] | None:
        """The node with its operands swapped if that exists already, or if it brings a constant to the right."""
        x, y = inputs
        found = b.table.get((op, (y, x), attrs))
        if found is not None:
            self.report.merge(op.name, found[0].node.loc if found[0].node else None, b.loc)
            return found
        return b.emit(op, (y, x), attrs) if const_of(x) is not None and const_of(y) is None else None


def fold(op: Op, inputs: tuple[Value, ...], attrs: Attrs) -> Const | None:
    """The result for constant operands; None where computing it now is not wanted: it is large, or not a plain array.

    A repeated value stays one value, whatever its shape.
    """
    if op.family not in _FOLDED or "random" in op.special:
        return None
    consts = [v.node.attrs[0][1] for v in inputs]  # type: ignore[union-attr]
    named = dict(attrs)
    t = op.infer(*[v.type for v in inputs], **named)
    if type(t) is tuple:
        return None
    if all(c.array is None for c in consts):
        if op.family == "elementwise":
            return _checked(_compute(op, [np.asarray(c.splat) for c in consts], named), t, splat=True)
        if op.family == "shape" and op.name != "place" and len({c.key[2] for c in consts}) == 1:
            return Const(None, consts[0].splat, t.shape, t.dtype)
    shapes = [t.shape, *[c.shape for c in consts]]
    if op.name == "broadcast_to" or any(isinstance(d, Dim) for s in shapes for d in s):
        return None
    if any(product(s) > FOLD_LIMIT for s in shapes):
        return None
    return _checked(_compute(op, [c.numpy() for c in consts], named), t)


def _compute(op: Op, arrays: list[np.ndarray], attrs: dict[str, Any]) -> np.ndarray | None:
    try:
        with np.errstate(all="ignore"):
            return np.asarray(op.numpy(*arrays, **attrs))
    except (ArithmeticError, ValueError, TypeError, IndexError):
        return None  # the same fault will show when the program runs


def _checked(a: np.ndarray | None, t: TensorType, splat: bool = False) -> Const | None:
    if a is None or as_dtype(a.dtype) is not t.dtype:
        return None
    if splat:
        return Const(None, a[()], t.shape, t.dtype)
    return Const(np.asarray(a, order="C")) if a.shape == t.shape else None


Visit = Callable[[Builder, Node, tuple[Value, ...]], "tuple[Value, ...] | None"]


def rebuild(
    graph: Graph,
    visit: Visit | None = None,
    rules: RuleSet | None = None,
    fold: bool = True,
    report: Report | None = None,
) -> Graph:
    """The graph emitted again into a fresh Builder, node by node, each with the user's line that it had.

    Parameters
    ----------
    visit : may give other results for a node, from `(builder, node, its operands there)`; None leaves the node as it is
    rules : what rewrites nodes as they are born; None only merges equal ones
    fold : compute what depends on constants only
    report : is told what was done

    Equal pure nodes become one, and what no result or effect needs is left out. Regions are rebuilt the same way.
    """
    report = report if report is not None else Report()
    b = Builder(Simplifier(rules, fold, report))
    env = {p: b.param(p.type.strong()) for p in graph.params}
    for n in graph.nodes:
        b.loc = n.loc
        inputs = tuple([env[v] for v in n.inputs])
        outs = visit(b, n, inputs) if visit is not None else None
        if outs is None:
            attrs = n.attrs
            if any(type(v) is Graph for _, v in attrs):
                again = functools.partial(rebuild, visit=visit, rules=rules, fold=fold, report=report)
                attrs = tuple([(k, again(v) if type(v) is Graph else v) for k, v in attrs])
            if n.pure and n.op is not constant and (n.op, inputs, attrs) in b.table:
                first = b.table[(n.op, inputs, attrs)][0].node
                report.merge(n.op.name, first.loc if first else None, n.loc)
            outs = b.emit(n.op, inputs, attrs)
        env.update(zip(n.outs, outs, strict=True))
    b.loc = None
    return b.finish(graph.name, [env[r] for r in graph.results])


def dce(graph: Graph) -> Graph:
    """The graph without the nodes that no result or effect needs; the others stay the same objects."""
    live = {n for n in graph.nodes if not n.pure}
    wanted = set(graph.results) | {v for n in live for v in n.inputs}
    nodes = []
    for n in reversed(graph.nodes):
        if n in live or not wanted.isdisjoint(n.outs):
            nodes.append(n)
            wanted.update(n.inputs)
    return Graph(graph.name, graph.params, nodes[::-1], graph.results)


def uses(graph: Graph) -> dict[Value, int]:
    """How often each value is read, by nodes and as a result, those of regions included."""
    count: dict[Value, int] = {}
    for v in [v for n in graph.nodes for v in n.inputs] + list(graph.results):
        count[v] = count.get(v, 0) + 1
    for n in graph.nodes:
        for _, v in n.attrs:
            if type(v) is Graph:
                count.update(uses(v))
    return count
