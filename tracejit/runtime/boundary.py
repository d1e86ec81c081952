"""The native code at the boundary: Python's arguments into a frame, and new arrays into Python's results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tracejit.lower.llvm import NULL, Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.table import Arg, Array, Format, Head, Item, Node, Out, Result, Scalar, Static


# --- small pieces -----------------------------------------------------------------------------------------------
def sym(name: str) -> Val:
    return Val(f"@{name}", "ptr")


def word(f: Fn, record: Val, index: int, ty: str = "i64") -> Val:
    """A word of the table; the table never changes."""
    return f.load(ty, f.gep(record, 8 * index), invariant=True)


def inside(f: Fn, table: Val, record: Val, index: int) -> Val:
    """The place in the table that an "at" word of a record names."""
    return f.gep(table, word(f, record, index))


def field(f: Fn, obj: Val, offset: int, ty: str = "ptr") -> Val:
    return f.load(ty, f.gep(obj, offset))


def slot(f: Fn, frame: Val, index: Val) -> Val:
    return f.gep(frame, index, "i64")


def nonzero(f: Fn, v: Val) -> Val:
    return f.cmp("ne", v, const(v.ty, 0))


def _is_exact(f: Fn, obj: Val, cls: str) -> Val:
    return f.cmp("eq", field(f, obj, layout.TYPE), sym(cls))


def _is_array(f: Fn, obj: Val) -> Val:
    """Whether a pointer taken from an object's slot is an exact ndarray; an unset slot is null."""
    r = f.if_(nonzero(f, obj), lambda: [_is_exact(f, obj, "tj_ndarray")], lambda: [const("i1", 0)])
    return r[0]


def call(f: Fn, target: str | Val, *args: Val, ret: str = "void") -> None:
    """A call whose result is not looked at."""
    f.call(target, args, ret)


def incref(f: Fn, obj: Val) -> None:
    if layout.IMMORTAL:
        f.call("Py_IncRef", [obj])
        return
    n = field(f, obj, layout.REFCOUNT, "i64")
    f.store(f.emit(f"add i64 {n}, 1", "i64"), f.gep(obj, layout.REFCOUNT))


def python_method(f: Fn, function: str) -> None:
    """Return what a Python function gives as the method of the object with which `f(self, args, nargs, names)` is
    called."""
    self, args, nargs, names = f.args
    bound = f.call("PyMethod_New", [sym(function), self], "ptr")
    f.guard(nonzero(f, bound), "error")
    made = f.call("PyObject_Vectorcall", [bound, args, nargs, names], "ptr")
    decref(f, bound)
    f.ret_(made)
    f.label("error")
    f.ret_(NULL)


def decref(f: Fn, obj: Val) -> None:
    if layout.IMMORTAL:
        f.call("Py_DecRef", [obj])
        return
    n = f.emit(f"sub i64 {field(f, obj, layout.REFCOUNT, 'i64')}, 1", "i64")
    f.store(n, f.gep(obj, layout.REFCOUNT))
    f.if_(f.cmp("eq", n, i64(0)), lambda: call(f, "_Py_Dealloc", obj))


def switch(f: Fn, value: Val, arms: Mapping[Any, Callable[[], None]], other: str) -> None:
    """Go on after one of the arms; an arm may also jump away. `other` is the block for values that have no arm."""
    names = {k: f.fresh("arm") for k in arms}
    done = f.fresh("done")
    cases = " ".join(f"{value.ty} {int(k)}, label %{n}" for k, n in names.items())
    f.line(f"switch {value.ty} {value}, label %{other} [ {cases} ]")
    for k, arm in arms.items():
        f.label(names[k])
        f.scopes.append({})
        arm()
        f.scopes.pop()
        f.br(done)
    f.label(done)


def records(f: Fn, table: Val, count: Head, at: Head, words: int, body: Callable[[Val, Val], None]) -> None:
    """`body(i, record)` for the records of one section of the table."""
    start = inside(f, table, table, at)

    def one(i: Val) -> None:
        body(i, f.gep(start, f.mul(i, i64(8 * words))))

    f.loop(0, word(f, table, count), one)


