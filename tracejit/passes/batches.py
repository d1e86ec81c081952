"""Sums over all matrices of batched products as one product: what is summed within it takes in the batch."""

from __future__ import annotations

from collections.abc import Iterator

from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.ir.sizes import known_equal, product
from tracejit.passes.layout import Layouts, Size, needs_copy, reshaped
from tracejit.passes.match import FINITE, Level, make


def batches(graph: Graph, upto: Level) -> Graph:
    """The graph with such products; that of a layer's weights, for one, is summed over the examples.

    Products stay where the rows of an operand would have to be copied first.
    """
    found = dict(_summed(graph)) if upto >= FINITE else {}
    if not found:
        return graph
    dropped = {n.out for n in found.values()}
    b = Builder()
    env: dict[Value, Value] = {p: b.param(p.type) for p in graph.params}
    for n in graph.nodes:
        b.loc = n.loc
        if n in found:
            env[n.out] = _one_product(b, found[n], env)
        elif not n.outs or n.outs[0] not in dropped:
            again = Node(n.op, tuple([env[v] for v in n.inputs]), n.attrs, [o.type for o in n.outs], b.scope, n.loc)
            b.nodes.append(again)
            env.update(zip(n.outs, again.outs, strict=True))
    b.loc = None
    return b.finish(graph.name, [env[r] for r in graph.results])


def _summed(graph: Graph) -> Iterator[tuple[Node, Node]]:
    """Sums, each with the product that only it reads."""
    readers: dict[Value, int] = {}
    for v in [*graph.results, *[v for n in graph.nodes for v in n.inputs]]:
        readers[v] = readers.get(v, 0) + 1
    layouts = Layouts()
    needs_copy(graph, layouts)
    for n in graph.nodes:
        if n.op.name != "reduce_sum" or readers[n.inputs[0]] != 1:
            continue
        made = n.inputs[0].node
        if made is None or made.op.name != "matmul" or n.attr("axis") != tuple(range(len(made.out.shape) - 2)):
            continue
        if all(_in_place(layouts, made, i) for i in (0, 1)):
            yield n, made


def _last(n: Node, i: int) -> bool:
    """Whether what is summed within a product is the last axis of its operand."""
    return bool(dict(n.attrs).get("tb", False)) if i else not dict(n.attrs).get("ta", False)


def _rows(x: Value, last: bool) -> tuple[Size, Size]:
    """An operand's shape with the batch and the summed axis as one."""
    k, other = (-1, -2) if last else (-2, -1)
    return product((*x.shape[:-2], x.shape[k])), x.shape[other]


def _in_place(layouts: Layouts, n: Node, i: int) -> bool:
    """Whether an operand has the whole batch, and that shape without a copy."""
    x = n.inputs[i]
    lay = layouts.of(x)
    batch = n.out.shape[:-2]
    if lay is None or len(x.shape) != len(n.out.shape):
        return False
    if not all(known_equal(d, e) for d, e in zip(x.shape, batch, strict=False)):
        return False
    k, other = (-1, -2) if _last(n, i) else (-2, -1)
    shape = (*x.shape[:-2], x.shape[k], x.shape[other])
    strides = (*lay.strides[:-2], lay.strides[k], lay.strides[other])
    return reshaped(shape, strides, _rows(x, _last(n, i))) is not None


def _one_product(b: Builder, n: Node, env: dict[Value, Value]) -> Value:
    flat = []
    for i, x in enumerate(n.inputs):
        v, rank = env[x], len(x.shape)
        v = make(b, "transpose", v, perm=(*range(rank - 2), rank - 1, rank - 2)) if _last(n, i) else v
        flat.append(make(b, "reshape", v, shape=_rows(x, _last(n, i))))
    return make(b, "matmul", *flat, ta=True)
