"""The native code of shapes: a tensor's memory under other axes, blocks of it, and its sizes as tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from tracejit.lower.llvm import NULL, Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.arithmetic import MISS, Element, element_of, record_of, return_wrapped, size_of, words
from tracejit.runtime.boundary import field, incref, nonzero, sym
from tracejit.runtime.recast import find_type
from tracejit.runtime.views import RANK, integer, is_exact, rank_of, require_quiet

PREFER_COPY: Final = 0  # NPY_CORDER
_INT32: Final = 5  # NumPy's type number


def moving(m: Module, name: str, params: int) -> tuple[Fn, Val]:
    """A function of a tensor and other objects that shows the tensor's memory in another way, and its array."""
    names = ("obj", "other")[:params]
    f = m.function(name, [(n, "ptr") for n in names], "ptr", internal=True)
    require_quiet(f)
    f.guard(is_exact(f, f.args[0], "tj_tensor"), "miss")
    array = f.call("payload", [f.args[0]], "ptr")
    f.guard(nonzero(f, array), "miss")
    return f, array


def shown(f: Fn, out: Val) -> None:
    """Return a Tensor with a view; the ends of the functions of this part."""
    f.guard(nonzero(f, out), "error")
    return_wrapped(f, out)


def listed(f: Fn, obj: Val, alone: bool = False) -> tuple[Val, Val]:
    """The items of a tuple or a list, and how many there are; jumps to "miss" for other objects. `alone`: an int is
    the only item."""
    one = f.alloca(8, 8)
    pair, line = is_exact(f, obj, "tj_tuple"), is_exact(f, obj, "tj_list")

    def number() -> list[Val]:
        f.guard(is_exact(f, obj, "tj_int"), "miss")
        f.store(obj, one)
        return [one, i64(1)]

    def several() -> list[Val]:
        n = field(f, obj, layout.SIZE, "i64")
        f.guard(f.cmp("ult", n, i64(RANK // 2)), "miss")
        (items,) = f.if_(pair, lambda: [f.gep(obj, layout.TUPLE_ITEMS)], lambda: [field(f, obj, layout.LIST_ITEMS)])
        return [items, n]

    nest = f.or_(pair, line)
    if not alone:
        f.guard(nest, "miss")
    items, n = f.if_(nest, several, number) if alone else several()
    return items, n


def _define_reshape(m: Module) -> None:
    f, array = moving(m, "reshape", 2)
    items, n = listed(f, f.args[1], alone=True)
    dims, shape, overflow = f.alloca(8 * RANK, 8), f.alloca(16, 8), f.alloca(4, 4)
    flags = field(f, array, layout.ARRAY_FLAGS, "i32")
    f.guard(nonzero(f, f.and_(flags, const("i32", layout.C_CONTIGUOUS))), "miss")  # else it may have to be copied

    def size(i: Val) -> None:
        item = f.load("ptr", f.gep(items, i, "ptr"))
        f.guard(is_exact(f, item, "tj_int"), "miss")
        d = integer(f, item, overflow)
        f.guard(f.cmp("sge", d, i64(-1)), "miss")
        f.store(d, f.gep(dims, i, "i64"))

    f.loop(0, n, size)
    f.store(dims, shape)
    f.store(n, f.gep(shape, 8))
    out = f.call("PyArray_Newshape", [array, shape, const("i32", PREFER_COPY)], "ptr")
    f.guard(nonzero(f, out), "clear")
    f.ret_(f.call("wrap", [out], "ptr"))
    f.label("clear")
    f.call("PyErr_Clear", [])
    f.br("miss")
    f.label("miss")
    f.ret_(MISS)


def _define_transpose(m: Module) -> None:
    """All axes in reverse order, and axes in a given order."""
    f, array = moving(m, "reverse_axes", 1)
    shown(f, f.call("PyArray_Transpose", [array, NULL], "ptr"))
    f, array = moving(m, "transpose", 2)
    items, n = listed(f, f.args[1])
    order, shape, overflow = f.alloca(8 * RANK, 8), f.alloca(16, 8), f.alloca(4, 4)
    rank = rank_of(f, array)
    f.guard(f.cmp("eq", n, rank), "miss")

    def axis(i: Val, seen: Val) -> list[Val]:
        item = f.load("ptr", f.gep(items, i, "ptr"))
        f.guard(is_exact(f, item, "tj_int"), "miss")
        given = integer(f, item, overflow)
        k = f.select(f.cmp("slt", given, i64(0)), f.add(given, rank), given)
        f.guard(f.cmp("ult", k, rank), "miss")
        f.store(k, f.gep(order, i, "i64"))
        return [f.or_(seen, f.op("shl", i64(1), k))]

    (seen,) = f.loop(0, n, axis, [i64(0)])
    f.guard(f.cmp("eq", seen, f.sub(f.op("shl", i64(1), rank), i64(1))), "miss")
    f.store(order, shape)
    f.store(n, f.gep(shape, 8))
    shown(f, f.call("PyArray_Transpose", [array, shape], "ptr"))


def _position(f: Fn, obj: Val, rank: Val) -> Val:
    """An axis as an exact int, counted from the front."""
    f.guard(is_exact(f, obj, "tj_int"), "miss")
    given = integer(f, obj, f.alloca(4, 4))
    k = f.select(f.cmp("slt", given, i64(0)), f.add(given, rank), given)
    f.guard(f.cmp("ult", k, rank), "miss")
    return k


def _axes(f: Fn, array: Val, keep: Callable[[Val, Val, Val], Val], dims: Val, strides: Val) -> Val:
    """Write the axes that `keep(i, size, written)` lets through; how many these are."""
    theirs, apart = field(f, array, layout.ARRAY_DIMS), field(f, array, layout.ARRAY_STRIDES)

    def axis(i: Val, n: Val) -> list[Val]:
        size = f.load("i64", f.gep(theirs, i, "i64"))
        f.store(size, f.gep(dims, n, "i64"))
        f.store(f.load("i64", f.gep(apart, i, "i64")), f.gep(strides, n, "i64"))
        return [f.add(n, f.cast("zext", keep(i, size, n), "i64"))]

    return f.loop(0, rank_of(f, array), axis, [i64(0)])[0]


def _define_squeeze(m: Module) -> None:
    """Without all axes of size 1 (`None`), or without one of them."""
    f, array = moving(m, "squeeze", 2)
    dims, strides = f.alloca(8 * RANK, 8), f.alloca(8 * RANK, 8)
    data = field(f, array, layout.ARRAY_DATA)
    f.guard(f.cmp("ne", f.args[1], sym("tj_none")), "every")
    k = _position(f, f.args[1], rank_of(f, array))
    f.guard(f.cmp("eq", f.load("i64", f.gep(field(f, array, layout.ARRAY_DIMS), k, "i64")), i64(1)), "miss")
    n = _axes(f, array, lambda i, size, n: f.cmp("ne", i, k), dims, strides)
    out = f.call("view", [array, n, dims, strides, data], "ptr")
    f.guard(nonzero(f, out), "error")
    f.ret_(f.call("wrap", [out], "ptr"))
    f.label("every")
    f.scopes = [{}]
    n = _axes(f, array, lambda i, size, n: f.cmp("ne", size, i64(1)), dims, strides)
    shown(f, f.call("view", [array, n, dims, strides, field(f, array, layout.ARRAY_DATA)], "ptr"))


def _define_expand(m: Module) -> None:
    """With a new axis of size 1."""
    f, array = moving(m, "expand_dims", 2)
    dims, strides = f.alloca(8 * RANK, 8), f.alloca(8 * RANK, 8)
    rank = rank_of(f, array)
    k = _position(f, f.args[1], f.add(rank, i64(1)))
    theirs, apart = field(f, array, layout.ARRAY_DIMS), field(f, array, layout.ARRAY_STRIDES)

    def axis(i: Val) -> None:
        at = f.add(i, f.cast("zext", f.cmp("sge", i, k), "i64"))
        f.store(f.load("i64", f.gep(theirs, i, "i64")), f.gep(dims, at, "i64"))
        f.store(f.load("i64", f.gep(apart, i, "i64")), f.gep(strides, at, "i64"))

    f.loop(0, rank, axis)
    f.store(i64(1), f.gep(dims, k, "i64"))
    f.store(i64(0), f.gep(strides, k, "i64"))
    data = field(f, array, layout.ARRAY_DATA)
    shown(f, f.call("view", [array, f.add(rank, i64(1)), dims, strides, data], "ptr"))


def _define_swap(m: Module) -> None:
    """With the last two axes exchanged."""
    f, array = moving(m, "swap_last", 1)
    dims, strides = f.alloca(8 * RANK, 8), f.alloca(8 * RANK, 8)
    rank = rank_of(f, array)
    f.guard(f.cmp("sge", rank, i64(2)), "miss")
    _axes(f, array, lambda i, size, n: const("i1", 1), dims, strides)
    for line in (dims, strides):
        places = [f.gep(line, f.sub(rank, i64(k)), "i64") for k in (1, 2)]
        a, b = (f.load("i64", p) for p in places)
        f.store(a, places[1])
        f.store(b, places[0])
    shown(f, f.call("view", [array, rank, dims, strides, field(f, array, layout.ARRAY_DATA)], "ptr"))


def _define_block(m: Module) -> None:
    """The block of sizes, of which -1 is the rest, that begins somewhere."""
    f = m.function("block", [(n, "ptr") for n in ("obj", "begin", "size")], "ptr", internal=True)
    require_quiet(f)
    f.guard(is_exact(f, f.args[0], "tj_tensor"), "miss")
    array = f.call("payload", [f.args[0]], "ptr")
    f.guard(nonzero(f, array), "miss")
    (starts, n), (counts, k) = (listed(f, x) for x in f.args[1:])
    rank = rank_of(f, array)
    f.guard(f.and_(f.cmp("eq", n, rank), f.cmp("eq", k, rank)), "miss")
    dims, overflow = f.alloca(8 * RANK, 8), f.alloca(4, 4)
    theirs, strides = field(f, array, layout.ARRAY_DIMS), field(f, array, layout.ARRAY_STRIDES)

    def number(items: Val, i: Val) -> Val:
        item = f.load("ptr", f.gep(items, i, "ptr"))
        f.guard(is_exact(f, item, "tj_int"), "miss")
        return integer(f, item, overflow)

    def axis(i: Val, offset: Val) -> list[Val]:
        start, count, whole = number(starts, i), number(counts, i), f.load("i64", f.gep(theirs, i, "i64"))
        f.guard(f.cmp("ule", start, whole), "miss")
        rest = f.sub(whole, start)
        size = f.select(f.cmp("eq", count, i64(-1)), rest, count)
        f.guard(f.cmp("ule", size, rest), "miss")
        f.guard(nonzero(f, size), "miss")  # of no elements NumPy keeps the place where the axis begins
        f.store(size, f.gep(dims, i, "i64"))
        return [f.add(offset, f.mul(start, f.load("i64", f.gep(strides, i, "i64"))))]

    (offset,) = f.loop(0, rank, axis, [i64(0)])
    data = f.gep(field(f, array, layout.ARRAY_DATA), offset)
    shown(f, f.call("view", [array, rank, dims, strides, data], "ptr"))


def _define_sizes(m: Module) -> None:
    """The number of axes or of elements, or all sizes, as int32 tensors."""
    counted: dict[str, Callable[[Fn, Val], Val]] = {"rank": rank_of, "size": size_of}
    for name, number in counted.items():
        f, array = moving(m, name, 1)
        n = number(f, array)
        f.guard(f.cmp("ult", n, i64(2**31)), "miss")
        descr = words(f, record_of(f, i64(_INT32)), Element.DESCR, "ptr")
        out = f.call("tj_array", [descr, const("i32", 0), NULL, i64(4)], "ptr")
        f.guard(nonzero(f, out), "error")
        f.store(f.cast("trunc", n, "i32"), field(f, out, layout.ARRAY_DATA))
        return_wrapped(f, out)
    f, array = moving(m, "shape", 1)
    n, dims, length = rank_of(f, array), field(f, array, layout.ARRAY_DIMS), f.alloca(8, 8)

    def small(i: Val) -> None:
        f.guard(f.cmp("ult", f.load("i64", f.gep(dims, i, "i64")), i64(2**31)), "miss")

    f.loop(0, n, small)
    f.store(n, length)
    descr = words(f, record_of(f, i64(_INT32)), Element.DESCR, "ptr")
    out = f.call("tj_array", [descr, const("i32", 1), length, f.mul(n, i64(4))], "ptr")
    f.guard(nonzero(f, out), "error")
    place = field(f, out, layout.ARRAY_DATA)

    def one(i: Val) -> None:
        d = f.load("i64", f.gep(dims, i, "i64"))
        f.store(f.cast("trunc", d, "i32"), f.gep(place, i, "i32"))

    f.loop(0, n, one)
    return_wrapped(f, out)


def _retyped(f: Fn, array: Val, kind: Val, strides: Val, data: Val) -> Val:
    """An array that shows memory of another's as elements of a type with this record."""
    descr = words(f, kind, Element.DESCR, "ptr")
    incref(f, descr)
    rank, dims = field(f, array, layout.ARRAY_NDIM, "i32"), field(f, array, layout.ARRAY_DIMS)
    flags = f.and_(field(f, array, layout.ARRAY_FLAGS, "i32"), const("i32", layout.WRITEABLE))
    out = f.call("PyArray_NewFromDescr", [sym("tj_ndarray"), descr, rank, dims, strides, data, flags, NULL], "ptr")
    f.guard(nonzero(f, out), "error")
    incref(f, array)
    f.call("PyArray_SetBaseObject", [out, array], "i32")
    return out


def _define_bits(m: Module) -> None:
    """The same bits as elements of another type of the same size."""
    f, array = moving(m, "bits", 2)
    index, kind = element_of(f, array)
    to = find_type(f, f.args[1])
    f.guard(f.and_(nonzero(f, index), nonzero(f, to)), "miss")  # bools have no fixed bits
    other = record_of(f, to)
    f.guard(f.cmp("eq", words(f, kind, Element.SIZE), words(f, other, Element.SIZE)), "miss")
    strides, data = field(f, array, layout.ARRAY_STRIDES), field(f, array, layout.ARRAY_DATA)
    return_wrapped(f, _retyped(f, array, other, strides, data))


_PARTS: Final = {"complex64": "float32", "complex128": "float64"}


def _define_parts(m: Module) -> None:
    """The real and the imaginary parts of complex numbers."""
    for name, second in (("real", False), ("imag", True)):
        f, array = moving(m, name, 1)
        index, _ = element_of(f, array)
        numbers = {int(np.dtype(whole).num): int(np.dtype(part).num) for whole, part in _PARTS.items()}
        known, part = const("i1", 0), i64(0)
        for whole, n in numbers.items():
            same = f.cmp("eq", index, i64(whole))
            known, part = f.or_(known, same), f.select(same, i64(n), part)
        f.guard(known, "miss")
        kind = record_of(f, part)
        data = field(f, array, layout.ARRAY_DATA)
        data = f.gep(data, words(f, kind, Element.SIZE)) if second else data
        return_wrapped(f, _retyped(f, array, kind, field(f, array, layout.ARRAY_STRIDES), data))


def define_shapes(m: Module) -> None:
    """The functions of a tensor, and of a tensor and a shape, an order of axes, an axis, or a block."""
    _define_reshape(m)
    _define_transpose(m)
    _define_squeeze(m)
    _define_expand(m)
    _define_swap(m)
    _define_block(m)
    _define_sizes(m)
    _define_bits(m)
    _define_parts(m)