# --- binding arguments ------------------------------------------------------------------------------------------
def _bind_array(f: Fn, table: Val, frame: Val, rec: Val, array: Val) -> Val:
    """Check an ndarray against its record, hold it, and put its data in the frame. Returns its flags."""
    flags = field(f, array, layout.ARRAY_FLAGS, "i32")
    plain = const("i32", layout.C_CONTIGUOUS | layout.ALIGNED)
    ndim = word(f, rec, Array.NDIM)
    ok = f.cmp("eq", field(f, array, layout.ARRAY_DESCR), word(f, rec, Array.DESCR, "ptr"))
    ok = f.and_(ok, f.cmp("eq", f.cast("sext", field(f, array, layout.ARRAY_NDIM, "i32"), "i64"), ndim))
    f.guard(f.and_(ok, f.cmp("eq", f.and_(flags, plain), plain)), "miss")
    dims = field(f, array, layout.ARRAY_DIMS)
    expected = inside(f, table, rec, Array.DIMS_AT)

    def same(i: Val) -> None:
        want = f.load("i64", f.gep(expected, i, "i64"), invariant=True)
        f.guard(f.cmp("eq", f.load("i64", f.gep(dims, i, "i64")), want), "miss")

    f.loop(0, ndim, same)
    f.store(array, slot(f, frame, word(f, rec, Array.REF)))
    incref(f, array)
    f.store(field(f, array, layout.ARRAY_DATA), slot(f, frame, word(f, rec, Array.SLOT)))
    return flags


def _bind_scalar(f: Fn, frame: Val, rec: Val, formats: Mapping[Format, Callable[[Val], None]]) -> None:
    """Store a value where the record says, in one of `formats`, and its address in the frame's slot."""
    place = slot(f, frame, word(f, rec, Scalar.VALUE))
    f.store(place, slot(f, frame, word(f, rec, Scalar.SLOT)))
    arms = {k: (lambda put=put: put(place)) for k, put in formats.items()}
    switch(f, word(f, rec, Scalar.FORMAT), arms, "miss")


def _bind_float(f: Fn, frame: Val, rec: Val, obj: Val) -> None:
    f.guard(_is_exact(f, obj, "tj_float"), "miss")
    x = field(f, obj, layout.FLOAT_VALUE, "double")
    _bind_scalar(
        f,
        frame,
        rec,
        {
            Format.F32: lambda p: f.store(f.cast("fptrunc", x, "float"), p),
            Format.F64: lambda p: f.store(x, p),
        },
    )


def _bind_int(f: Fn, frame: Val, rec: Val, obj: Val) -> None:
    f.guard(_is_exact(f, obj, "tj_int"), "miss")
    too_large = f.alloca(4, 4)
    n = f.call("PyLong_AsLongLongAndOverflow", [obj, too_large], "i64")
    f.guard(f.cmp("eq", f.load("i32", too_large), const("i32", 0)), "miss")

    def small(p: Val) -> None:
        low = f.cast("trunc", n, "i32")
        f.guard(f.cmp("eq", f.cast("sext", low, "i64"), n), "miss")
        f.store(low, p)

    def within(p: Val) -> None:
        f.guard(f.cmp("sge", n, word(f, rec, Scalar.LOW)), "miss")
        f.guard(f.cmp("sle", n, word(f, rec, Scalar.HIGH)), "miss")
        f.store(f.cast("trunc", n, "i32"), p)

    x = f.cast("sitofp", n, "double")  # by way of double, as NumPy converts
    _bind_scalar(
        f,
        frame,
        rec,
        {
            Format.I32: small,
            Format.WITHIN: within,
            Format.I64: lambda p: f.store(n, p),
            Format.F32: lambda p: f.store(f.cast("fptrunc", x, "float"), p),
            Format.F64: lambda p: f.store(x, p),
        },
    )


def _bind_bool(f: Fn, frame: Val, rec: Val, obj: Val) -> None:
    true = f.cmp("eq", obj, sym("tj_true"))
    f.guard(f.or_(true, f.cmp("eq", obj, sym("tj_false"))), "miss")
    place = slot(f, frame, word(f, rec, Scalar.VALUE))
    f.store(place, slot(f, frame, word(f, rec, Scalar.SLOT)))
    f.store(f.cast("zext", true, "i8"), place)


def _bind_static(f: Fn, rec: Val, obj: Val) -> None:
    """Go on if the object is the plan's, or an equal one of its type where that is asked for."""
    mine = word(f, rec, Static.OBJECT, "ptr")

    def compare() -> None:
        f.guard(nonzero(f, word(f, rec, Static.BY_VALUE)), "miss")
        f.guard(f.cmp("eq", field(f, obj, layout.TYPE), field(f, mine, layout.TYPE)), "miss")
        equal = 2  # Py_EQ; comparing two exact ints or strs runs no other code
        r = f.call("PyObject_RichCompareBool", [obj, mine, const("i32", equal)], "i32")
        f.guard(f.cmp("eq", r, const("i32", 1)), "miss")

    f.if_(f.cmp("ne", obj, mine), compare)


