"""The last rewriting before fusion: argmax as reductions, small products as sums, copies where memory is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tracejit.ir.found import TELLERS
from tracejit.ir.graph import Builder, Const, Graph, Node, Value, freeze
from tracejit.ir.op import OPS
from tracejit.ir.sizes import hint, is_unit
from tracejit.ir.types import int32, int64
from tracejit.ops.index import COMBINED
from tracejit.passes.batches import batches
from tracejit.passes.complexparts import split
from tracejit.passes.cuts import cut
from tracejit.passes.found import apart
from tracejit.passes.groups import at_will, fusible, is_index_source, is_scalar_constant, is_view
from tracejit.passes.interleaved import deal
from tracejit.passes.joined import joined
from tracejit.passes.layout import Layouts, even, needs_copy
from tracejit.passes.match import DEFAULT, Level, level
from tracejit.passes.productrows import product_rows
from tracejit.passes.products import scattered, walk
from tracejit.passes.stretched import gathered
from tracejit.passes.turn import turn

TINY = 8
LOOPS = 2  # that a product's batch may take
_WRITERS = ("put", *COMBINED)
_SYSTEMS = ("triangular_solve", "solve")
_ON_MATRICES = ("cholesky", "inv", "det", "slogdet", "lu")
Pass = tuple[str, Callable[[Graph], Graph]]


def prepare(graph: Graph, numerics: str | Level = DEFAULT) -> Graph:
    """The graph as fusion takes it. Its results are all different values, each computed by a node that is no view."""
    for _, after in preparing(graph, numerics):
        graph = after
    return graph


def preparing(graph: Graph, numerics: str | Level = DEFAULT) -> Iterator[tuple[str, Graph]]:
    """Each pass's name with the graph after it."""
    upto = level(numerics)
    whole: list[Pass] = [
        ("complexparts", lambda g: split(g, upto)),
        ("found", lambda g: apart(g, upto)),
        ("stretched", gathered),
    ]
    for name, run in whole + _passes(upto):
        graph = run(graph)
        yield name, graph


def _passes(upto: Level) -> list[Pass]:
    """The passes for a graph whose complex values, and those of its regions, are taken apart."""
    return [
        ("turn", turn),
        ("positions", positions),
        ("batches", lambda g: batches(g, upto)),
        ("products", tiny_products),
        ("rows", product_rows),
        ("interleaved", deal),
        ("joined", joined),
        ("cuts", lambda g: cut(g, upto)),
        ("settle", lambda g: settle(g, upto)),
    ]


def positions(graph: Graph) -> Graph:
    """argmax and argmin as fused reductions: the first index at which the extreme, or a NaN, stands."""
    if not any(n.op.name in ("argmax", "argmin") for n in graph.nodes):
        return graph
    b = Builder()
    env: dict[Value, Value] = {p: b.param(p.type) for p in graph.params}
    for n in graph.nodes:
        inputs = [env[v] for v in n.inputs]
        x = n.inputs[0] if n.inputs else None
        if n.op.name in ("argmax", "argmin") and x is not None and x.dtype.kind in "biuf" and _indexable(x, n):
            b.loc = n.loc
            env[n.out] = _first_extreme(b, n, inputs[0])
            b.loc = None
        else:
            _again(b, n, inputs, env)
    return b.finish(graph.name, [env[r] for r in graph.results])


def _indexable(x: Value, n: Node) -> bool:
    return hint(x.shape[n.attr("axis")]) < 2**31 - 1


def _first_extreme(b: Builder, n: Node, x: Value) -> Value:
    def emit(name: str, *inputs: Value, **attrs: object) -> Value:
        return b.emit(OPS[name], inputs, freeze(attrs))[0]

    axis = n.attr("axis")
    if x.dtype.kind == "b":
        x = emit("cast", x, dtype=int32)
    best = emit("reduce_max" if n.op.name == "argmax" else "reduce_min", x, axis=(axis,))
    kept = tuple(1 if i == axis else d for i, d in enumerate(x.shape))
    hit = emit("equal", x, emit("reshape", best, shape=kept))
    if x.dtype.kind == "f":
        hit = emit("logical_or", hit, emit("isnan", x))
    place = tuple(d if i == axis else 1 for i, d in enumerate(x.shape))
    index = emit("iota", shape=place, axis=axis, dtype=int32)
    never = emit("constant", value=Const(None, 2**31 - 1, (), int32))
    first = emit("reduce_min", emit("where", hit, index, never), axis=(axis,))
    return emit("cast", first, dtype=int64)


