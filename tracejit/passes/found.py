"""Nodes that need sizes which the program finds out become one node with a graph, made ready when these are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tracejit.errors import GraphError, Location
from tracejit.ir.dim import Dim
from tracejit.ir.found import LIKELY, TELLERS, given, open_in, symbols_in, symbols_of, tellers_of, told_by, untold
from tracejit.ir.graph import Attrs, Builder, Graph, Node, Value, next_scope
from tracejit.ir.op import OPS
from tracejit.ir.text import walk
from tracejit.ir.types import TensorType, int32
from tracejit.passes.match import Level


def apart(graph: Graph, numerics: Level, around: frozenset[str] = frozenset()) -> Graph:
    """The graph with what needs found sizes as one `sized` node, in its regions as well.

    Loops that only go through rows of found number are native, and stay. `around` are the sizes that are known where
    the graph is a region.
    """
    if not any(symbols_of(n) for g in walk(graph, "sized") for n in g.nodes):
        return graph
    if lost := untold(graph, around):
        raise GraphError(f"nothing tells {', '.join(sorted(lost))} in {graph.name}")
    known = around | given(graph)
    graph = _results_apart(graph, known)
    needs = _needs(graph)
    late = _late(graph, known, needs)
    if late:
        graph = _wrapped(graph, late, _after(graph, late, needs), numerics, known)
    return _regions(graph, numerics, known)


def _results_apart(graph: Graph, known: frozenset[str]) -> Graph:
    """The graph with a copy for each further place of a result whose size is found: only a part can make it."""
    again = {i for i, r in enumerate(graph.results) if r in graph.results[:i] and symbols_in(tuple(r.shape)) - known}
    if not again:
        return graph
    b = Builder()
    env: dict[Value, Value] = {p: b.param(p.type) for p in graph.params}
    for n in graph.nodes:
        _emit(b, n, env)
    results = []
    for i, r in enumerate(graph.results):
        if i in again:
            node = Node(OPS["copy"], (env[r],), (), [r.type], b.scope, None)
            b.nodes.append(node)
        results.append(node.outs[0] if i in again else env[r])
    return b.finish(graph.name, results)


def _needs(graph: Graph) -> dict[Node, list[Node]]:
    """What each node comes after: the nodes of its operands, those that tell its sizes, and the effect before it."""
    tells = {s: n for n in graph.nodes for s in told_by(n)}
    needs: dict[Node, list[Node]] = {}
    effect: Node | None = None
    for n in graph.nodes:
        before = [v.node for v in n.inputs] + [tells.get(s) for s in sorted(symbols_of(n))]
        if not n.pure:
            before.append(effect)
            effect = n
        needs[n] = [m for m in before if m is not None and m is not n]
    return needs


def _late(graph: Graph, known: frozenset[str], needs: dict[Node, list[Node]]) -> set[Node]:
    """The nodes that have to wait, and those between them."""
    rows: set[Value] = set()  # of found number, in buffers of their own
    late: set[Node] = set()
    for n in graph.nodes:
        found = symbols_of(n) - known
        if not found:
            continue
        if _native(n, found, rows, known):
            rows.update(v for v in n.outs if symbols_in(tuple(v.shape)) - known)
        else:
            late.add(n)
    late |= _checks(graph, late, needs)
    wanted = {m for n in late for m in needs[n]}
    after = _after(graph, late, needs)
    for n in reversed(graph.nodes):
        if n in after and n in wanted:
            late.add(n)
            wanted.update(needs[n])
    return late


def _checks(graph: Graph, late: set[Node], needs: dict[Node, list[Node]]) -> set[Node]:
    """The checks of what late nodes give: they say what is wrong where a part does not go with its sizes."""
    after: set[Node] = set()
    joining: set[Node] = set()
    for n in graph.nodes:
        before = [m for m in needs[n] if m in late or m in after]
        if n in late or not before:
            continue
        after.add(n)
        light = n.op.family == "elementwise" or n.op.name in ("check", "reshape")
        if light and joining.issuperset(set(before) - late):
            joining.add(n)
    ours = late | joining
    return {n for n in joining if n.op.name == "check" and any(v.node in ours for v in n.inputs)}


def _after(graph: Graph, late: set[Node], needs: dict[Node, list[Node]]) -> set[Node]:
    """The other nodes that come after one of `late`."""
    after: set[Node] = set()
    for n in graph.nodes:
        if n not in late and any(m in late or m in after for m in needs[n]):
            after.add(n)
    return after


def _native(n: Node, found: set[str], rows: set[Value], known: frozenset[str]) -> bool:
    if n.op.name in TELLERS:
        return found <= told_by(n) and not any(symbols_in(tuple(v.shape)) - known for v in n.inputs)
    if n.op.name != "scan":
        return False
    length, k, m = n.attr("length"), n.attr("n"), n.attr("m")
    if not isinstance(length, Dim) or str(length) not in length.symbols or symbols_in(n.attr("body")) - known:
        return False
    if any((symbols_in(tuple(v.shape)) - known) and not k <= i < k + m for i, v in enumerate(n.inputs)):
        return False
    return all(v in rows for v in n.inputs[k : k + m])


def _wrapped(graph: Graph, late: set[Node], after: set[Node], numerics: Level, known: frozenset[str]) -> Graph:
    """The graph with one node for those that are late, before those that come after them."""
    inside = [n for n in graph.nodes if n in late]
    own = {v for n in inside for v in n.outs}
    reads = list(dict.fromkeys(v for n in inside for v in n.inputs if v not in own))
    told = {s for n in inside for s in told_by(n)}
    told |= {str(d) for v in reads for d in v.shape if isinstance(d, Dim) and str(d) in d.symbols}  # not n + 1
    # the part knows what its operands and nodes tell only
    needed = {s for n in inside for s in (*symbols_of(n), *open_in(n))} - told
    later = {v for n in after for v in n.outs}
    tellers = _tellers(graph, needed, own | later)
    untold = {s: d.hint for n in inside for s, d in open_in(n).items() if s in needed - tellers.keys()}
    untold |= {s: LIKELY for n in inside for s in symbols_of(n) & known if s in needed - tellers.keys()}
    made = _lines(untold, inside[0].loc)
    reads = list(dict.fromkeys([*reads, *tellers.values(), *[n.out for n in made]]))
    used = {v for n in graph.nodes if n not in late for v in n.inputs} | set(graph.results)
    gives = [v for n in inside for v in n.outs if v in used]
    gives += _telling(graph, gives, after, own)
    b = Builder()
    env: dict[Value, Value] = {p: b.param(p.type) for p in graph.params}
    for n in graph.nodes:
        if n not in late and n not in after:
            _emit(b, n, env)
    for n in made:
        _emit(b, n, env)
    attrs: Attrs = (("body", _part(graph, inside, reads, gives)), ("numerics", numerics.name))
    types = [v.type for v in gives]
    node = Node(OPS["sized"], tuple([env[v] for v in reads]), attrs, types, b.scope, inside[0].loc)
    b.nodes.append(node)
    env.update(zip(gives, node.outs, strict=True))
    for n in graph.nodes:
        if n in after:
            _emit(b, n, env)
    return b.finish(graph.name, [env[r] for r in graph.results])


def _telling(graph: Graph, gives: Sequence[Value], after: Iterable[Node], own: set[Value]) -> list[Value]:
    """What else a part has to give, for the sizes that only it finds out and that what comes after needs."""
    needed = {s for v in gives for s in symbols_in(tuple(v.shape))} | {s for n in after for s in symbols_of(n)}
    needed -= {str(d) for v in gives for d in v.shape if isinstance(d, Dim)}
    return list(dict.fromkeys(v for s, v in tellers_of(graph).items() if s in needed and v in own))


def _tellers(graph: Graph, needed: set[str], but: set[Value]) -> dict[str, Value]:
    """For each size that other values tell one of these: the size is that of one of its axes."""
    out: dict[str, Value] = {}
    for v in (*graph.params, *(v for n in graph.nodes for v in n.outs)):
        for s in {str(d) for d in v.shape if isinstance(d, Dim)} & needed if v not in but else ():
            out.setdefault(s, v)
    return {s: out[s] for s in sorted(out)}


def _lines(hints: Mapping[str, int], loc: Location | None) -> list[Node]:
    """Arrays that tell the sizes of symbols, for a region none of whose values does."""
    out = []
    for s, likely in sorted(hints.items()):
        shape = (Dim.symbol(s, likely),)
        attrs = (("axis", 0), ("dtype", int32), ("shape", shape))
        out.append(Node(OPS["iota"], (), attrs, [TensorType(int32, shape)], next_scope(), loc))
    return out


def _part(graph: Graph, nodes: Iterable[Node], reads: Sequence[Value], gives: Sequence[Value]) -> Graph:
    b = Builder()
    env = {v: b.param(v.type) for v in reads}
    for n in nodes:
        _emit(b, n, env)
    return b.finish(f"{graph.name}_sized", [env[v] for v in gives])


def _emit(b: Builder, n: Node, env: dict[Value, Value]) -> None:
    node = Node(n.op, tuple([env[v] for v in n.inputs]), n.attrs, [v.type for v in n.outs], b.scope, n.loc)
    b.nodes.append(node)
    env.update(zip(n.outs, node.outs, strict=True))


def _regions(graph: Graph, numerics: Level, known: frozenset[str]) -> Graph:
    """The same done in the regions of branches and loops."""
    b = Builder()
    env: dict[Value, Value] = {p: b.param(p.type) for p in graph.params}
    for n in graph.nodes:
        attrs = n.attrs
        if n.op.name != "sized" and any(type(v) is Graph for _, v in attrs):
            attrs = tuple([(k, apart(v, numerics, known) if type(v) is Graph else v) for k, v in attrs])
        node = Node(n.op, tuple([env[v] for v in n.inputs]), attrs, [v.type for v in n.outs], b.scope, n.loc)
        b.nodes.append(node)
        env.update(zip(n.outs, node.outs, strict=True))
    return b.finish(graph.name, [env[r] for r in graph.results])
