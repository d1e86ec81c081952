"""The native code that makes arrays of zeros and of ranges, counts and picks elements, and cuts at even steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from tracejit.lower.llvm import NULL, Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.arithmetic import (
    Element,
    element_of,
    record_of,
    return_at_labels,
    return_wrapped,
    size_of,
    words,
)
from tracejit.runtime.boundary import decref, field, incref, nonzero, switch, sym
from tracejit.runtime.recast import LARGEST, find_type
from tracejit.runtime.shapes import listed, moving, shown
from tracejit.runtime.views import RANK, integer, is_exact, move, rank_of, require_quiet

_INTEGERS: Final = {
    "bool": "i8", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "uint8": "i8", "uint16": "i16",
    "uint32": "i32", "uint64": "i64",
}  # fmt: skip
_REAL: Final = {"float32": "float", "float64": "double"}
_BY_SIZE: Final = {1: "i8", 2: "i16", 4: "i32", 8: "i64"}
_SHORT: Final = 64  # tensors that are made at once
_FARTHEST: Final = 1 << 40  # steps, whose products with strides have 64 bits


def _number(name: str) -> int:
    return int(np.dtype(name).num)


def _is_whole(f: Fn, array: Val) -> Val:
    """Whether the elements lie one behind the other, in C's order."""
    return nonzero(f, f.and_(field(f, array, layout.ARRAY_FLAGS, "i32"), const("i32", layout.C_CONTIGUOUS)))


def _number_at(f: Fn, items: Val, i: Val, overflow: Val) -> Val:
    """An exact int of a list."""
    item = f.load("ptr", f.gep(items, i, "ptr"))
    f.guard(is_exact(f, item, "tj_int"), "miss")
    return integer(f, item, overflow)


def _define_zeros(m: Module) -> None:
    """`ptr zeros(shape, dtype)`: a Tensor of zeros, or MISS."""
    f = m.function("zeros", [("shape", "ptr"), ("dtype", "ptr")], "ptr", internal=True)
    require_quiet(f)
    items, n = listed(f, f.args[0], alone=True)
    kind = record_of(f, find_type(f, f.args[1]))
    dims, overflow = f.alloca(8 * RANK, 8), f.alloca(4, 4)

    def axis(i: Val, total: Val) -> list[Val]:
        d = _number_at(f, items, i, overflow)
        f.guard(f.cmp("ult", f.sub(d, i64(1)), i64(LARGEST)), "miss")
        f.store(d, f.gep(dims, i, "i64"))
        more = f.mul(total, d)
        f.guard(f.cmp("ule", more, i64(LARGEST)), "miss")
        return [more]

    (total,) = f.loop(0, n, axis, [i64(1)])
    size = f.mul(total, words(f, kind, Element.SIZE))
    out = f.call("tj_array", [words(f, kind, Element.DESCR, "ptr"), f.cast("trunc", n, "i32"), dims, size], "ptr")
    f.guard(nonzero(f, out), "error")
    clear = m.declare("llvm.memset.p0.i64", "void", ["ptr", "i8", "i64", "i1"])
    f.call(clear, [field(f, out, layout.ARRAY_DATA), const("i8", 0), size, const("i1", 0)])
    return_wrapped(f, out)


def _define_count(m: Module) -> None:
    """`ptr count(x)`: how many elements of a tensor are not 0, as an int64 Tensor, or MISS."""
    f, array = moving(m, "count", 1)
    index, _ = element_of(f, array)
    n = size_of(f, array)
    f.guard(_is_whole(f, array), "miss")
    f.guard(f.cmp("ule", n, i64(LARGEST)), "miss")
    data, place = field(f, array, layout.ARRAY_DATA), f.alloca(8, 8)

    def count(ty: str, test: str) -> Callable[[], None]:
        def one(i: Val, found: Val) -> list[Val]:
            v = f.load(ty, f.gep(data, i, ty), align=1)
            return [f.add(found, f.cast("zext", f.cmp(test, v, const(ty, 0)), "i64"))]

        return lambda: f.store(f.loop(0, n, one, [i64(0)])[0], place)

    arms = {_number(name): count(ty, "ne") for name, ty in _INTEGERS.items()}
    arms |= {_number(name): count(ty, "une") for name, ty in _REAL.items()}
    switch(f, index, arms, "miss")
    descr = words(f, record_of(f, i64(_number("int64"))), Element.DESCR, "ptr")
    out = f.call("tj_array", [descr, const("i32", 0), NULL, i64(8)], "ptr")
    f.guard(nonzero(f, out), "error")
    f.store(f.load("i64", place), field(f, out, layout.ARRAY_DATA))
    return_wrapped(f, out)