def settle(graph: Graph, upto: Level) -> Graph:
    """Insert `copy` before reshapes of uneven spacing, and for results that are parameters, views or repeated."""
    copies = set(needs_copy(graph))
    layouts = Layouts()
    brought: dict[Value, Value] = {}  # operands of products, copied so that they are read in order
    b = Builder()
    env: dict[Value, Value] = {}
    for p in graph.params:
        env[p] = b.param(p.type)
    for n in graph.nodes:
        inputs = [env[v] for v in n.inputs]
        if n.op.name == "barrier":  # which kept apart what no later pass makes one
            env.update(zip(n.outs, inputs, strict=False))
            continue
        if n in copies:
            inputs[0] = _copy(b, inputs[0])
        elif not is_view(n) and n.op.family != "source" and not fusible(n):
            inputs = [
                _one_element(b, v) if _is_splat(v) and _any_step(n, i) else _even(b, n, i, _in_memory(b, v))
                for i, v in enumerate(inputs)
            ]
        elif any(at_will(n, i) for i in range(len(inputs))):
            inputs = [_in_memory(b, v) if at_will(n, i) else v for i, v in enumerate(inputs)]
        regions = n.op.family == "control" and any(type(v) is Graph for _, v in n.attrs)
        if regions or n.op.name in TELLERS:
            inputs = [v if layouts.plain(v) else _copy(b, v) for v in inputs]
        if regions and n.op.name != "sized":  # which is prepared when its sizes are known
            n = _prepared(n, upto)
        if n.op.name == "matmul" and n.out.dtype.kind in "iu":
            product = _contiguous_right(b, n, inputs)
            b.nodes.append(product)
            env[n.out] = product.out
            continue
        if n.op.name == "matmul" and n.out.dtype.kind == "f":
            inputs = _in_two_loops(b, n, inputs, brought)
        _again(b, n, inputs, env)
    return b.finish(graph.name, _each_in_memory(b, [env[r] for r in graph.results]))


def _each_in_memory(b: Builder, results: Sequence[Value]) -> list[Value]:
    """Results, each in a buffer of its own that some node writes."""
    taken: set[Value] = set()
    out = []
    for v in results:
        base = _base(v)
        made = base.node is not None and base.node.op.family != "source"
        own = v if made and base is v and base not in taken else _copy(b, v)
        taken.add(own)
        out.append(own)
    return out


def _base(v: Value) -> Value:
    """What a view shows."""
    while v.node is not None and is_view(v.node):
        v = v.node.inputs[0]
    return v


def _prepared(n: Node, upto: Level) -> Node:
    """A node of control flow with its regions prepared, which only `_again` may read."""

    def ready(g: Graph) -> Graph:
        for _, run in _passes(upto):
            g = run(g)
        return g

    return n.with_attrs(tuple([(k, ready(v) if type(v) is Graph else v) for k, v in n.attrs]))


def _copy(b: Builder, v: Value) -> Value:
    """The value in a buffer of its own."""
    parts = ("real", "imag") if v.dtype.kind == "c" else ()
    inputs = tuple([b.emit(OPS[part], (v,))[0] for part in parts]) or (v,)
    loc = v.node.loc if v.node else None
    op = OPS["complex" if parts else "copy"]
    node = Node(op, inputs, (), [op.infer(*[x.type for x in inputs])], b.scope, loc)
    b.nodes.append(node)
    return node.out


def _in_memory(b: Builder, v: Value) -> Value:
    """A splat or a position source has no buffer; an op that is not a loop needs one."""
    base = _base(v)
    n = base.node
    if n is not None and n.op.family == "source":
        splat = n.op.name == "constant" and n.attr("value").array is None
        if splat or is_index_source(n) or n.op.name == "dim":
            return _copy(b, v)
    return v


def _is_splat(v: Value) -> bool:
    v = _base(v)
    return is_scalar_constant(v) and v.dtype.kind != "c"


def _any_step(n: Node, i: int) -> bool:
    """Whether an operand may be one element repeated."""
    return (n.op.name == "scatter_sum" and i == 0) or (n.op.name in _WRITERS and i == 2)


