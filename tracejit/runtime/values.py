"""The native code that makes tensors of numbers, of lists and of arrays."""

from __future__ import annotations

from typing import Final

import numpy as np

from tracejit.lower.llvm import Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.arithmetic import (
    MISS,
    Element,
    Number,
    element_of,
    record_of,
    require_loopable,
    return_at_labels,
    size_of,
    words,
)
from tracejit.runtime.boundary import call, decref, field, incref, nonzero, sym
from tracejit.runtime.recast import LARGEST, TAKEN, find_type, is_member
from tracejit.runtime.views import integer, is_exact, move, require_quiet

_MOST: Final = 256  # numbers in a list
_DEPTH: Final = 16  # lists in lists
_BOOL, _INT, _FLOAT = 1, 2, 4
_EXACT: Final = 2**53  # integers up to which a double is one


def _type(name: str) -> Val:
    return i64(int(np.dtype(name).num))


# --- arrays -----------------------------------------------------------------------------------------------------
def _define_copy(m: Module) -> None:
    """`ptr copy(array)`: the same elements in an array of their own, in C's order; null with an exception, or MISS."""
    f = m.function("copy", [("array", "ptr")], "ptr", internal=True, attrs="noinline")
    (array,) = f.args
    _, kind = element_of(f, array)
    n = size_of(f, array)
    f.guard(f.cmp("ult", f.sub(n, i64(1)), i64(LARGEST)), "miss")
    rank, dims = field(f, array, layout.ARRAY_NDIM, "i32"), field(f, array, layout.ARRAY_DIMS)
    size = f.mul(n, words(f, kind, Element.SIZE))
    out = f.call("tj_array", [words(f, kind, Element.DESCR, "ptr"), rank, dims, size], "ptr")
    f.guard(nonzero(f, out), "error")
    flags = field(f, array, layout.ARRAY_FLAGS, "i32")
    f.guard(nonzero(f, f.and_(flags, const("i32", layout.C_CONTIGUOUS))), "strided")
    move(f, field(f, out, layout.ARRAY_DATA), field(f, array, layout.ARRAY_DATA), size)
    f.ret_(out)
    f.label("strided")
    incref(f, array)  # other threads may run meanwhile
    failed = f.call("PyArray_CopyInto", [out, array], "i32")
    decref(f, array)
    f.guard(f.cmp("ne", failed, const("i32", 0)), "done")
    decref(f, out)
    f.br("error")
    f.label("done")
    f.ret_(out)
    return_at_labels(f)


def _define_identity(m: Module) -> None:
    """`ptr identity(x)`: another Tensor with the same array."""
    f = m.function("identity", [("x", "ptr")], "ptr", internal=True)
    require_quiet(f)
    array = f.call("payload", f.args, "ptr")
    f.guard(nonzero(f, array), "miss")
    incref(f, array)
    f.ret_(f.call("wrap", [array], "ptr"))
    f.label("miss")
    f.ret_(MISS)


# --- lists ------------------------------------------------------------------------------------------------------
def _sequence(f: Fn, obj: Val) -> tuple[Val, Val]:
    """Whether an object is a list (or a tuple), and where its items lie if so."""
    line, pair = is_exact(f, obj, "tj_list"), is_exact(f, obj, "tj_tuple")
    (items,) = f.if_(line, lambda: [field(f, obj, layout.LIST_ITEMS)], lambda: [f.gep(obj, layout.TUPLE_ITEMS)])
    return f.or_(line, pair), items


