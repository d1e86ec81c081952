"""The slope of an activation before pooling, multiplied with the pooled gradient instead of the gradient of the image.

The gradient of pooling is made of one array for each position of the window, dealt out to every second row and column.
Each has the gradient where its position held the largest element, so that `seen > 0` is there what `largest > 0` is.
"""

from __future__ import annotations

from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.ir.sizes import hint, is_unit, product
from tracejit.passes.cuts import LARGE
from tracejit.passes.groups import is_scalar_constant
from tracejit.passes.layout import Size
from tracejit.passes.match import make
from tracejit.passes.scans import renewed

Shape = tuple[Size, ...]
Steps = tuple[int, ...]


def deal(graph: Graph) -> Graph:
    """The graph with products of such gradients and slopes replaced by gradients of products."""
    if not any(_slope(n.out) for n in graph.nodes if n.op.name == "cast"):
        return graph
    users: dict[Value, int] = {}
    for v in [*(v for n in graph.nodes for v in n.inputs), *graph.results]:
        users[v] = users.get(v, 0) + 1
    chosen: dict[Node, int] = {}
    for n in graph.nodes:
        i = _interleaved(n, users)
        if i is not None:
            chosen[n] = i
    taken: dict[tuple[Value, Value, bool], Value] = {}  # condition, operand, which it is: what `where` makes of them

    def visit(b: Builder, n: Node, env: dict[Value, Value]) -> tuple[Value, ...] | None:
        if n.op.name == "where":
            c, yes, no = (env[v] for v in n.inputs)
            outs = b.emit(n.op, (c, yes, no), n.attrs)
            taken[c, yes, True] = taken[c, no, False] = outs[0]
            return outs
        made = _Dealer(b, n, chosen[n], env, taken).dealt() if n in chosen else None
        return None if made is None else (made,)

    return renewed(graph, visit) if chosen else graph


def _slope(v: Value) -> Value | None:
    """What a value of 0 and 1 tells to be positive."""
    if v.node is None or v.node.op.name != "cast" or v.dtype.kind != "f":
        return None
    n = v.node.inputs[0].node
    return n.inputs[0] if n is not None and n.op.name == "greater" and _is_zero(n.inputs[1]) else None


def _is_zero(v: Value) -> bool:
    return is_scalar_constant(v) and v.node is not None and v.node.attr("value").splat == 0


def _interleaved(n: Node, users: dict[Value, int]) -> int | None:
    """Which factor of a product is interleaved, and read by nothing else; the other one is a slope."""
    if n.op.name != "mul" or hint(product(n.out.shape)) < LARGE or any(x.shape != n.out.shape for x in n.inputs):
        return None
    for i, (x, y) in enumerate((n.inputs, n.inputs[::-1])):
        s = _slope(y)
        if s is not None and s.shape == n.out.shape and users[x] == 1 and _parts(x, x.shape) is not None:
            return i
    return None


def _parts(x: Value, shape: Shape) -> tuple[Node, int] | None:
    """The concat whose parts alternate along an axis when `x` has that shape, and the axis."""
    n = _below(x).node
    if n is None or n.op.name != "concat":
        return None
    x, axis = n.out, n.attr("axis")
    if axis == 0 or not all(is_unit(v.shape[axis]) for v in n.inputs):
        return None
    merged = (*x.shape[: axis - 1], x.shape[axis - 1] * x.shape[axis], *x.shape[axis + 1 :])
    return (n, axis - 1) if merged == shape else None


def _below(x: Value) -> Value:
    while x.node is not None and x.node.op.name == "reshape":
        x = x.node.inputs[0]
    return x


class _Dealer:
    """Emits one product on the parts of its interleaved factor."""

    def __init__(
        self, b: Builder, n: Node, which: int, env: dict[Value, Value], taken: dict[tuple[Value, Value, bool], Value]
    ) -> None:
        self.b, self.x, self.taken, self.env = b, n.inputs[which], taken, env
        slope = n.inputs[1 - which]
        found = _slope(slope)
        assert found is not None and slope.node is not None
        self.seen, self.dtype = env[found], slope.dtype
        self.zero = env[slope.node.inputs[0].node.inputs[1]]  # type: ignore[union-attr]

    def dealt(self) -> Value | None:
        """None if not all parts are gradients of a largest element."""
        rank = len(self.x.shape)
        return self._part(self.x, self.x.shape, (0,) * rank, (1,) * rank)

    def _part(self, x: Value, shape: Shape, start: Steps, step: Steps) -> Value | None:
        """The product at start + i · step in the whole, where the gradient is `x` in that shape."""
        found = _parts(x, shape)
        if found is None:
            below = self.env[_below(x)]
            seen = make(self.b, "slice", self.seen, start=start, size=shape, step=step)
            return self._inside(below, seen) if below.shape == shape else None
        joint, axis = found
        k, made = len(joint.inputs), []
        for i, v in enumerate(joint.inputs):
            size = (*shape[:axis], v.shape[axis], *shape[axis + 1 :])
            first = (*start[:axis], start[axis] + i * step[axis], *start[axis + 1 :])
            part = self._part(v, size, first, (*step[:axis], step[axis] * k, *step[axis + 1 :]))
            if part is None:
                return None
            made.append(make(self.b, "reshape", part, shape=v.shape))
        return make(self.b, "reshape", make(self.b, "concat", *made, axis=axis + 1), shape=shape)

    def _inside(self, g: Value, seen: Value) -> Value | None:
        """`where(c, x, 0)` times the slope at `seen`, which is `largest` where c holds: `where(c, x * slope, 0)`."""
        n = g.node
        if n is None or n.op.name != "where":
            return None
        c, *sides = n.inputs
        for first in (True, False):
            x, other = sides if first else sides[::-1]
            largest = self.taken.get((c, seen, first))
            if _is_zero(other) and x.shape == g.shape and largest is not None:
                made = self._inside(x, largest)
                if made is None:
                    slope = make(self.b, "cast", make(self.b, "greater", largest, self.zero), dtype=self.dtype)
                    made = make(self.b, "mul", x, slope)
                return make(self.b, "where", c, *((made, other) if first else (other, made)))
        return None