def _define_chosen(m: Module) -> None:
    """`ptr chosen(array, mask)`: the elements where an array of truths of the same shape is true, as an array of their
    own; null with an exception, or MISS."""
    f = m.function("chosen", [("array", "ptr"), ("mask", "ptr")], "ptr", internal=True, attrs="noinline")
    array, mask = f.args
    _, kind = element_of(f, array)
    n = size_of(f, mask)
    f.guard(f.and_(_is_whole(f, array), _is_whole(f, mask)), "miss")
    f.guard(f.cmp("ule", n, i64(LARGEST)), "miss")
    marks, source = field(f, mask, layout.ARRAY_DATA), field(f, array, layout.ARRAY_DATA)

    def hit(i: Val) -> Val:
        return nonzero(f, f.load("i8", f.gep(marks, i)))

    (total,) = f.loop(0, n, lambda i, k: [f.add(k, f.cast("zext", hit(i), "i64"))], [i64(0)])
    f.guard(nonzero(f, total), "miss")
    length, size = f.alloca(8, 8), words(f, kind, Element.SIZE)
    f.guard(f.cmp("ule", size, i64(8)), "miss")
    f.store(total, length)
    args = [words(f, kind, Element.DESCR, "ptr"), const("i32", 1), length, f.mul(total, size)]
    out = f.call("tj_array", args, "ptr")
    f.guard(nonzero(f, out), "error")
    place = field(f, out, layout.ARRAY_DATA)

    def copy(ty: str) -> Callable[[], None]:
        def one(i: Val, at: Val) -> list[Val]:
            def take() -> list[Val]:
                f.store(f.load(ty, f.gep(source, i, ty), align=1), f.gep(place, at, ty), align=1)
                return [f.add(at, i64(1))]

            return f.if_(hit(i), take, lambda: [at])

        def every() -> None:
            f.loop(0, n, one, [i64(0)])

        return every

    switch(f, size, {k: copy(ty) for k, ty in _BY_SIZE.items()}, "lost")
    f.ret_(out)
    f.label("lost")
    f.line("unreachable")
    return_at_labels(f)


def _define_strided(m: Module) -> None:
    """`ptr strided(x, begin, end, strides)`: a view of a tensor, `x[b:e:s]` in its first axes; strides may be None."""
    names = ("obj", "begin", "end", "strides")
    f = m.function("strided", [(n, "ptr") for n in names], "ptr", internal=True)
    require_quiet(f)
    obj, begin, end, strides = f.args
    f.guard(is_exact(f, obj, "tj_tensor"), "miss")
    array = f.call("payload", [obj], "ptr")
    f.guard(nonzero(f, array), "miss")
    one = f.cmp("eq", strides, sym("tj_none"))
    (starts, n), (stops, k), (steps, r) = listed(f, begin), listed(f, end), listed(f, f.select(one, begin, strides))
    rank = rank_of(f, array)
    f.guard(f.and_(f.and_(f.cmp("eq", n, k), f.cmp("eq", n, r)), f.cmp("ule", n, rank)), "miss")
    sizes, apart = field(f, array, layout.ARRAY_DIMS), field(f, array, layout.ARRAY_STRIDES)
    dims, gaps = f.alloca(8 * RANK, 8), f.alloca(8 * RANK, 8)
    overflow, first, last = f.alloca(4, 4), f.alloca(8, 8), f.alloca(8, 8)

    def put(i: Val, size: Val, gap: Val) -> None:
        f.store(size, f.gep(dims, i, "i64"))
        f.store(gap, f.gep(gaps, i, "i64"))

    def axis(i: Val, offset: Val) -> list[Val]:
        size, gap = f.load("i64", f.gep(sizes, i, "i64")), f.load("i64", f.gep(apart, i, "i64"))
        f.store(_number_at(f, starts, i, overflow), first)
        f.store(_number_at(f, stops, i, overflow), last)
        (step,) = f.if_(one, lambda: [i64(1)], lambda: [_number_at(f, steps, i, overflow)])
        f.guard(nonzero(f, step), "miss")
        f.guard(f.cmp("ult", f.add(step, i64(_FARTHEST)), i64(2 * _FARTHEST)), "miss")
        count = f.call("PySlice_AdjustIndices", [size, first, last, step], "i64")
        some = f.cmp("sgt", count, i64(0))  # of no elements NumPy keeps the place where the axis begins
        start = f.select(some, f.load("i64", first), i64(0))
        put(i, f.select(some, count, i64(0)), f.mul(gap, f.select(some, step, i64(1))))
        return [f.add(offset, f.mul(start, gap))]

    (offset,) = f.loop(0, n, axis, [i64(0)])

    def rest(j: Val) -> None:
        i = f.add(n, j)
        put(i, f.load("i64", f.gep(sizes, i, "i64")), f.load("i64", f.gep(apart, i, "i64")))

    f.loop(0, f.sub(rank, n), rest)
    data = f.gep(field(f, array, layout.ARRAY_DATA), offset)
    shown(f, f.call("view", [array, rank, dims, gaps, data], "ptr"))