def _define_leaves(m: Module) -> None:
    """`i32 leaves(obj, depth, dims, cursor, doubles)`: write the numbers of nested lists of these sizes where the
    cursor points, which moves on, as 64-bit integers and doubles or (`doubles`) as doubles only. The kinds that are
    there, as bits; 0 if it is no such nest."""
    params = [("obj", "ptr"), ("depth", "i64"), ("dims", "ptr"), ("cursor", "ptr"), ("doubles", "i1")]
    f = m.function("leaves", params, "i32", internal=True, attrs="noinline")
    obj, depth, dims, cursor, doubles = f.args
    cls = field(f, obj, layout.TYPE)
    f.guard(nonzero(f, depth), "leaf")
    nest, items = _sequence(f, obj)
    f.guard(nest, "no")
    n = field(f, obj, layout.SIZE, "i64")
    f.guard(f.cmp("eq", n, f.load("i64", dims)), "no")

    def item(i: Val, kinds: Val) -> list[Val]:
        inner = f.load("ptr", f.gep(items, i, "ptr"))
        args = [inner, f.sub(depth, i64(1)), f.gep(dims, 8), cursor, doubles]
        kind = f.call("leaves", args, "i32")
        f.guard(nonzero(f, kind), "no")
        return [f.or_(kinds, kind)]

    f.ret_(f.loop(0, n, item, [const("i32", 0)])[0])
    f.label("leaf")
    f.scopes = [{}]
    place, overflow = f.load("ptr", cursor), f.alloca(4, 4)
    f.store(f.gep(place, 8), cursor)
    f.guard(f.cmp("ne", cls, sym("tj_float")), "float")
    f.guard(f.cmp("ne", cls, sym("tj_bool")), "bool")
    f.guard(f.cmp("eq", cls, sym("tj_int")), "no")
    v = integer(f, obj, overflow, "no")
    f.if_(doubles, lambda: f.store(f.cast("sitofp", v, "double"), place), lambda: f.store(v, place))
    f.ret_(const("i32", _INT))
    f.label("float")
    f.store(field(f, obj, layout.FLOAT_VALUE, "double"), place)
    f.ret_(const("i32", _FLOAT))
    f.label("bool")
    f.store(f.cast("zext", f.cmp("eq", obj, sym("tj_true")), "i64"), place)
    f.ret_(const("i32", _BOOL))
    f.label("no")
    f.ret_(const("i32", 0))


def _fits(f: Fn, buffer: Val, n: Val, low: Val, high: Val) -> Val:
    def one(i: Val, ok: Val) -> list[Val]:
        v = f.load("i64", f.gep(buffer, i, "i64"))
        return [f.and_(ok, f.and_(f.cmp("sge", v, low), f.cmp("sle", v, high)))]

    return f.loop(0, n, one, [const("i1", 1)])[0]


