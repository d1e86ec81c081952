"""The native code that reads keys: integers that are no Python ints, and keys with arrays as NumPy takes them."""

from __future__ import annotations

import numpy as np

from tracejit.lower.llvm import NULL, Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.arithmetic import MISS, Element, Number, element_of, is_tensor, return_at_labels, words
from tracejit.runtime.boundary import call, decref, field, incref, nonzero, sym
from tracejit.runtime.views import NOWHERE, is_exact, require_simple_slice


def _define_position(m: Module) -> None:
    """`i64 position(item)`: the integer that a number of NumPy's is, or that a tensor without axes holds; `NOWHERE`
    for anything else."""
    f = m.function("position", [("item", "ptr")], "i64", internal=True, attrs="noinline")
    (item,) = f.args
    wide, cls, value = f.alloca(8, 8), field(f, item, layout.TYPE), f.gep(item, layout.SCALAR_VALUE)
    a = f.call("payload", [item], "ptr")
    f.guard(nonzero(f, a), "number")
    f.guard(f.cmp("eq", field(f, a, layout.ARRAY_NDIM, "i32"), const("i32", 0)), "drop")
    index, kind = element_of(f, a, "drop")
    f.guard(f.cmp("eq", words(f, kind, Element.NUMBER), i64(Number.INTEGER)), "drop")
    _require_signed(f, a)
    f.call("widen", [index, field(f, a, layout.ARRAY_DATA), i64(8), i64(1), wide])
    f.ret_(f.load("i64", wide))
    f.label("number")
    f.guard(f.not_(f.cmp("eq", cls, sym("tj_int64"))), "long")
    f.guard(f.not_(f.cmp("eq", cls, sym("tj_int32"))), "short")
    f.guard(nonzero(f, f.call("PyType_IsSubtype", [cls, sym("tj_integer")], "i32")), "drop")
    n = f.call("PyNumber_AsSsize_t", [item, NULL], "i64")
    failed = f.cmp("eq", n, i64(-1))
    f.if_(failed, lambda: call(f, "PyErr_Clear"))
    f.ret_(n)
    f.label("long")
    f.ret_(f.load("i64", value))
    f.label("short")
    f.ret_(f.cast("sext", f.load("i32", value), "i64"))
    f.label("drop")
    f.ret_(NOWHERE)


def _array_in_key(f: Fn, item: Val) -> Val:
    """The array that a tensor in a key holds, of integers or truths."""
    a = f.call("payload", [item], "ptr")
    f.guard(nonzero(f, a), "drop")
    index, kind = element_of(f, a, "drop")
    whole = f.cmp("eq", words(f, kind, Element.NUMBER), i64(Number.INTEGER))
    f.guard(f.or_(whole, f.cmp("eq", index, i64(0))), "drop")
    _require_signed(f, a)
    return a


def _require_signed(f: Fn, a: Val) -> None:
    """Jump to "drop" for positions of uint64, which NumPy lets wrap around."""
    number = field(f, field(f, a, layout.ARRAY_DESCR), layout.DESCR_NUMBER, "i32")
    for t in (np.ulong, np.ulonglong):
        f.guard(f.cmp("ne", number, const("i32", int(np.dtype(t).num))), "drop")


def _component(f: Fn, item: Val) -> Val:
    """A component of a key as NumPy takes it; jumps to "drop" for one that Python has to see."""

    def plain() -> list[Val]:
        part = is_exact(f, item, "tj_slice")
        f.if_(part, lambda: require_simple_slice(f, item, "drop"))
        f.if_(is_exact(f, item, "tj_ndarray"), lambda: _require_signed(f, item))
        known = part
        for k in [is_exact(f, item, cls) for cls in ("tj_int", "tj_list", "tj_ndarray")]:
            known = f.or_(known, k)
        for name in ("tj_none", "tj_dots"):
            known = f.or_(known, f.cmp("eq", item, sym(name)))
        f.guard(known, "drop")
        return [item]

    return f.if_(is_tensor(f, item), lambda: [_array_in_key(f, item)], plain)[0]


def _define_key(m: Module) -> None:
    """`ptr key_of(items, n)`: a key of these components as NumPy's own indexing takes it; null with an exception, or
    MISS."""
    f = m.function("key_of", [("items", "ptr"), ("n", "i64")], "ptr", internal=True, attrs="noinline")
    items, n = f.args
    held = f.alloca(8, 8)
    f.store(NULL, held)

    def one() -> list[Val]:
        x = _component(f, f.load("ptr", items))
        incref(f, x)
        f.store(x, held)
        return [x]

    def several() -> list[Val]:
        made = f.call("PyTuple_New", [n], "ptr")
        f.guard(nonzero(f, made), "error")
        f.store(made, held)

        def component(i: Val) -> None:
            x = _component(f, f.load("ptr", f.gep(items, i, "ptr")))
            incref(f, x)
            f.store(x, f.gep(f.gep(made, layout.TUPLE_ITEMS), i, "ptr"))

        f.loop(0, n, component)
        return [made]

    f.ret_(f.if_(f.cmp("eq", n, i64(1)), one, several)[0])
    f.label("drop")
    unused = f.load("ptr", held)
    f.if_(nonzero(f, unused), lambda: decref(f, unused))
    f.br("miss")
    return_at_labels(f)


def _define_pick(m: Module) -> None:
    """`ptr pick(array, items, n)`: what NumPy's own indexing gives for a key with arrays; an error of it is a miss."""
    f = m.function("pick", [("array", "ptr"), ("items", "ptr"), ("n", "i64")], "ptr", internal=True, attrs="noinline")
    array, items, n = f.args
    key = f.call("key_of", [items, n], "ptr")
    f.guard(f.cmp("ne", key, MISS), "miss")
    f.guard(nonzero(f, key), "error")
    f.guard(f.cmp("eq", f.call("PyContext_Enter", [sym("tj_silent")], "i32"), const("i32", 0)), "inside")
    r = f.call("tj_numpy_subscript", [array, key], "ptr")
    f.if_(f.cmp("eq", r, NULL), lambda: call(f, "PyErr_Clear"))
    f.call("PyContext_Exit", [sym("tj_silent")], "i32")
    decref(f, key)
    f.guard(nonzero(f, r), "miss")
    f.guard(is_exact(f, r, "tj_ndarray"), "scalar")
    f.ret_(r)
    f.label("scalar")
    decref(f, r)
    f.br("miss")
    f.label("inside")
    f.call("PyErr_Clear", [])
    decref(f, key)
    f.br("miss")
    return_at_labels(f)


def define_keys(m: Module) -> None:
    """`position`, `key_of` and `pick`."""
    _define_position(m)
    _define_key(m)
    _define_pick(m)
