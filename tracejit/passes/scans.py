"""Loops made anew by passes: other operands and results around the same steps, and without what nobody reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tracejit.ir.found import symbols_in, symbols_of, tellers_of, told_by
from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.ir.op import OPS
from tracejit.ir.sizes import hint, product

LOOPS = ("while", "while_saving", "scan")


@dataclass(frozen=True)
class Loop:
    """A node of a loop: its body's parameters and results by their meaning, and where its stacked results begin."""

    node: Node
    body: Graph
    n: int
    m: int

    @property
    def states(self) -> tuple[Value, ...]:
        return self.body.params[: self.n]

    @property
    def rows(self) -> tuple[Value, ...]:
        return self.body.params[self.n : self.n + self.m]

    @property
    def captured(self) -> tuple[Value, ...]:
        return self.body.params[self.n + self.m :]

    @property
    def made(self) -> tuple[Value, ...]:
        """What each step adds to the stacked results."""
        return self.body.results[self.n :]

    @property
    def first(self) -> int:
        """The number of the first stacked result: a loop with a condition gives its number of steps before them."""
        return self.n + (self.node.op.name == "while_saving")

    @property
    def length(self) -> Any:
        return self.node.attr("steps" if self.node.op.name == "while_saving" else "length")

    def operand(self, p: Value) -> Value:
        """What is passed for a parameter of the body."""
        return self.node.inputs[self.body.params.index(p)]


def loop_of(n: Node) -> Loop | None:
    """The loop that a node is."""
    if n.op.name not in LOOPS:
        return None
    return Loop(n, n.attr("body"), n.attr("n"), n.attr("m") if n.op.name == "scan" else 0)


def regraph(g: Graph, params: Iterable[Value], results: Sequence[Value]) -> Graph:
    """The part of a graph that computes `results`, and its effects, from values of it that are parameters now."""
    b = Builder()
    env = {p: b.param(p.type) for p in params}
    for n in g.nodes:
        if all(v in env for v in n.outs) and (n.outs or n.pure):
            continue
        if all(v in env for v in n.inputs):  # what needs a parameter that is gone is not needed itself
            b.loc = n.loc
            for old, new in zip(n.outs, b.emit(n.op, tuple([env[v] for v in n.inputs]), n.attrs), strict=True):
                env.setdefault(old, new)
    b.loc = None
    return b.finish(g.name, [env[r] for r in results])


def inlined(b: Builder, g: Graph, args: Sequence[Value]) -> tuple[Value, ...]:
    """The nodes of a graph emitted again, for the builder's line; its results there."""
    env = dict(zip(g.params, args, strict=True))
    for n in g.nodes:
        env.update(zip(n.outs, b.emit(n.op, tuple([env[v] for v in n.inputs]), n.attrs), strict=True))
    return tuple([env[r] for r in g.results])


def emit_scan(
    b: Builder, like: Node, states: Sequence[Value], rows: Sequence[Value], captured: Sequence[Value], body: Graph
) -> tuple[Value, ...]:
    """A scan with the length and the direction of another."""
    attrs = dict(like.attrs)
    attrs.update(body=body, n=len(states), m=len(rows))
    return b.emit(OPS["scan"], (*states, *rows, *captured), tuple(sorted(attrs.items())))


def found_sizes(graph: Graph) -> set[str]:
    """The sizes that the program finds out: what has them is made ready only when they are known."""
    return set(tellers_of(graph))


def nbytes(v: Value) -> int:
    return hint(product(v.shape)) * v.dtype.size


Visit = Callable[[Builder, Node, "dict[Value, Value]"], "tuple[Value, ...] | None"]


def renewed(graph: Graph, visit: Visit) -> Graph:
    """The graph emitted again with other results for some nodes; `visit` sees the values there for those of before."""
    b = Builder()
    env: dict[Value, Value] = {p: b.param(p.type) for p in graph.params}
    for n in graph.nodes:
        b.loc = n.loc
        outs = visit(b, n, env)
        if outs is None:
            outs = b.emit(n.op, tuple([env[v] for v in n.inputs]), n.attrs)
        env.update(zip(n.outs, outs, strict=False))
    b.loc = None
    return b.finish(graph.name, [env[r] for r in graph.results])


