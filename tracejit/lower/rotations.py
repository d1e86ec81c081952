"""States of a loop that become what another state was: buffers change places, and nothing is copied."""

from __future__ import annotations

from tracejit.ir.graph import Graph, Value


def rotations(g: Graph, states: int) -> tuple[Graph, list[tuple[int, int]]]:
    """Pairs of states (i, j) of which i becomes what j was, j before i; and the body without the copies for that.

    As in `new, old = f(new, old), new`. Of two that become the same, one does so by a copy; so do all of a circle.
    """
    place = {p: i for i, p in enumerate(g.params[:states])}
    read = {v for n in g.nodes for v in n.inputs}
    source: dict[int, int] = {}
    for i, r in enumerate(g.results[:states]):
        if r.node is None or r.node.op.name != "copy" or r in read or g.results.count(r) > 1 or not r.shape:
            continue
        j = place.get(r.node.inputs[0], i)
        if j != i and j not in source.values() and g.params[i].type == g.params[j].type:
            source[i] = j
    ordered: list[tuple[int, int]] = []
    for i in source:
        chain = [i]
        while chain[-1] in source and len(chain) <= len(source):
            chain.append(source[chain[-1]])
        if len(chain) > len(source) + 1 or chain[-1] in source:
            continue  # a circle
        ordered += [(x, y) for x, y in zip(chain[-2::-1], chain[:0:-1], strict=True) if (x, y) not in ordered]
    gone = {g.results[i].node for i, _ in ordered}
    return Graph(g.name, g.params, [n for n in g.nodes if n not in gone], g.results), ordered


def roots(turned: list[tuple[Value, Value]]) -> dict[Value, Value]:
    """The state from which each of these comes that becomes what another was, over any number of them."""
    out: dict[Value, Value] = {}
    for x, y in turned:
        out[x] = out.get(y, y)
    return out