def define_bind(m: Module) -> None:
    """`i32 bind(table, args, frame)`: 0 when every guard holds, 1 when one does not, 2 when a variable is shared."""
    f = m.function("bind", [("table", "ptr"), ("args", "ptr"), ("frame", "ptr")], "i32", internal=True)
    table, args, frame = f.args
    tensor, payload = word(f, table, Head.TENSOR, "ptr"), word(f, table, Head.TENSOR_SLOT)

    def argument(i: Val, rec: Val) -> None:
        obj = f.load("ptr", f.gep(args, i, "ptr"))

        def array() -> None:
            wrapped = f.cmp("eq", field(f, obj, layout.TYPE), tensor)
            a = f.if_(wrapped, lambda: [f.load("ptr", f.gep(obj, payload))], lambda: [obj])[0]
            f.guard(_is_array(f, a), "miss")
            _bind_array(f, table, frame, rec, a)

        arms = {
            Arg.ARRAY: array,
            Arg.FLOAT: lambda: _bind_float(f, frame, rec, obj),
            Arg.INT: lambda: _bind_int(f, frame, rec, obj),
            Arg.BOOL: lambda: _bind_bool(f, frame, rec, obj),
            Arg.STATIC: lambda: _bind_static(f, rec, obj),
        }
        switch(f, word(f, rec, Array.ARG), arms, "miss")

    records(f, table, Head.ARGS, Head.ARGS_AT, Array.WORDS, argument)
    start = inside(f, table, table, Head.CAPTURES_AT)

    def capture(i: Val, shared: Val) -> list[Val]:
        rec = f.gep(start, f.mul(i, i64(8 * Array.WORDS)))
        a = f.load("ptr", word(f, rec, Array.ADDRESS, "ptr"))
        f.guard(_is_array(f, a), "miss")
        alone = f.cmp("eq", field(f, a, layout.REFCOUNT, "i32"), const("i32", 1))
        flags = _bind_array(f, table, frame, rec, a)
        written = nonzero(f, word(f, rec, Array.WRITTEN))
        return [f.or_(shared, f.and_(written, f.not_(f.and_(alone, _is_own(f, flags)))))]

    shared = f.loop(0, word(f, table, Head.CAPTURES), capture, [const("i1", 0)])[0]
    f.ret_(f.select(shared, const("i32", 2), const("i32", 0)))
    f.label("miss")
    f.ret_(const("i32", 1))


def _is_own(f: Fn, flags: Val) -> Val:
    """Whether an array with these flags may be written in place: its memory is its own and not read-only."""
    own = const("i32", layout.OWNDATA | layout.WRITEABLE)
    return f.cmp("eq", f.and_(flags, own), own)


def define_unshare(m: Module) -> None:
    """`i32 unshare(table)`: give each written variable whose array others see (the frame holds it once) a new one."""
    f = m.function("unshare", [("table", "ptr")], "i32", internal=True)
    (table,) = f.args

    def variable(_: Val, rec: Val) -> None:
        a = f.load("ptr", word(f, rec, Array.ADDRESS, "ptr"))
        f.guard(nonzero(f, a), "next")
        alone = f.cmp("ule", field(f, a, layout.REFCOUNT, "i32"), const("i32", 2))
        mine = f.and_(alone, _is_own(f, field(f, a, layout.ARRAY_FLAGS, "i32")))
        f.guard(f.and_(nonzero(f, word(f, rec, Array.WRITTEN)), f.not_(mine)), "next")
        owner = word(f, rec, Array.OWNER, "ptr")
        r = f.call("PyObject_CallOneArg", [word(f, table, Head.UNSHARE, "ptr"), owner], "ptr")
        f.guard(nonzero(f, r), "error")
        decref(f, r)
        f.br("next")
        f.label("next")

    records(f, table, Head.CAPTURES, Head.CAPTURES_AT, Array.WORDS, variable)
    f.ret_(const("i32", 0))
    f.label("error")
    f.ret_(const("i32", -1))


