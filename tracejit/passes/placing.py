"""Which values are computed right where a concat, place or update puts them, so that nothing is copied there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.sizes import hint, is_unit, product
from tracejit.passes.fuse import Fuser
from tracejit.passes.groups import Group, is_view, joins, kind_of
from tracejit.passes.layout import Layout, Layouts, Size, contiguous, even, reshaped
from tracejit.passes.products import has_tiles

RUN = 32  # contiguous elements from which a row is worth a loop of its own
FEW = 512


def parts(n: Node) -> Iterator[tuple[Value, tuple[Size, ...], tuple[Size, ...]]]:
    """The operands that a concat, place or update puts into its result, each with start and step."""
    ones = (1,) * len(n.out.shape)
    if n.op.name != "concat":
        yield n.inputs[-1], n.attr("start"), n.attr("step")
        return
    at: Size = 0
    axis = n.attr("axis")
    for v in n.inputs:
        yield v, tuple([at if i == axis else 0 for i in range(len(ones))]), ones
        at = at + v.shape[axis]


def region(whole: Layout, start: Sequence[Size], step: Sequence[Size]) -> Layout:
    """Where a part lies in its whole."""
    at = whole.offset
    for b, s in zip(start, whole.strides, strict=True):
        at = at + b * s
    return Layout(whole.base, at, tuple([s * k for s, k in zip(whole.strides, step, strict=True)]), whole.part)


def around(
    shape: Sequence[Size], start: Sequence[Size], size: Sequence[Size]
) -> Iterator[tuple[tuple[Size, ...], tuple[Size, ...]]]:
    """Start and size of the boxes that make up what lies outside of one box."""
    lead: list[tuple[Size, Size]] = []
    for i, (d, b, n) in enumerate(zip(shape, start, size, strict=True)):
        for first, count in ((0, b), (b + n, d - b - n)):
            if count != 0:
                box = [*lead, (first, count), *[(0, e) for e in shape[i + 1 :]]]
                yield tuple([x for x, _ in box]), tuple([x for _, x in box])
        lead.append((b, n))


def place_parts(fuser: Fuser, items: Sequence[Group | Node], graph: Graph, layouts: Layouts) -> None:
    """Give each value that only a concat, place or update reads its place in the result of that."""
    written = set(_written(items))
    for n in reversed(graph.nodes):
        if not joins(n):
            continue
        whole = layouts.place(n.out)
        for v, start, step in parts(n):
            if all(type(k) is int and k == 1 for k in step):
                found = _behind(v, region(whole, start, step))
                if found is not None and found[0] in written and _alone(fuser, found[0], v) and _worth(*found):
                    layouts.places[found[0]] = found[1]
                    layouts.placed.add((n, v))


def _written(items: Sequence[Group | Node]) -> Iterator[Value]:
    """Values whose elements are written one by one, wherever they lie."""
    for item in items:
        if isinstance(item, Node):
            if joins(item) or _in_tiles(item):
                yield item.out
        else:
            for n in item.nodes:
                if n.out.dtype.kind != "c" and not (n in item.inner and kind_of(item, n) == "late"):
                    yield n.out


def _in_tiles(n: Node) -> bool:
    """Whether a node is a product whose tiles are written wherever they belong."""
    return n.op.name == "matmul" and has_tiles(n.out) and not any(is_unit(d) for d in n.out.shape[-2:])


def _behind(v: Value, at: Layout) -> tuple[Value, Layout] | None:
    """The value that `v` is another shape of, and where it lies when `v` lies at `at`."""
    strides = at.strides
    while v.node is not None and is_view(v.node):
        x = v.node.inputs[0]
        if v.node.op.name == "reshape":
            found = reshaped(v.shape, strides, x.shape)
            if found is None:
                return None
            strides = found
        elif v.node.op.name == "transpose":
            strides = tuple([s for _, s in sorted(zip(v.node.attr("perm"), strides, strict=True), key=_axis)])
        elif v.node.op.name not in ("identity", "stop_gradient"):
            return None
        v = x
    return v, Layout(at.base, at.offset, strides)


def _axis(pair: tuple[int, Size]) -> int:
    return pair[0]


def _alone(fuser: Fuser, v: Value, seen: Value) -> bool:
    """Whether `v` is read once, as the operand `seen`."""
    uses = fuser.uses(v)
    return len(uses) == 1 and uses[0][1] is seen and uses[0][0].inputs.count(seen) == 1 and not fuser.is_result(v)


def _worth(v: Value, at: Layout) -> bool:
    """Whether a loop can write there as quickly as into memory of its own: not by many short rows."""
    if even(v.shape, at.strides) is not None or hint(product(v.shape)) <= FEW:
        return True
    run: Size = 1
    for d, s, t in reversed(list(zip(v.shape, at.strides, contiguous(v.shape), strict=True))):
        if not is_unit(d) and s != t:
            break
        run = run * d
    return hint(run) >= RUN