def _define_elements(m: Module) -> None:
    """`ptr elements(x)`: a list of what a tensor holds along its first axis, if that is short, or MISS."""
    f, array = moving(m, "elements", 1)
    _, kind = element_of(f, array)
    rank = rank_of(f, array)
    f.guard(nonzero(f, rank), "miss")
    sizes, apart = field(f, array, layout.ARRAY_DIMS), field(f, array, layout.ARRAY_STRIDES)
    n, step = f.load("i64", sizes), f.load("i64", apart)
    f.guard(f.cmp("ule", n, i64(_SHORT)), "miss")
    out = f.call("PyList_New", [n], "ptr")
    f.guard(nonzero(f, out), "error")
    incref(f, array)
    items = field(f, out, layout.LIST_ITEMS)
    line, start = f.cmp("eq", rank, i64(1)), field(f, array, layout.ARRAY_DATA)
    descr, size = words(f, kind, Element.DESCR, "ptr"), words(f, kind, Element.SIZE)

    def point(data: Val) -> list[Val]:
        made = f.call("tj_array", [descr, const("i32", 0), NULL, size], "ptr")
        f.if_(nonzero(f, made), lambda: move(f, field(f, made, layout.ARRAY_DATA), data, size))
        return [made]

    def one(i: Val) -> None:
        data = f.gep(start, f.mul(i, step))
        part = [array, f.sub(rank, i64(1)), f.gep(sizes, 8), f.gep(apart, 8), data]
        (a,) = f.if_(line, lambda: point(data), lambda: [f.call("view", part, "ptr")])
        f.guard(nonzero(f, a), "lost")
        t = f.call("wrap", [a], "ptr")
        f.guard(nonzero(f, t), "lost")
        f.store(t, f.gep(items, i, "ptr"))

    f.loop(0, n, one)
    decref(f, array)
    f.ret_(out)
    f.label("lost")
    decref(f, array)
    f.call("Py_DecRef", [out])
    f.br("error")
    return_at_labels(f)


def _define_steps(m: Module) -> None:
    """`ptr steps(start, limit, delta)`: an int32 Tensor of start, start + delta, … up to but without limit, all exact
    ints, or MISS."""
    f = m.function("steps", [(name, "ptr") for name in ("start", "limit", "delta")], "ptr", internal=True)
    require_quiet(f)
    overflow, length = f.alloca(4, 4), f.alloca(8, 8)
    for obj in f.args:
        f.guard(is_exact(f, obj, "tj_int"), "miss")
    start, limit, delta = (integer(f, obj, overflow) for obj in f.args)
    for v, most in ((start, 2**31 - 1), (limit, 2**31), (delta, 2**31 - 1)):
        f.guard(f.and_(f.cmp("sge", v, i64(-(2**31))), f.cmp("sle", v, i64(most))), "miss")
    f.guard(nonzero(f, delta), "miss")
    up = f.cmp("sgt", delta, i64(0))
    way = f.select(up, f.sub(limit, start), f.sub(start, limit))
    stride = f.select(up, delta, f.sub(i64(0), delta))
    f.guard(f.cmp("sgt", way, i64(0)), "miss")
    n = f.add(f.op("udiv", f.sub(way, i64(1)), stride), i64(1))
    f.guard(f.cmp("ule", n, i64(LARGEST)), "miss")
    f.store(n, length)
    descr = words(f, record_of(f, i64(_number("int32"))), Element.DESCR, "ptr")
    out = f.call("tj_array", [descr, const("i32", 1), length, f.mul(n, i64(4))], "ptr")
    f.guard(nonzero(f, out), "error")
    place = field(f, out, layout.ARRAY_DATA)

    def one(i: Val) -> None:
        f.store(f.cast("trunc", f.add(start, f.mul(i, delta)), "i32"), f.gep(place, i, "i32"))

    f.loop(0, n, one)
    return_wrapped(f, out)


def define_picking(m: Module) -> None:
    _define_zeros(m)
    _define_count(m)
    _define_chosen(m)
    _define_strided(m)
    _define_elements(m)
    _define_steps(m)