# --- nested arguments -------------------------------------------------------------------------------------------
def define_flatten(m: Module) -> None:
    """`ptr flatten(form, items, count, leaves)`: collect the leaves of `count` items as the form says.

    The result is where the form goes on, null if the items are not as it says. No Python code runs meanwhile, so the
    leaves, which are not counted, stay alive.
    """
    params = [("form", "ptr"), ("items", "ptr"), ("count", "i64"), ("leaves", "ptr")]
    f = m.function("flatten", params, "ptr", internal=True)
    form, items, count, leaves = f.args
    after, position, key, value = (f.alloca(8, 8) for _ in range(4))
    f.store(form, after)

    def one(i: Val) -> None:
        obj = f.load("ptr", f.gep(items, i, "ptr"))
        node = f.load("ptr", after)
        kind, n = word(f, node, 0), word(f, node, 1)
        rest = f.gep(node, 16)

        def into(start: Val, place: Val, count: Val) -> None:
            r = f.call("flatten", [start, place, count, leaves], "ptr")
            f.guard(nonzero(f, r), "miss")
            f.store(r, after)

        def leaf() -> None:
            f.store(obj, f.gep(leaves, n, "ptr"))
            f.store(rest, after)

        def sequence(cls: str, start: Callable[[], Val]) -> None:
            same = f.and_(_is_exact(f, obj, cls), f.cmp("eq", field(f, obj, layout.SIZE, "i64"), n))
            f.guard(same, "miss")
            into(rest, start(), n)

        def named() -> None:
            f.guard(f.cmp("eq", field(f, obj, layout.TYPE), word(f, rest, 0, "ptr")), "miss")
            f.guard(f.cmp("eq", field(f, obj, layout.SIZE, "i64"), n), "miss")
            into(f.gep(rest, 8), f.gep(obj, layout.TUPLE_ITEMS), n)

        def mapping() -> None:
            same = f.and_(_is_exact(f, obj, "tj_dict"), f.cmp("eq", field(f, obj, layout.SIZE, "i64"), n))
            f.guard(same, "miss")
            f.store(i64(0), position)
            f.store(f.gep(rest, n, "ptr"), after)

            def item(j: Val) -> None:
                more = f.call("PyDict_Next", [obj, position, key, value], "i32")
                f.guard(nonzero(f, more), "miss")
                f.guard(f.cmp("eq", f.load("ptr", key), f.load("ptr", f.gep(rest, j, "ptr"))), "miss")
                into(f.load("ptr", after), value, i64(1))

            f.loop(0, n, item)

        def fields() -> None:
            cls = field(f, obj, layout.TYPE)
            f.guard(f.cmp("eq", cls, word(f, rest, 0, "ptr")), "miss")
            version = f.cast("zext", field(f, cls, layout.TYPE_VERSION, "i32"), "i64")
            f.guard(f.cmp("eq", version, word(f, rest, 1)), "miss")
            own = word(f, rest, 2)

            def counted() -> None:
                d = f.call("PyObject_GetAttr", [obj, sym("tj_dict_name")], "ptr")
                f.guard(nonzero(f, d), "missing")
                same = f.cmp("eq", field(f, d, layout.SIZE, "i64"), own)
                decref(f, d)  # the object holds it
                f.guard(same, "miss")

            f.if_(f.cmp("sge", own, i64(0)), counted)
            names = f.gep(rest, 24)
            f.store(f.gep(names, n, "ptr"), after)

            def attribute(j: Val) -> None:
                found = f.call("PyObject_GetAttr", [obj, f.load("ptr", f.gep(names, j, "ptr"))], "ptr")
                f.guard(nonzero(f, found), "missing")
                alive = f.cmp("ne", field(f, found, layout.REFCOUNT, "i32"), const("i32", 1))
                decref(f, found)
                f.guard(alive, "miss")  # it is the object's own, not made for us
                f.store(found, value)
                into(f.load("ptr", after), value, i64(1))

            f.loop(0, n, attribute)

        arms: dict[Node, Callable[[], None]] = {
            Node.LEAF: leaf,
            Node.TUPLE: lambda: sequence("tj_tuple", lambda: f.gep(obj, layout.TUPLE_ITEMS)),
            Node.LIST: lambda: sequence("tj_list", lambda: field(f, obj, layout.LIST_ITEMS)),
            Node.DICT: mapping,
            Node.NAMED: named,
            Node.FIELDS: fields,
        }
        switch(f, kind, arms, "miss")

    f.loop(0, count, one)
    f.ret_(f.load("ptr", after))
    f.label("missing")
    f.call("PyErr_Clear", [])
    f.br("miss")
    f.label("miss")
    f.ret_(NULL)


