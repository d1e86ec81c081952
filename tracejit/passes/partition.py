"""Split a graph of forward and backward in two, and choose what the forward half keeps for the backward half."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tracejit.ir.dim import Dim
from tracejit.ir.found import open_in, symbols_in, symbols_of, tellers_of
from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.ir.op import Op
from tracejit.ir.sizes import hint, product

# Elementwise functions that cost more than writing and reading their result.
_COSTLY = frozenset(
    "exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh sigmoid "
    "softplus logaddexp erf erfc erfinv pow floordiv floormod philox32 philox64".split()
)
_ARRAY = 256  # bytes: what one more array costs, whatever its size


@dataclass(frozen=True)
class Partition:
    """The two halves.

    `forward` maps the parameters to the results, followed by what is kept. `backward` maps what is kept, then the
    cotangents, to the gradients. `kept` tells for each of the backward's first parameters where it comes from:
    ("param", i) is the forward's parameter i, ("result", i) its result i.
    """

    forward: Graph
    backward: Graph
    kept: tuple[tuple[str, int], ...]


def partition(joint: Graph, params: int, results: int) -> Partition:
    """Split `joint`, whose first `params` parameters and `results` results are the forward's.

    What is kept is the cut of least memory traffic: cheap elementwise values are computed again in the backward half
    from parameters and other kept values; products, reductions, random numbers and costly functions never are.
    """
    own, cotangents = joint.params[:params], joint.params[params:]
    late = _reached_from(joint, cotangents)
    kept = _residuals(joint, params, results, late)
    kept += _size_givers(joint, kept, own, cotangents, _asked_late(joint, results, late))
    order = {v: i for i, v in enumerate([*own, *[v for n in joint.nodes for v in n.outs]])}
    kept = sorted(set(kept), key=order.__getitem__)
    ahead = list(joint.results[:results])
    ahead += [v for v in kept if v.node is not None and v not in ahead]
    early_effects = [n for n in joint.nodes if not n.pure and late.isdisjoint(n.inputs)]
    late_effects = [n for n in joint.nodes if not n.pure and not late.isdisjoint(n.inputs)]
    forward = _extract(joint, joint.name.removeprefix("vjp_"), own, ahead, early_effects)
    backward = _extract(joint, f"{joint.name}_backward", [*kept, *cotangents], joint.results[results:], late_effects)
    places = tuple([("param", own.index(v)) if v.node is None else ("result", ahead.index(v)) for v in kept])
    return Partition(forward, backward, places)


def _reached_from(graph: Graph, sources: Iterable[Value]) -> set[Value]:
    reached = set(sources)
    for n in graph.nodes:
        if not reached.isdisjoint(n.inputs):
            reached.update(n.outs)
    return reached


def _extract(graph: Graph, name: str, inputs: Iterable[Value], results: Iterable[Value], effects: list[Node]) -> Graph:
    """The part of a graph that computes `results` from `inputs`, and has `effects`."""
    b = Builder()
    env = {v: b.param(v.type) for v in inputs}
    results = list(results)
    needed = _needed([*results, *[v for n in effects for v in n.inputs]], set(env), _tellers(graph, env))
    for n in graph.nodes:
        if (n.pure and not needed.isdisjoint(n.outs)) or n in effects:
            b.loc = n.loc
            for old, new in zip(n.outs, b.emit(n.op, tuple([env[v] for v in n.inputs]), n.attrs), strict=True):
                env.setdefault(old, new)
    return b.finish(name, [env[r] for r in results])


def _needed(results: Iterable[Value], given: set[Value], tellers: dict[str, Value]) -> set[Value]:
    """The values that must be computed for `results` when `given` are there."""
    out: set[Value] = set()
    stack = [v for v in results if v not in given]
    while stack:
        v = stack.pop()
        if v not in out:
            out.add(v)
            if v.node is not None:
                stack += [x for x in _reads(v, tellers) if x not in given]
    return out


def _tellers(graph: Graph, given: Iterable[Value]) -> dict[str, Value]:
    """What tells the sizes that the program finds out, but those that the shapes of `given` tell."""
    told = {s for v in given for s in _bare(v)}
    return {s: v for s, v in tellers_of(graph).items() if s not in told}


def _reads(v: Value, tellers: dict[str, Value]) -> list[Value]:
    """What a value is computed from, and what tells its sizes where the program finds them out."""
    assert v.node is not None
    if not tellers:
        return list(v.node.inputs)
    told = [tellers[s] for s in sorted(symbols_of(v.node) & tellers.keys())]
    return [*v.node.inputs, *[t for t in told if t.node is not v.node]]


# --- what to keep -------------------------------------------------------------------------------------------------
def _residuals(joint: Graph, params: int, results: int, late: set[Value]) -> list[Value]:
    """The values that the forward half hands over: the cheapest cut between what it must compute and what is read."""
    tellers = _tellers(joint, joint.params[params:])
    behind = _needed(_asked_late(joint, results, late), set(), tellers)
    read = {x for n in joint.nodes if not late.isdisjoint(n.inputs) and not behind.isdisjoint(n.outs) for x in n.inputs}
    read |= {x for n in joint.nodes if not n.pure and not late.isdisjoint(n.inputs) for x in n.inputs}
    read |= set(joint.results[results:])
    read -= late
    forward = _needed([*joint.results[:results], *_effect_inputs(joint, late)], set(), tellers)
    flow = Flow()
    there = set(joint.params[:params]) | set(joint.results[:results])
    for v in _needed(read, set(), tellers):
        flow.edge((v, 0), (v, 1), _cost(v, v in there))
        if v.node is None or not v.node.pure or (v in forward and not repeatable(v.node.op)):
            flow.edge("forward", (v, 0), FULL)
        else:
            for x in _reads(v, tellers):
                flow.edge((x, 1), (v, 0), FULL)
        if v in read:
            flow.edge((v, 1), "backward", FULL)
    side = flow.cut("forward", "backward")
    return [v for v in _needed(read, set(), tellers) if (v, 0) in side and (v, 1) not in side]


def _asked_late(joint: Graph, results: int, late: set[Value]) -> list[Value]:
    """What the backward half is for: the gradients, and what its effects take."""
    effects = [n for n in joint.nodes if not n.pure and not late.isdisjoint(n.inputs)]
    return [*joint.results[results:], *[x for n in effects for x in n.inputs]]


def _effect_inputs(joint: Graph, late: set[Value]) -> list[Value]:
    return [x for n in joint.nodes if not n.pure and late.isdisjoint(n.inputs) for x in (*n.inputs, *n.outs)]


def repeatable(op: Op) -> bool:
    """Whether computing a value again costs less than keeping it."""
    return op.family in ("elementwise", "shape", "source") and op.name not in _COSTLY and "random" not in op.special


def _cost(v: Value, there: bool) -> int:
    """Bytes moved to keep a value: written and read, or only read where it exists anyway."""
    size = max(hint(product(v.shape)), 1) * v.dtype.size + _ARRAY
    return size if there else 2 * size


FULL = 1 << 62


class Flow:
    """A network whose maximal flow gives the minimal cut (Dinic's algorithm)."""

    def __init__(self) -> None:
        self.room: dict[Any, dict[Any, int]] = {}

    def edge(self, a: Any, b: Any, capacity: int) -> None:
        self.room.setdefault(a, {})[b] = self.room.get(a, {}).get(b, 0) + capacity
        self.room.setdefault(b, {}).setdefault(a, 0)

    def cut(self, source: Any, sink: Any) -> set[Any]:
        """What the source still reaches when no more flows to the sink."""
        if source not in self.room or sink not in self.room:
            return set()
        while True:
            depth = self._levels(source)
            if sink not in depth:
                return set(depth)
            rest = {a: list(bs) for a, bs in self.room.items()}
            while self._augment(source, sink, depth, rest):
                pass

    def _levels(self, source: Any) -> dict[Any, int]:
        depth = {source: 0}
        queue = deque([source])
        while queue:
            a = queue.popleft()
            for b, room in self.room[a].items():
                if room > 0 and b not in depth:
                    depth[b] = depth[a] + 1
                    queue.append(b)
        return depth

    def _augment(self, source: Any, sink: Any, depth: dict[Any, int], rest: dict[Any, list[Any]]) -> bool:
        """Send what one more shortest path takes; False if there is none."""
        path = [source]
        while path[-1] != sink:
            a = path[-1]
            while rest[a] and not (self.room[a][rest[a][-1]] > 0 and depth.get(rest[a][-1]) == depth[a] + 1):
                rest[a].pop()
            if rest[a]:
                path.append(rest[a][-1])
            elif len(path) == 1:
                return False
            else:
                path.pop()
                rest[path[-1]].pop()
        links = list(itertools.pairwise(path))
        amount = min(self.room[a][b] for a, b in links)
        for a, b in links:
            self.room[a][b] -= amount
            self.room[b][a] += amount
        return True


# --- symbols ------------------------------------------------------------------------------------------------------
def _size_givers(
    joint: Graph, kept: list[Value], own: tuple[Value, ...], cotangents: tuple[Value, ...], asked: list[Value]
) -> list[Value]:
    """What the backward half must also take to know the sizes of its symbols: parameters, and what tells found ones."""
    tellers = _tellers(joint, [*kept, *cotangents])
    inside = _needed(asked, set(kept), tellers)
    out = [v for v in tellers.values() if v in inside and _out_of_reach(v, set(kept), cotangents, tellers)]
    inside = _needed(asked, {*kept, *out}, _tellers(joint, [*kept, *out, *cotangents]))
    used = {s for v in inside for s in _symbols(v)}
    known = {s for v in [*kept, *out, *cotangents] for s in _bare(v)}
    for v in own:
        new = (_bare(v) & used) - known
        if new:
            out.append(v)
            known |= new
    # of a product of sizes in the shape of what is handed over, each has to be told
    joined = {s for v in [*kept, *out, *cotangents] for s in symbols_in(tuple(v.shape))} - known
    return out + [tellers[s] for s in sorted(joined & tellers.keys()) if tellers[s] not in out]


def _out_of_reach(v: Value, kept: set[Value], cotangents: tuple[Value, ...], tellers: dict[str, Value]) -> bool:
    """Whether only the forward half can make a value."""
    made = _needed([v], kept, tellers)
    return made.isdisjoint(cotangents) and any(x.node is None or not x.node.pure for x in made)


def _symbols(v: Value) -> set[str]:
    dims = [d for d in v.shape if isinstance(d, Dim)]
    if v.node is not None:
        dims += [d for _, a in v.node.attrs for d in (a if isinstance(a, tuple) else (a,)) if isinstance(d, Dim)]
    inside = set() if v.node is None else set(open_in(v.node))  # what its regions use as well
    return {s for d in dims for s in d.symbols} | inside


def _bare(v: Value) -> set[str]:
    """The symbols that v's shape gives outright."""
    return {s for d in v.shape if isinstance(d, Dim) and len(d.terms) == 1 for s in d.symbols if d.terms.get((s,)) == 1}