def _one_element(b: Builder, v: Value) -> Value:
    """One value everywhere, as a single element in memory."""
    base = _base(v)
    assert base.node is not None
    c = base.node.attr("value")
    one = b.emit(OPS["constant"], (), (("value", Const(None, c.splat, (), c.dtype)),))[0]
    return b.emit(OPS["broadcast_to"], (_copy(b, one),), (("shape", v.shape),))[0]


def runs(n: Node, i: int) -> list[tuple[int, int]] | None:
    """Axes first … last − 1 of an operand that native code walks through with one stride; None if it has no limits."""
    rank, axis = len(n.inputs[i].shape), dict(n.attrs).get("axis", 0)
    if n.op.name == "scatter_sum" or (n.op.name in _WRITERS and i > 0):
        which = len(n.inputs) - 1 if n.op.name == "scatter_sum" else 1
        if i == which:
            return [(0, rank)]
        end = axis + len(n.inputs[which].shape)
        return [(0, axis), (axis, end), (end, rank)]
    if n.op.name in ("cumsum", "cumprod", "argsort", "sort", "top_k"):
        return [(0, axis), (axis, axis + 1), (axis + 1, rank)]
    if n.op.name in ("fft", "rfft", "irfft"):
        axes = n.attr("axes")
        axis = axes[0 if n.op.name == "irfft" else -1]  # the first one along which it is transformed
        return [(0, axis), (axis, axis + 1), (axis + 1, rank)]
    if n.op.name == "search":
        return [(0, rank - 1), (rank - 1, rank)]
    if n.op.name in _ON_MATRICES:
        return [(0, rank - 2), (rank - 2, rank - 1), (rank - 1, rank)]
    return None


def _even(b: Builder, n: Node, i: int, v: Value) -> Value:
    """A copy of an operand whose elements are not spaced as native code needs them."""
    limits = runs(n, i)
    if (n.op.name == "matmul" and v.dtype.kind in "iu") or (n.op.name in _SYSTEMS and v.dtype.kind == "f"):
        return _even_batch(b, n, v)
    if limits is None:
        return v
    lay = Layouts().of(v)
    assert lay is not None
    if all(even(v.shape[a:z], lay.strides[a:z]) is not None for a, z in limits):
        return v
    return _copy(b, v)


def _even_batch(b: Builder, n: Node, v: Value) -> Value:
    """A product's operand with batch axes that are evenly spaced also where they are repeated."""
    whole = (*n.out.shape[:-2], *v.shape[-2:])
    spread = b.emit(OPS["broadcast_to"], (v,), (("shape", whole),))[0] if v.shape != whole else v
    lay = Layouts().of(spread)
    assert lay is not None
    return v if even(whole[:-2], lay.strides[:-2]) is not None else _copy(b, spread)


def _in_two_loops(b: Builder, n: Node, inputs: list[Value], brought: dict[Value, Value]) -> list[Value]:
    """A product's operands with a batch that takes two loops at most, and with no short rows that lie far apart."""

    def loops(xs: list[Value]) -> int:
        w = walk(Node(n.op, tuple(xs), n.attrs, [n.out.type], b.scope, n.loc), Layouts())
        assert w is not None
        return len(w.levels())

    def copied(v: Value) -> Value:
        if v not in brought:
            brought[v] = _even_batch(b, n, v)
        return brought[v]

    if loops(inputs) > 1:
        inputs = [copied(v) if scattered(v) else v for v in inputs]
    return [copied(v) for v in inputs] if loops(inputs) > LOOPS else inputs


def _contiguous_right(b: Builder, n: Node, inputs: list[Value]) -> Node:
    """A product of integers whose right operand has rows that are contiguous in memory."""
    attrs, y = dict(n.attrs), inputs[1]
    lay = Layouts().of(y)
    assert lay is not None
    if lay.strides[-2 if attrs.get("tb") else -1] != 1 and not is_unit(n.out.shape[-1]):
        if attrs.pop("tb", False):
            rank = len(y.shape)
            y = b.emit(OPS["transpose"], (y,), (("perm", (*range(rank - 2), rank - 1, rank - 2)),))[0]
        inputs = [inputs[0], _copy(b, y)]
    return Node(n.op, tuple(inputs), freeze(attrs), [o.type for o in n.outs], b.scope, n.loc)