# --- results ----------------------------------------------------------------------------------------------------
def define_allocate(m: Module) -> None:
    """`i32 allocate(table, frame)`: the arena and the outputs; -1 with MemoryError set."""
    f = m.function("allocate", [("table", "ptr"), ("frame", "ptr")], "i32", internal=True)
    table, frame = f.args
    size = word(f, table, Head.ARENA_BYTES)

    def arena() -> None:
        p = f.call("tj_alloc", [size], "ptr")
        f.guard(nonzero(f, p), "memory")
        f.store(p, slot(f, frame, word(f, table, Head.ARENA_WORD)))

        def place(_: Val, rec: Val) -> None:
            f.store(f.gep(p, word(f, rec, 1)), slot(f, frame, word(f, rec, 0)))

        records(f, table, Head.ARENA_SLOTS, Head.ARENA_AT, 2, place)

    f.if_(nonzero(f, size), arena)
    tensor, payload = word(f, table, Head.TENSOR, "ptr"), word(f, table, Head.TENSOR_SLOT)

    def output(_: Val, rec: Val) -> None:
        ndim = f.cast("trunc", word(f, rec, Out.NDIM), "i32")
        shape = inside(f, table, rec, Out.DIMS_AT)
        a = f.call("tj_array", [word(f, rec, Out.DESCR, "ptr"), ndim, shape, word(f, rec, Out.BYTES)], "ptr")
        f.guard(nonzero(f, a), "error")
        ref = slot(f, frame, word(f, rec, Out.REF))
        f.store(a, ref)
        f.store(field(f, a, layout.ARRAY_DATA), slot(f, frame, word(f, rec, Out.SLOT)))

        def wrap() -> None:
            t = f.call("PyType_GenericAlloc", [tensor, i64(0)], "ptr")
            f.guard(nonzero(f, t), "error")
            f.store(a, f.gep(t, payload))
            f.store(t, ref)

        f.if_(nonzero(f, word(f, rec, Out.WRAP)), wrap)

    records(f, table, Head.OUTPUTS, Head.OUTPUTS_AT, Out.WORDS, output)
    f.ret_(const("i32", 0))
    f.label("memory")
    f.call("PyErr_NoMemory", [], "ptr")
    f.ret_(const("i32", -1))
    f.label("error")
    f.ret_(const("i32", -1))


def define_result(m: Module) -> None:
    """`ptr result(table, frame)`: a new reference to what the call returns (to `finish`, if there is one)."""
    f = m.function("result", [("table", "ptr"), ("frame", "ptr")], "ptr", internal=True)
    table, frame = f.args
    out = f.alloca(8, 8)
    items, count = inside(f, table, table, Head.ITEMS_AT), word(f, table, Head.ITEMS)

    def item(i: Val) -> Val:
        rec = f.gep(items, f.mul(i, i64(8 * Item.WORDS)))
        known = word(f, rec, Item.OBJECT, "ptr")
        made = f.load("ptr", slot(f, frame, word(f, rec, Item.REF)))
        obj = f.select(nonzero(f, known), known, made)
        incref(f, obj)
        return obj

    def none() -> None:
        incref(f, sym("tj_none"))
        f.store(sym("tj_none"), out)

    def fill_tuple() -> None:
        t = f.call("PyTuple_New", [count], "ptr")
        f.guard(nonzero(f, t), "error")
        start = f.gep(t, layout.TUPLE_ITEMS)
        f.loop(0, count, lambda i: f.store(item(i), f.gep(start, i, "ptr")))
        f.store(t, out)

    def fill_list() -> None:
        t = f.call("PyList_New", [count], "ptr")
        f.guard(nonzero(f, t), "error")
        f.loop(0, count, lambda i: call(f, "PyList_SetItem", t, i, item(i), ret="i32"))
        f.store(t, out)

    arms = {
        Result.NONE: none,
        Result.SINGLE: lambda: f.store(item(i64(0)), out),
        Result.TUPLE: fill_tuple,
        Result.LIST: fill_list,
        Result.CALL: fill_tuple,
    }
    switch(f, word(f, table, Head.RESULT), arms, "error")
    f.ret_(f.load("ptr", out))
    f.label("error")
    f.ret_(NULL)
