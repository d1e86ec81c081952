"""Which products take what windows see of an image, so that their patches need not be put side by side in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracejit.ir.graph import Node, Value
from tracejit.ir.sizes import is_unit
from tracejit.passes.fuse import Fuser
from tracejit.passes.layout import Layout, Layouts, Size

AXES = 3  # spatial axes that native code knows


@dataclass(frozen=True)
class Patches:
    """A matrix with a row for each place of a window: for each position what it sees there, all channels of a pixel.

    joined   the node that would put the parts side by side
    image    where [batch, spatial…, channels] lies; what is seen beyond it is zero
    starts   of each position, the spatial coordinates at the first place
    step     from place to place
    count    places along each spatial axis
    """

    joined: Node
    shape: tuple[Size, ...]
    image: Layout
    starts: tuple[tuple[Size, ...], ...]
    step: tuple[Size, ...]
    count: tuple[Size, ...]


@dataclass(frozen=True)
class _Seen:
    """What a part sees: element i of it is element start + i · step of `value`, or zero beyond that."""

    value: Value
    start: tuple[Size, ...]
    step: tuple[Size, ...]


def patches_of(n: Node, fuser: Fuser, layouts: Layouts) -> Patches | None:
    """The patches that a product's left operand consists of, if nothing but such products reads them."""
    joined = _joined(n.inputs[0])
    if joined is None or n.inputs[0].dtype.bits == 16 or len(n.out.shape) != 2:
        return None
    out = joined.out
    if fuser.is_result(out) or not all(_only_left(u, out) for u, _ in fuser.uses(out)):
        return None
    if out in layouts.places or any((joined, v) in layouts.placed for v in joined.inputs):
        return None
    return _found(joined, layouts)


def _joined(v: Value) -> Node | None:
    """The concat along channels that a matrix shows."""
    depth = v.shape[-1]
    while v.node is not None and v.node.op.name in ("reshape", "identity", "stop_gradient"):
        v = v.node.inputs[0]
    n = v.node
    if n is None or n.op.name != "concat" or n.attr("axis") != len(v.shape) - 1 or v.shape[-1] != depth:
        return None
    return n if 3 <= len(v.shape) <= AXES + 2 else None


def _only_left(u: Node, v: Value) -> bool:
    """Whether `u` is a product that reads `v` as the matrix on its left only."""
    if u.op.name != "matmul" or len(u.out.shape) != 2:
        return False
    left, right = (_joined(x) for x in u.inputs)
    return left is v.node and right is not left


def _found(joined: Node, layouts: Layouts) -> Patches | None:
    target = _image(joined.inputs, layouts)
    seen = [_seen(v, target) for v in joined.inputs]
    shape, rank = target.shape, len(target.shape)
    lay = layouts.of(target)
    if lay is None or lay.part is not None or rank != len(joined.out.shape) or any(s is None for s in seen):
        return None
    each = [s for s in seen if s is not None]
    own = joined.inputs[0].shape
    if any(v.shape != own for v in joined.inputs) or any(s.step != each[0].step for s in each):
        return None
    for i in (0, rank - 1):  # the batch and the channels are seen as a whole
        if own[i] != shape[i] or any(s.start[i] != 0 or s.step[i] != 1 for s in each):
            return None
    if not (is_unit(shape[-1]) or lay.strides[-1] == 1):
        return None
    inner = slice(1, rank - 1)
    return Patches(joined, shape, lay, tuple([s.start[inner] for s in each]), each[0].step[inner], own[inner])


def _image(views: Sequence[Value], layouts: Layouts) -> Value:
    """What all parts show: what zeros are put around, or what they are cut from."""
    for v in views:
        x = _below_slices(v)
        if _pads(x):
            n = x.node
            assert n is not None
            return x if (n, n.inputs[0]) in layouts.placed else n.inputs[0]
    v = views[0]
    return v.node.inputs[0] if v.node is not None and v.node.op.name == "slice" else v


def _below_slices(v: Value) -> Value:
    while v.node is not None and v.node.op.name == "slice":
        v = v.node.inputs[0]
    return v


def _pads(v: Value) -> bool:
    """Whether a value is another one with zeros around it."""
    n = v.node
    if n is None or n.op.name != "place":
        return False
    return n.attr("fill") == 0 and all(type(s) is int and s == 1 for s in n.attr("step"))


def _seen(v: Value, target: Value) -> _Seen | None:
    rank = len(v.shape)
    start: tuple[Size, ...] = (0,) * rank
    step: tuple[Size, ...] = (1,) * rank
    while v is not target:
        n = v.node
        if n is None or n.op.name not in ("slice", "place"):
            return None
        if n.op.name == "slice":
            start = tuple([b + a * s for a, b, s in zip(start, n.attr("start"), n.attr("step"), strict=True)])
            step = tuple([a * s for a, s in zip(step, n.attr("step"), strict=True)])
        elif _pads(v):
            start = tuple([a - b for a, b in zip(start, n.attr("start"), strict=True)])
        else:
            return None
        v = n.inputs[0]
    return _Seen(v, start, step)