def _define_number_array(m: Module) -> None:
    """`ptr listed(obj, type)`: an array of a number or of nested lists of numbers, of this type or, if that is
    negative, of the type that such numbers have by themselves; null with an exception, or MISS."""
    f = m.function("listed", [("obj", "ptr"), ("type", "i64")], "ptr", internal=True, attrs="noinline")
    obj, wanted = f.args
    dims, buffer, cursor, inner = f.alloca(8 * _DEPTH, 8), f.alloca(8 * _MOST), f.alloca(8, 8), f.alloca(8, 8)
    f.store(obj, inner)

    def deeper(depth: Val, n: Val, more: Val) -> list[Val]:
        x = f.load("ptr", inner)
        nest, items = _sequence(f, x)

        def enter() -> list[Val]:
            size = field(f, x, layout.SIZE, "i64")
            f.guard(f.cmp("ult", f.sub(size, i64(1)), i64(_MOST)), "miss")
            f.guard(f.cmp("ult", depth, i64(_DEPTH)), "miss")
            f.store(size, f.gep(dims, depth, "i64"))
            f.store(f.load("ptr", items), inner)
            total = f.mul(n, size)
            f.guard(f.cmp("ule", total, i64(_MOST)), "miss")
            return [f.add(depth, i64(1)), total, const("i1", 1)]

        return f.if_(nest, enter, lambda: [depth, n, const("i1", 0)])

    depth, n, _ = f.while_([i64(0), i64(1), const("i1", 1)], lambda d, n, more: more, deeper)
    f.store(buffer, cursor)
    kinds = f.call("leaves", [obj, depth, dims, cursor, const("i1", 0)], "i32")
    f.guard(nonzero(f, kinds), "miss")
    real, whole, truth = (f.cmp("eq", kinds, const("i32", k)) for k in (_FLOAT, _INT, _BOOL))
    both = f.cmp("eq", kinds, const("i32", _INT | _FLOAT))

    def again() -> None:
        f.store(buffer, cursor)
        f.call("leaves", [obj, depth, dims, cursor, const("i1", 1)], "i32")

    f.if_(both, again)
    real = f.or_(real, both)
    f.guard(f.or_(real, f.or_(whole, truth)), "miss")
    free = f.cmp("slt", wanted, i64(0))

    def own() -> list[Val]:
        def integers() -> list[Val]:
            small = _fits(f, buffer, n, i64(-(2**31)), i64(2**31 - 1))
            return [f.select(whole, f.select(small, _type("int32"), _type("int64")), _type("bool"))]

        return f.if_(real, lambda: [_type("float32")], integers)

    (to,) = f.if_(free, own, lambda: [wanted])
    target = record_of(f, to)
    f.guard(is_member(f, to, TAKEN), "miss")
    kind = words(f, target, Element.NUMBER)
    floating = f.or_(f.cmp("eq", kind, i64(Number.FLOAT)), f.cmp("eq", kind, i64(Number.DOUBLE)))
    f.guard(f.or_(f.not_(real), floating), "miss")
    f.guard(f.or_(f.not_(truth), f.cmp("eq", to, _type("bool"))), "miss")
    f.guard(f.or_(f.not_(whole), f.cmp("ne", to, _type("bool"))), "miss")
    bounded = f.and_(whole, f.cmp("eq", kind, i64(Number.INTEGER)))
    low, high = words(f, target, Element.LOW), words(f, target, Element.HIGH)
    (ok,) = f.if_(bounded, lambda: [_fits(f, buffer, n, low, high)], lambda: [const("i1", 1)])
    f.guard(ok, "miss")
    size = f.mul(n, words(f, target, Element.SIZE))
    rank = f.cast("trunc", depth, "i32")
    out = f.call("tj_array", [words(f, target, Element.DESCR, "ptr"), rank, dims, size], "ptr")
    f.guard(nonzero(f, out), "error")
    args = [to, const("i1", 0), buffer, n, field(f, out, layout.ARRAY_DATA)]
    f.if_(real, lambda: call(f, "narrow_doubles", *args), lambda: call(f, "narrow_integers", *args))
    f.ret_(out)
    return_at_labels(f)


def _define_convert(m: Module) -> None:
    """`ptr convert(x, dtype)`: a Tensor of a value, of a type that an object stands for or None; or MISS."""
    f = m.function("convert", [("x", "ptr"), ("dtype", "ptr")], "ptr", internal=True)
    x, dtype = f.args
    require_quiet(f)
    none = f.cmp("eq", dtype, sym("tj_none"))
    f.guard(f.not_(is_exact(f, x, "tj_tensor")), "tensor")
    f.guard(f.not_(is_exact(f, x, "tj_variable")), "variable")
    (to,) = f.if_(none, lambda: [i64(-1)], lambda: [find_type(f, dtype)])

    def array() -> list[Val]:
        index, _ = element_of(f, x)
        same = f.or_(none, f.cmp("eq", index, to))
        return f.if_(same, lambda: [f.call("copy", [x], "ptr")], other)

    def other() -> list[Val]:
        kind = words(f, record_of(f, to), Element.NUMBER)
        floating = f.or_(f.cmp("eq", kind, i64(Number.FLOAT)), f.cmp("eq", kind, i64(Number.DOUBLE)))
        f.guard(floating, "miss")  # integers have to fit, and are never made of other numbers
        require_loopable(f, x)
        return [f.call("recast", [x, to], "ptr")]

    (made,) = f.if_(is_exact(f, x, "tj_ndarray"), array, lambda: [f.call("listed", [x, to], "ptr")])
    f.guard(f.cmp("ne", made, MISS), "miss")
    f.guard(nonzero(f, made), "error")
    f.ret_(f.call("wrap", [made], "ptr"))
    f.label("tensor")
    f.guard(none, "miss")
    incref(f, x)
    f.ret_(x)
    f.label("variable")
    f.guard(none, "miss")
    f.ret_(f.call("identity", [x], "ptr"))
    return_at_labels(f)


def define_values(m: Module) -> None:
    """`copy`, `identity` and `convert`."""
    _define_copy(m)
    _define_identity(m)
    _define_leaves(m)
    _define_number_array(m)
    _define_convert(m)
