"""Elementwise operations on joined arrays, cut along the joints: each piece is computed from what was joined.

`u + pad(v)` has a border to which nothing is added, and a middle; a sum of `roll`s has edges, corners and a middle. The
pieces are joined by `concat`, which costs nothing, since they are computed in the memory of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from tracejit.ir.graph import Builder, Const, Graph, Node, Value, freeze
from tracejit.ir.op import OPS
from tracejit.ir.sizes import hint, is_unit, product
from tracejit.passes.groups import fusible, is_index_source, is_scalar_constant, is_view, joins
from tracejit.passes.layout import Size
from tracejit.passes.match import EXACT, Level
from tracejit.passes.placing import parts

LARGE = 1 << 14  # elements from which passes over memory matter more than the number of loops
WIDE = 256  # elements of a row that is worth being cut
PIECES = 9
Box = tuple[tuple[Size, Size], ...]  # start and size along each axis


def cut(graph: Graph, upto: Level) -> Graph:
    """The graph with large elementwise values of joined ones computed in pieces."""
    if not any(joins(n) for n in graph.nodes):
        return graph
    trees = _trees(graph)
    return _Cutter(graph, trees, upto).run() if trees else graph


class _Tree:
    """Elementwise and joined values of which all but the root are read within only.

    cuts   along each axis, where pieces begin and end
    """

    def __init__(self, root: Value, users: dict[Value, list[Node]], results: set[Value]) -> None:
        self.root, self.users, self.results = root, users, results
        self.inside: set[Value] = {root}
        self.cuts: list[set[int]] = [set() for _ in root.shape]
        self.fits = True
        self._grow(root, [0] * len(root.shape))

    def _grow(self, v: Value, at: list[int]) -> None:
        assert v.node is not None
        whole = v.shape == self.root.shape and not any(at)
        for x, here in _places(v.node, at):
            n = x.node
            if here is None:
                self.fits = False
            elif x in self.inside and n is not None and not joins(n):
                continue
            elif n is not None and self._own(x) and (joins(n) or (whole and _maps(n) and x.shape == v.shape)):
                self.inside.add(x)
                if joins(n):
                    self._add_cuts(n, here)
                self._grow(x, here)
            elif not joins(v.node) and not _in_memory(x):
                self.fits = False

    def _own(self, x: Value) -> bool:
        return x not in self.results and all(len(u.outs) == 1 and u.out in self.inside for u in self.users[x])

    def _add_cuts(self, n: Node, at: list[int]) -> None:
        for v, start, step in parts(n):
            for i, (b, size, k, whole) in enumerate(zip(start, v.shape, step, n.out.shape, strict=True)):
                if size is whole or size == whole:
                    continue
                if type(b) is int and type(size) is int and k == 1:
                    self.cuts[i] |= {at[i] + b, at[i] + b + size}
                else:
                    self.fits = False

    def boxes(self) -> list[list[tuple[Size, Size]]]:
        """Along each axis, start and size of the pieces."""
        out: list[list[tuple[Size, Size]]] = []
        for d, found in zip(self.root.shape, self.cuts, strict=True):
            if type(d) is int:
                out.append([(a, b - a) for a, b in pairwise(sorted({0, d, *found}))])
            else:
                out.append([(0, d)])
        return out

    def worth(self) -> bool:
        """Whether there are joints, and few enough of them."""
        if not self.fits or any(c and type(d) is not int for c, d in zip(self.cuts, self.root.shape, strict=True)):
            return False
        n = 1
        for c in self.boxes():
            n *= len(c)
        return 1 < n <= PIECES and (len(self.boxes()[-1]) == 1 or hint(self.root.shape[-1]) >= WIDE)


def _trees(graph: Graph) -> dict[Value, _Tree]:
    users: dict[Value, list[Node]] = {}
    for n in graph.nodes:
        for v in dict.fromkeys(n.inputs):
            users.setdefault(v, []).append(n)
    results = set(graph.results)
    found: dict[Value, _Tree] = {}
    taken: set[Value] = set()
    for n in reversed(graph.nodes):
        if _maps(n) and n.out not in taken and n.out.shape and hint(product(n.out.shape)) >= LARGE:
            tree = _Tree(n.out, users, results)
            if tree.worth():
                found[n.out] = tree
                taken |= tree.inside
    return found


def _maps(n: Node) -> bool:
    return n.op.family == "elementwise" and fusible(n) and n.out.dtype.kind != "c"


def _in_memory(x: Value) -> bool:
    """Whether a part of a value can be read without its being computed for that."""
    while x.node is not None and is_view(x.node):
        x = x.node.inputs[0]
    if all(is_unit(d) for d in x.shape) or is_scalar_constant(x) or x.node is None:
        return True
    return not fusible(x.node) and not is_index_source(x.node)


def _places(n: Node, at: list[int]) -> Iterator[tuple[Value, list[int] | None]]:
    """The operands of a node whose first element lies at `at`, each with where its own first element lies."""
    if not joins(n):
        yield from ((x, at) for x in n.inputs)
        return
    if n.op.name == "update":
        yield n.inputs[0], at
    for v, start, _ in parts(n):
        known = all(type(b) is int for b in start)
        yield v, [a + b for a, b in zip(at, start, strict=True)] if known else None


class _Cutter:
    """Writes the graph anew."""

    def __init__(self, graph: Graph, trees: dict[Value, _Tree], upto: Level) -> None:
        self.graph, self.trees, self.upto = graph, trees, upto
        self.b = Builder()
        self.env: dict[Value, Value] = {}
        self.made: dict[tuple[Value, Box], Value] = {}

    def run(self) -> Graph:
        b = self.b
        dropped = {v for t in self.trees.values() for v in t.inside}
        self.env.update((p, b.param(p.type)) for p in self.graph.params)
        for n in self.graph.nodes:
            b.loc = n.loc
            if n.outs and n.outs[0] in self.trees:
                tree = self.trees[n.out]
                self.env[n.out] = self._joined(tree, (), tree.boxes())
            elif not n.outs or n.outs[0] not in dropped:
                inputs = tuple([self.env[v] for v in n.inputs])
                again = Node(n.op, inputs, n.attrs, [o.type for o in n.outs], b.scope, n.loc)
                b.nodes.append(again)
                self.env.update(zip(n.outs, again.outs, strict=True))
        b.loc = None
        return b.finish(self.graph.name, [self.env[r] for r in self.graph.results])

    def _emit(self, name: str, *inputs: Value, **attrs: object) -> Value:
        return self.b.emit(OPS[name], inputs, freeze(attrs))[0]

    def _joined(self, tree: _Tree, box: Box, rest: list[list[tuple[Size, Size]]]) -> Value:
        if not rest:
            return self._piece(tree, tree.root, box)
        made = [self._joined(tree, (*box, x), rest[1:]) for x in rest[0]]
        return made[0] if len(made) == 1 else self._emit("concat", *made, axis=len(box))

    def _piece(self, tree: _Tree, v: Value, box: Box) -> Value:
        """A box of a value that lies on one side of every joint."""
        key = v, box
        if key not in self.made:
            self.made[key] = self._computed(tree, v, box) if v in tree.inside else self._sliced(v, box)
        return self.made[key]

    def _computed(self, tree: _Tree, v: Value, box: Box) -> Value:
        n = v.node
        assert n is not None
        if joins(n):
            for x, start, _ in parts(n):
                if all(_within(b, s, p, d) for (b, s), p, d in zip(box, start, x.shape, strict=True)):
                    return self._piece(tree, x, tuple([(b - p, s) for (b, s), p in zip(box, start, strict=True)]))
            if n.op.name == "update":
                return self._piece(tree, n.inputs[0], box)
            fill = dict(n.attrs).get("fill", 0)
            one = self._emit("constant", value=Const(None, fill, (), v.dtype))
            return self._emit("broadcast_to", one, shape=tuple([s for _, s in box]))
        xs = [self._operand(tree, x, box) for x in n.inputs]
        if n.op.name == "add" and (self.upto is not EXACT or v.dtype.kind in "iu"):
            for x, y in (xs, xs[::-1]):
                if _zero(y) and x.shape == tuple([s for _, s in box]):
                    return x
        return self.b.emit(n.op, tuple(xs), n.attrs)[0]

    def _operand(self, tree: _Tree, x: Value, box: Box) -> Value:
        """The part of an operand that the box of a result is computed from."""
        if is_scalar_constant(x) and not x.shape:
            return self.env[x]
        own = box[len(box) - len(x.shape) :]
        return self._piece(tree, x, tuple([(0, 1) if is_unit(d) else at for d, at in zip(x.shape, own, strict=True)]))

    def _sliced(self, v: Value, box: Box) -> Value:
        size = tuple([s for _, s in box])
        if size == v.shape:
            return self.env[v]
        return self._emit("slice", self.env[v], start=tuple([b for b, _ in box]), size=size, step=(1,) * len(box))


def _within(b: Size, s: Size, p: Size, d: Size) -> bool:
    """Whether the box's extent along an axis lies in a part's."""
    if s is d or s == d:
        return b == p
    return all(type(x) is int for x in (b, s, p, d)) and p <= b and b + s <= p + d


def _zero(v: Value) -> bool:
    while v.node is not None and is_view(v.node):
        v = v.node.inputs[0]
    return is_scalar_constant(v) and v.node is not None and v.node.attr("value").splat == 0