def within(graph: Graph, change: Callable[[Graph], Graph]) -> Graph:
    """The graph with its regions changed; the same object where none is."""
    new: dict[Node, Any] = {}
    for n in graph.nodes:
        if any(type(v) is Graph for _, v in n.attrs):
            attrs = tuple([(k, change(v) if type(v) is Graph else v) for k, v in n.attrs])
            if any(v is not w for (_, v), (_, w) in zip(attrs, n.attrs, strict=True)):
                new[n] = attrs
    if not new:
        return graph
    return renewed(
        graph, lambda b, n, env: b.emit(n.op, tuple([env[v] for v in n.inputs]), new[n]) if n in new else None
    )


# --- what nobody reads ------------------------------------------------------------------------------------------------
def trim(graph: Graph) -> Graph:
    """Loops without the states, rows and stacked results that nothing depends on, in regions too."""
    live = set(graph.results)
    sizes = {s for n in graph.nodes for s in symbols_of(n) - told_by(n)}
    kept: dict[Node, tuple[list[int], list[int], list[int]]] = {}
    for n in reversed(graph.nodes):
        if n.pure and live.isdisjoint(n.outs) and "tells" not in n.op.special:
            continue
        loop = loop_of(n)
        if loop is None:
            live.update(n.inputs)
            continue
        kept[n] = _read(loop, live, sizes)
        live.update([n.inputs[i] for i in (*kept[n][0], *kept[n][1])])
    smaller = {n for n, (a, c, d) in kept.items() if len(a) + len(c) < len(n.inputs) or len(d) < len(loop_at(n).made)}
    if smaller:
        graph = renewed(graph, lambda b, n, env: _narrowed(b, loop_at(n), env, *kept[n]) if n in smaller else None)
    return within(graph, trim)


def loop_at(n: Node) -> Loop:
    loop = loop_of(n)
    assert loop is not None
    return loop


def _read(loop: Loop, live: set[Value], sizes: set[str]) -> tuple[list[int], list[int], list[int]]:
    """Numbers of the states, of the other operands and of the stacked results that a loop needs.

    `sizes` are those found ones that the graph needs: some value has to tell them.
    """
    outs, body = loop.node.outs, loop.body
    made = [i for i in range(len(loop.made)) if outs[loop.first + i] in live]
    if loop.made and not made and told_by(loop.node) & sizes:
        made = [min(range(len(loop.made)), key=lambda i: nbytes(loop.made[i]))]
    cond: Graph | None = loop.node.attr("cond") if loop.node.op.name != "scan" else None
    states = {i for i in range(loop.n) if outs[i] in live}
    while True:
        reached = _reached(body, [*[body.results[i] for i in states], *[loop.made[i] for i in made]])
        needed = {i for i, p in enumerate(body.params) if p in reached}
        if cond is not None:
            tested = _reached(cond, cond.results)
            needed |= {i for i, p in enumerate(cond.params) if p in tested}
        more = {i for i in needed if i < loop.n} - states
        if not more:
            rows = range(loop.n, loop.n + loop.m)
            if rows and needed.isdisjoint(rows) and symbols_in(loop.length):  # a row tells how many steps there are
                needed.add(min(rows, key=lambda i: nbytes(body.params[i])))
            return sorted(states), sorted(i for i in needed if i >= loop.n), made
        states |= more


def _reached(g: Graph, results: Iterable[Value]) -> set[Value]:
    """The values that results and effects depend on."""
    out = set(results)
    for n in reversed(g.nodes):
        if not n.pure or "tells" in n.op.special or not out.isdisjoint(n.outs):
            out.update(n.inputs)
    return out


def _narrowed(
    b: Builder, loop: Loop, env: dict[Value, Value], states: list[int], others: list[int], made: list[int]
) -> tuple[Value, ...]:
    """A loop with some of its states, operands and stacked results; in the place of the others stand dead values."""
    node, order = loop.node, [*states, *others]
    params = [loop.body.params[i] for i in order]
    results = [*[loop.body.results[i] for i in states], *[loop.made[i] for i in made]]
    attrs = dict(node.attrs)
    attrs.update(body=regraph(loop.body, params, results), n=len(states))
    if node.op.name == "scan":
        attrs["m"] = sum(i < loop.n + loop.m for i in others)
    else:
        cond: Graph = attrs["cond"]
        attrs["cond"] = regraph(cond, [cond.params[i] for i in order], cond.results)
    outs = b.emit(node.op, tuple([env[node.inputs[i]] for i in order]), tuple(sorted(attrs.items())))
    kept = [*states, *range(loop.n, loop.first), *[loop.first + i for i in made]]
    found = dict(zip(kept, outs, strict=True))
    return tuple([found.get(i, v) for i, v in enumerate(node.outs)])