def _again(b: Builder, n: Node, inputs: list[Value], env: dict[Value, Value]) -> None:
    node = Node(n.op, tuple(inputs), n.attrs, [o.type for o in n.outs], b.scope, n.loc)
    b.nodes.append(node)
    env.update(zip(n.outs, node.outs, strict=True))


def tiny_products(graph: Graph) -> Graph:
    """Products with at most 8 columns and summands become elementwise sums, which fuse with what is around them."""
    hit = [n for n in graph.nodes if n.op.name == "matmul" and _tiny(n)]
    if not hit:
        return graph
    b = Builder()
    env: dict[Value, Value] = {p: b.param(p.type) for p in graph.params}
    for n in graph.nodes:
        inputs = [env[v] for v in n.inputs]
        if n in hit:
            b.loc = n.loc
            env[n.out] = _expand(b, n, inputs)
            b.loc = None
        else:
            _again(b, n, inputs, env)
    return b.finish(graph.name, [env[r] for r in graph.results])


def _attr(n: Node, name: str) -> bool:
    return bool(dict(n.attrs).get(name, False))


def _tiny(n: Node) -> bool:
    a, c = n.inputs
    if len(a.shape) != 2 or len(c.shape) != 2 or a.dtype.kind == "c":
        return False
    ta, tb = _attr(n, "ta"), _attr(n, "tb")
    m, k = (a.shape[1], a.shape[0]) if ta else (a.shape[0], a.shape[1])
    cols = c.shape[0] if tb else c.shape[1]
    small = [type(d) is int and d <= TINY for d in (m, k, cols)]
    if small[1] and type(k) is int and k > 0 and type(cols) is int and 0 < cols * k <= TINY:
        return True  # every column is a sum of k products
    return bool(small[0] and small[2] and 0 < m * cols <= TINY and hint(k) > TINY)


def _expand(b: Builder, n: Node, inputs: list[Value]) -> Value:
    a, c = inputs
    ta, tb = _attr(n, "ta"), _attr(n, "tb")
    m, k = (a.shape[1], a.shape[0]) if ta else (a.shape[0], a.shape[1])
    cols = c.shape[0] if tb else c.shape[1]

    def line(x: Value, axis: int, at: int) -> Value:
        """x[at, :] (axis 0) or x[:, at] (axis 1) as a vector."""
        size = tuple(1 if i == axis else d for i, d in enumerate(x.shape))
        start = tuple(at if i == axis else 0 for i in range(2))
        s = b.emit(OPS["slice"], (x,), (("size", size), ("start", start), ("step", (1, 1))))[0]
        return b.emit(OPS["reshape"], (s,), (("shape", (x.shape[1 - axis],)),))[0]

    def cell(x: Value, i: int, j: int) -> Value:
        s = b.emit(OPS["slice"], (x,), (("size", (1, 1)), ("start", (i, j)), ("step", (1, 1))))[0]
        return b.emit(OPS["reshape"], (s,), (("shape", ()),))[0]

    if type(k) is int and k <= TINY and type(cols) is int and cols * k <= TINY:
        parts = []
        for j in range(cols):
            total = None
            for i in range(k):
                w = cell(c, j, i) if tb else cell(c, i, j)
                term = b.emit(OPS["mul"], (line(a, 0 if ta else 1, i), w))[0]
                total = term if total is None else b.emit(OPS["add"], (total, term))[0]
            assert total is not None
            parts.append(b.emit(OPS["reshape"], (total,), (("shape", (m, 1)),))[0])
        return parts[0] if len(parts) == 1 else b.emit(OPS["concat"], tuple(parts), (("axis", 1),))[0]
    cells = []
    for i in range(int(m)):
        for j in range(int(cols)):
            p = b.emit(OPS["mul"], (line(a, 1 if ta else 0, i), line(c, 0 if tb else 1, j)))[0]
            s = b.emit(OPS["reduce_sum"], (p,), (("axis", (0,)),))[0]
            cells.append(b.emit(OPS["reshape"], (s,), (("shape", (1,)),))[0])
    whole = cells[0] if len(cells) == 1 else b.emit(OPS["concat"], tuple(cells), (("axis", 0),))[0]
    return b.emit(OPS["reshape"], (whole,), (("shape", (m, cols)),))[0]
