"""Rewrite rules about attributes: axes, shapes and slices of movement ops, reductions and matrix products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracejit.ir.dim import Dim
from tracejit.ir.graph import Builder, Const, Node, Value, freeze
from tracejit.ir.op import Op
from tracejit.ir.sizes import hint, product
from tracejit.ir.types import DType, int64
from tracejit.ops.shape import resolve_shape
from tracejit.passes.match import (
    EXACT,
    FINITE,
    Level,
    Rewrite,
    const_of,
    epsilon,
    literal,
    make,
    producer,
    rewrite,
    splat_of,
)
from tracejit.passes.ranges import range_of, wrapped

MOVEMENT: list[Rewrite] = []
Attributes = dict[str, Any]
Inputs = tuple[Value, ...]
Size = int | Dim


def _is(d: Size, n: int) -> bool:
    return type(d) is int and d == n


def _maker(v: Value) -> Node:
    assert v.node is not None
    return v.node


def _without_ones(shape: tuple[Size, ...]) -> tuple[Size, ...]:
    return tuple([d for d in shape if not _is(d, 1)])


# --- reshape, transpose -------------------------------------------------------------------------------------------
@rewrite(MOVEMENT, "reshape to the same shape", "reshape", EXACT)
def _same_reshape(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    shape = resolve_shape(inputs[0].shape, attrs["shape"])
    if shape == inputs[0].shape:
        return inputs[0]
    return make(b, "reshape", inputs[0], shape=shape) if shape != attrs["shape"] else None


@rewrite(MOVEMENT, "reshape of reshape", "reshape", EXACT, "reshape")
def _reshape_of_reshape(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    return make(b, "reshape", _maker(inputs[0]).inputs[0], shape=attrs["shape"])


@rewrite(MOVEMENT, "reshape of one repeated element", "reshape", EXACT, "broadcast_to")
def _reshape_of_broadcast(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    x = _maker(inputs[0]).inputs[0]
    if _without_ones(x.shape):
        return None
    return make(b, "broadcast_to", make(b, "reshape", x, shape=()), shape=attrs["shape"])


@rewrite(MOVEMENT, "transpose that moves nothing", "transpose", EXACT)
def _idle_transpose(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    x, perm = inputs[0], attrs["perm"]
    moved = [p for p in perm if not _is(x.shape[p], 1)]
    if moved != sorted(moved):
        return None
    return make(b, "reshape", x, shape=tuple([x.shape[p] for p in perm]))


@rewrite(MOVEMENT, "transpose of transpose", "transpose", EXACT, "transpose")
def _transpose_of_transpose(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    n = _maker(inputs[0])
    first = n.attr("perm")
    return make(b, "transpose", n.inputs[0], perm=tuple([first[p] for p in attrs["perm"]]))


# --- broadcasting -------------------------------------------------------------------------------------------------
@rewrite(MOVEMENT, "broadcast that repeats nothing", "broadcast_to", EXACT)
def _idle_broadcast(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    x, shape = inputs[0], attrs["shape"]
    lead = len(shape) - len(x.shape)
    if shape[lead:] == x.shape and all(_is(d, 1) for d in shape[:lead]):
        return make(b, "reshape", x, shape=shape) if lead else x
    return None


@rewrite(MOVEMENT, "broadcast of broadcast", "broadcast_to", EXACT, "broadcast_to")
def _broadcast_of_broadcast(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    return make(b, "broadcast_to", _maker(inputs[0]).inputs[0], shape=attrs["shape"])


@rewrite(MOVEMENT, "broadcast of leading ones", "broadcast_to", EXACT, "reshape")
def _broadcast_of_reshape(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    inner = _unled(inputs[0])
    return None if inner is inputs[0] else make(b, "broadcast_to", inner, shape=attrs["shape"])


def _unled(v: Value) -> Value:
    """v without a reshape that only puts axes of size 1 in front: broadcasting adds them by itself."""
    if not producer(v, "reshape"):
        return v
    x = _maker(v).inputs[0]
    lead = len(v.shape) - len(x.shape)
    return x if lead > 0 and v.shape[lead:] == x.shape and all(_is(d, 1) for d in v.shape[:lead]) else v


def _small(b: Builder, v: Value) -> Value:
    """v before it was broadcast."""
    if producer(v, "broadcast_to"):
        return _maker(v).inputs[0]
    if not v.shape:
        return v
    splat = splat_of(v)
    return _unled(v) if splat is None else literal(b, splat, v.dtype)


@rewrite(MOVEMENT, "broadcast after the operation", "@elementwise", EXACT)
def _broadcast_later(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    small = tuple([_small(b, v) for v in inputs])
    return b.emit(op, small, freeze(attrs))[0] if small != inputs else None


def _reduced(v: Value, axis: tuple[int, ...]) -> tuple[Size, ...]:
    return tuple([d for i, d in enumerate(v.shape) if i not in axis])


# --- slices -------------------------------------------------------------------------------------------------------
@rewrite(MOVEMENT, "slice of everything", "slice", EXACT)
def _whole_slice(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    return inputs[0] if attrs["size"] == inputs[0].shape and _whole(attrs) else None


def _whole(attrs: Attributes) -> bool:
    return all(_is(s, 0) for s in attrs["start"]) and all(_is(s, 1) for s in attrs["step"])


@rewrite(MOVEMENT, "slice of slice", "slice", EXACT, "slice")
def _slice_of_slice(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    n = _maker(inputs[0])
    s0, t0 = n.attr("start"), n.attr("step")
    start = tuple([a + c * t for a, c, t in zip(s0, attrs["start"], t0, strict=True)])
    step = tuple([t * u for t, u in zip(t0, attrs["step"], strict=True)])
    return make(b, "slice", n.inputs[0], start=start, size=attrs["size"], step=step)


@rewrite(MOVEMENT, "slice of one part of a concat", "slice", EXACT, "concat")
def _slice_of_concat(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    n = _maker(inputs[0])
    axis = n.attr("axis")
    first, size, step = attrs["start"][axis], attrs["size"][axis], attrs["step"][axis]
    if not all(type(x) is int for x in (first, size, step)) or size == 0:
        return None
    last = first + (size - 1) * step
    low, high, at = min(first, last), max(first, last), 0
    for x in n.inputs:
        d = x.shape[axis]
        if type(d) is not int:
            return None
        if at <= low and high < at + d:
            start = tuple([s - at if i == axis else s for i, s in enumerate(attrs["start"])])
            return make(b, "slice", x, start=start, size=attrs["size"], step=attrs["step"])
        at += d
    return None


@rewrite(MOVEMENT, "slice of broadcast", "slice", EXACT, "broadcast_to")
def _slice_of_broadcast(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    x = _maker(inputs[0]).inputs[0]
    lead = len(inputs[0].shape) - len(x.shape)
    start, size, step = (list(attrs[k][lead:]) for k in ("start", "size", "step"))
    for i, d in enumerate(x.shape):
        if _is(d, 1):
            start[i], size[i], step[i] = 0, 1, 1
    inner = make(b, "slice", x, start=tuple(start), size=tuple(size), step=tuple(step))
    return make(b, "broadcast_to", inner, shape=attrs["size"])


@rewrite(MOVEMENT, "slice of what was placed", "slice", EXACT, "place")
def _slice_of_place(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    n = _maker(inputs[0])
    x = n.inputs[0]
    same = attrs["start"] == n.attr("start") and attrs["step"] == n.attr("step") and attrs["size"] == x.shape
    return x if same else None


@rewrite(MOVEMENT, "place that fills everything", "place", EXACT)
def _whole_place(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    return inputs[0] if attrs["shape"] == inputs[0].shape and _whole(attrs) else None


@rewrite(MOVEMENT, "update of everything", "update", EXACT)
def _whole_update(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    return inputs[1] if inputs[0].shape == inputs[1].shape and _whole(attrs) else None


@rewrite(MOVEMENT, "concat flattened", "concat", EXACT)
def _flat_concat(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    axis = attrs["axis"]
    parts: list[Value] = []
    for x in inputs:
        inner = producer(x, "concat") and _maker(x).attr("axis") == axis
        parts += _maker(x).inputs if inner else [x]
    parts = [x for x in parts if not _is(x.shape[axis], 0)] or parts[:1]
    joined: list[Value] = []
    for x in parts:
        both = _join_slices(b, joined[-1], x, axis) if joined else None
        if both is None:
            joined.append(x)
        else:
            joined[-1] = both
    if len(joined) == 1:
        return joined[0]
    return make(b, "concat", *joined, axis=axis) if len(joined) != len(inputs) else None


def _join_slices(b: Builder, x: Value, y: Value, axis: int) -> Value | None:
    """The one slice that x and y, neighbours along `axis`, make together."""
    if not (producer(x, "slice") and producer(y, "slice")) or _maker(x).inputs != _maker(y).inputs:
        return None
    p, q = dict(_maker(x).attrs), dict(_maker(y).attrs)
    rest = [i for i in range(len(x.shape)) if i != axis]
    if p["step"] != q["step"] or any(p[k][i] != q[k][i] for k in ("start", "size") for i in rest):
        return None
    if q["start"][axis] - p["start"][axis] - p["size"][axis] * p["step"][axis] != 0:
        return None
    size = tuple([d + q["size"][i] if i == axis else d for i, d in enumerate(p["size"])])
    return make(b, "slice", _maker(x).inputs[0], start=p["start"], size=size, step=p["step"])


@rewrite(MOVEMENT, "one number of a range", "slice", EXACT, None)
def _slice_range(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    (x,) = inputs
    if len(x.shape) != 1 or not _is(attrs["size"][0], 1) or type(attrs["start"][0]) is not int:
        return None
    r = range_of(x)
    if r is None or type(r.start) is not int:
        return None
    return wrapped(b, r.start + attrs["start"][0] * r.step, r.dtype, (1,))


# --- gather -------------------------------------------------------------------------------------------------------
@rewrite(MOVEMENT, "gather of every index in order", "gather", EXACT, None, "iota")
def _gather_iota(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    x, i = inputs
    return x if i.shape == (x.shape[attrs["axis"]],) else None


@rewrite(MOVEMENT, "gather of one known index", "gather", EXACT, None, "constant")
def _gather_one(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    x, i = inputs
    axis, k, n = attrs["axis"], splat_of(i), x.shape[attrs["axis"]]
    if k is None or type(n) is not int or not -n <= int(k) < n:
        return None
    one = _along(b, x, axis, int(k) % n, 1, 1)
    ones = make(b, "reshape", one, shape=x.shape[:axis] + (1,) * len(i.shape) + x.shape[axis + 1 :])
    return make(b, "broadcast_to", ones, shape=x.shape[:axis] + i.shape + x.shape[axis + 1 :])


@rewrite(MOVEMENT, "gather of evenly spaced indices", "gather", EXACT, None, "constant")
def _gather_line(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    x, c = inputs[0], const_of(inputs[1])
    n = x.shape[attrs["axis"]]
    if c is None or c.array is None or c.array.ndim != 1 or c.array.size < 2 or type(n) is not int:
        return None
    at = c.array.astype(np.int64)
    step = int(at[1] - at[0])
    if at.min() < 0 or at.max() >= n or step == 0 or (np.diff(at) != step).any():
        return None
    return _along(b, x, attrs["axis"], int(at[0]), at.size, step)


def _along(b: Builder, x: Value, axis: int, start: int, size: int, step: int) -> Value:
    """A slice along one axis."""
    axes = range(len(x.shape))
    return make(
        b, "slice", x, start=tuple([start if a == axis else 0 for a in axes]),
        size=tuple([size if a == axis else d for a, d in enumerate(x.shape)]),
        step=tuple([step if a == axis else 1 for a in axes]),
    )  # fmt: skip


# --- reductions ---------------------------------------------------------------------------------------------------
def _reduction(name: str) -> None:
    exact = EXACT if name not in ("reduce_sum", "reduce_prod") else FINITE
    _reduction_of_one(name)

    @rewrite(MOVEMENT, f"{name} of transpose", name, exact, "transpose")
    def transposed(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
        n = _maker(inputs[0])
        perm = n.attr("perm")
        axis = tuple(sorted([perm[a] for a in attrs["axis"]]))
        rest = [p for i, p in enumerate(perm) if i not in attrs["axis"]]
        y = make(b, name, n.inputs[0], axis=axis)
        order = sorted(rest)
        return make(b, "transpose", y, perm=tuple([order.index(p) for p in rest]))

    if name != "reduce_prod":
        _reduction_of_repeated(name, exact)


def _reduction_of_one(name: str) -> None:
    """Over axes of size 1."""

    def alone(b: Builder, x: Value, axis: tuple[int, ...]) -> Value | None:
        return make(b, "reshape", x, shape=_reduced(x, axis)) if all(_is(x.shape[a], 1) for a in axis) else None

    if name == "reduce_sum":

        @rewrite(MOVEMENT, "reduce_sum of one element", name, EXACT)
        def from_zero(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
            """A sum starts from 0, which turns −0 into 0."""
            y = alone(b, inputs[0], attrs["axis"])
            if y is None or y.dtype.kind not in "fc":
                return y
            return make(b, "add", y, make(b, "constant", value=Const(None, 0, (), y.dtype)))

    @rewrite(MOVEMENT, f"{name} of one element", name, FINITE if name == "reduce_sum" else EXACT)
    def single(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
        return alone(b, inputs[0], attrs["axis"])


def _reduction_of_repeated(name: str, exact: Level) -> None:
    """Over axes along which one value is repeated."""

    @rewrite(MOVEMENT, f"{name} of broadcast", name, exact, "broadcast_to")
    def repeated(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
        full, x = inputs[0], _maker(inputs[0]).inputs[0]
        lead = len(full.shape) - len(x.shape)
        own = (1,) * lead + x.shape
        gone = tuple([a for a in attrs["axis"] if _is(own[a], 1) and not _is(full.shape[a], 1)])
        times = _repeat(b, name, product(tuple([full.shape[a] for a in gone])), x.dtype) if gone else None
        if times is None:
            return None
        kept = make(b, "reshape", x, shape=tuple([d for i, d in enumerate(own) if i not in gone]))
        kept = make(b, "broadcast_to", kept, shape=_reduced(full, gone))
        left = tuple([a - sum(g < a for g in gone) for a in attrs["axis"] if a not in gone])
        y = make(b, name, kept, axis=left)
        return y if times is _ONCE else make(b, "mul", y, times)

    @rewrite(MOVEMENT, f"{name} of one repeated value", name, exact, "constant")
    def splat(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
        x, s = inputs[0], splat_of(inputs[0])
        if s is None:
            return None
        times = _repeat(b, name, product(tuple([x.shape[a] for a in attrs["axis"]])), x.dtype)
        if times is None:
            return None
        y = literal(b, s, x.dtype, _reduced(x, attrs["axis"]))
        return y if times is _ONCE else make(b, "mul", y, times)


_ONCE: Any = object()


def _repeat(b: Builder, name: str, count: Size, dtype: DType) -> Any:
    """What a reduction of `count` equal elements multiplies them by; None if that is not known or not exact."""
    if name != "reduce_sum":
        return _ONCE if type(count) is int and count > 0 else None
    if dtype.kind == "f":
        digits = 1 - round(math.log2(epsilon(dtype)))
        if hint(count) > 2 ** min(digits, 24) or (type(count) is not int and digits < 24):
            return None
    if type(count) is int:
        return literal(b, count, dtype)
    return make(b, "cast", make(b, "dim", size=count), dtype=dtype)


for _name in ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_all", "reduce_any"):
    _reduction(_name)


def _arg(name: str) -> None:
    @rewrite(MOVEMENT, f"{name} of one element", name, EXACT)
    def single(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
        axis = attrs["axis"]
        return literal(b, 0, int64, _reduced(inputs[0], (axis,))) if _is(inputs[0].shape[axis], 1) else None


_arg("argmax")
_arg("argmin")


# --- matrix products ----------------------------------------------------------------------------------------------
def _swapped(v: Value) -> Value | None:
    """What v is the transpose of over its last two axes."""
    if not producer(v, "transpose"):
        return None
    n = _maker(v)
    perm, last = n.attr("perm"), len(v.shape) - 1
    return n.inputs[0] if perm == (*range(last - 1), last, last - 1) else None


@rewrite(MOVEMENT, "transpose into matmul", "matmul", FINITE)
def _fold_transpose(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    a, c = (_swapped(v) for v in inputs)
    if a is None and c is None:
        return None
    ta, tb = bool(attrs.get("ta")) != (a is not None), bool(attrs.get("tb")) != (c is not None)
    return make(b, "matmul", a or inputs[0], c or inputs[1], **_flags(ta, tb))


def _flags(ta: bool, tb: bool) -> dict[str, bool]:
    """matmul's attributes, those that are False left out so that equal products have equal attributes."""
    return {k: True for k, v in (("ta", ta), ("tb", tb)) if v}


@rewrite(MOVEMENT, "matmul without idle flags", "matmul", EXACT)
def _idle_flags(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    flags = _flags(attrs.get("ta", False), attrs.get("tb", False))
    return make(b, "matmul", *inputs, **flags) if flags != attrs else None


@rewrite(MOVEMENT, "matmul repeats batches by itself", "matmul", FINITE)
def _batch_broadcast(b: Builder, op: Op, inputs: Inputs, attrs: Attributes) -> Value | None:
    x, y = inputs
    small = _matrices(x), _matrices(y)
    for pair in ((small[0], y), (x, small[1])):
        if pair != inputs:
            t = op.infer(*[v.type for v in pair], **attrs)
            if t.shape == op.infer(x.type, y.type, **attrs).shape:
                return make(b, "matmul", *pair, **attrs)
    return None


def _matrices(v: Value) -> Value:
    if not producer(v, "broadcast_to"):
        return v
    x = _maker(v).inputs[0]
    return x if len(x.shape) >= 2 and x.shape[-2:] == v.shape[-2:] else v
