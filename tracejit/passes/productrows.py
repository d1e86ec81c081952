"""What is done to the elements of a matrix product under another shape is done to its rows: it can be its epilogue.

A convolution is a product whose rows are the places of the window. Its result has the shape of images, and so have the
bias that is added and the activation that follows; on the matrix they run over each tile while that is in registers.
"""

from __future__ import annotations

from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.ir.sizes import is_unit
from tracejit.passes.groups import CHEAP, fusible
from tracejit.passes.layout import Size
from tracejit.passes.match import make
from tracejit.passes.scans import renewed

Shape = tuple[Size, ...]


def product_rows(graph: Graph) -> Graph:
    """The graph with elementwise operations moved from below a product's reshape to above it."""
    shapes = _matrices(graph)
    if not any(n in shapes for n in graph.nodes if n.op.name != "reshape"):
        return graph
    matrix: dict[Value, Value] = {}  # of values under another shape

    def visit(b: Builder, n: Node, env: dict[Value, Value]) -> tuple[Value, ...] | None:
        if n not in shapes:
            return None
        inputs = [env[v] for v in n.inputs]
        if n.op.name == "reshape":
            outs = b.emit(n.op, tuple(inputs), n.attrs)
            matrix[outs[0]] = inputs[0]
            return outs
        xs = [matrix[x] if x in matrix else _reshaped(b, x, n.out.shape, shapes[n]) for x in inputs]
        (made,) = b.emit(n.op, tuple(xs), n.attrs)
        out = make(b, "reshape", made, shape=n.out.shape)
        matrix[out] = made
        return (out,)

    return renewed(graph, visit)


def _matrices(graph: Graph) -> dict[Node, Shape]:
    """The reshapes of products, and the operations on what these show that can be done before: shapes of the matrices.

    What costs little and is read by loops only is left to these: else it would be written for them.
    """
    found: dict[Node, Shape] = {}
    users: dict[Value, list[Node]] = {}
    for n in graph.nodes:
        for v in n.inputs:
            users.setdefault(v, []).append(n)
        shape = _shape_before(n, found)
        if shape is not None:
            found[n] = shape
    for n in reversed(graph.nodes):
        if n in found and n.op.name in CHEAP and n.out not in graph.results:
            if all(u not in found and fusible(u) for u in users.get(n.out, ())):
                del found[n]
    return found


def _shape_before(n: Node, found: dict[Node, Shape]) -> Shape | None:
    if n.op.name == "reshape":
        x = n.inputs[0]
        keeps = len(x.shape) == 2 and len(n.out.shape) > 2 and n.out.shape[-1] == x.shape[-1]
        return x.shape if keeps and _is_product(x) else None
    if n.op.family != "elementwise" or n.op.scalar is None or len(n.outs) != 1:
        return None
    whole = [found.get(x.node) if x.node is not None else None for x in n.inputs if x.shape == n.out.shape]
    shape = next((s for s in whole if s is not None), None)
    if shape is None or any(not _has_rows(x, n.out.shape, shape, found) for x in n.inputs):
        return None
    return shape


def _has_rows(x: Value, shape: Shape, matrix: Shape, found: dict[Node, Shape]) -> bool:
    """Whether the matrix can have an operand: a number, one for each column, or one for each element as they lie."""
    if x.shape == shape:
        return x.node is None or found.get(x.node) == matrix
    return all(is_unit(d) for d in x.shape[:-1])


def _reshaped(b: Builder, x: Value, shape: Shape, matrix: Shape) -> Value:
    if x.shape == shape:
        return make(b, "reshape", x, shape=matrix)
    return x if len(x.shape) < 2 else make(b, "reshape", x, shape=x.shape[-1:])


def _is_product(v: Value) -> bool:
    return v.node is not None and v.node.op.name == "matmul" and v.dtype.kind == "f"
