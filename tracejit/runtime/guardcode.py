"""The native code that checks guards: whether globals, cells, attributes and items are still what a trace has read."""

from __future__ import annotations

from collections.abc import Callable

from tracejit.lower.llvm import Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.boundary import decref, field, inside, nonzero, switch, sym, word
from tracejit.runtime.guards import RECORD, Check

_EQUAL = 2  # Py_EQ


def _define_same(m: Module) -> None:
    """`i1 same(found, expected)`: one object, or equal floats, ints or strs."""
    f = m.function("same", [("found", "ptr"), ("expected", "ptr")], "i1", internal=True)
    found, expected = f.args
    f.guard(f.cmp("ne", found, expected), "yes")
    f.guard(f.and_(nonzero(f, found), nonzero(f, expected)), "no")
    cls = field(f, found, layout.TYPE)
    f.guard(f.cmp("eq", cls, field(f, expected, layout.TYPE)), "no")
    f.br_if(f.cmp("eq", cls, sym("tj_float")), "float", "other")
    f.label("float")
    f.ret_(f.cmp("eq", field(f, found, layout.FLOAT_VALUE, "i64"), field(f, expected, layout.FLOAT_VALUE, "i64")))
    f.label("other")
    exact = f.or_(f.cmp("eq", cls, sym("tj_int")), f.cmp("eq", cls, sym("tj_str")))
    f.guard(exact, "no")
    r = f.call("PyObject_RichCompareBool", [found, expected, const("i32", _EQUAL)], "i32")
    f.ret_(f.cmp("eq", r, const("i32", 1)))
    f.label("yes")
    f.ret_(const("i1", 1))
    f.label("no")
    f.ret_(const("i1", 0))


def define_holds(m: Module) -> None:
    """`i1 holds(table)`: whether every record of a table of guards holds. Runs no Python code."""
    _define_same(m)
    f = m.function("holds", [("table", "ptr")], "i1", internal=True)
    (table,) = f.args
    namespace, position, key, value = (f.alloca(8, 8) for _ in range(4))

    def expect(found: Val, expected: Val) -> None:
        f.guard(f.call("same", [found, expected], "i1"), "no")

    def lookup(rec: Val) -> Val:
        return f.call("PyDict_GetItemWithError", [f.load("ptr", namespace), word(f, rec, 1, "ptr")], "ptr")

    def sequence(rec: Val, items: Callable[[Val], Val]) -> None:
        start = inside(f, table, rec, 3)
        f.loop(0, word(f, rec, 2), lambda i: expect(items(i), f.load("ptr", f.gep(start, i, "ptr"))))

    def owner(rec: Val) -> None:
        obj = word(f, rec, 1, "ptr")
        f.guard(f.cmp("eq", field(f, obj, layout.TYPE), word(f, rec, 2, "ptr")), "no")
        d = f.call("PyObject_GenericGetDict", [obj, const("ptr", 0)], "ptr")
        f.guard(nonzero(f, d), "error")
        decref(f, d)  # the object holds it
        f.store(d, namespace)

    def listed(rec: Val) -> None:
        x = word(f, rec, 1, "ptr")
        f.guard(f.cmp("eq", field(f, x, layout.SIZE, "i64"), word(f, rec, 2)), "no")
        items = field(f, x, layout.LIST_ITEMS)
        sequence(rec, lambda i: f.load("ptr", f.gep(items, i, "ptr")))

    def listed_item(rec: Val) -> None:
        x, i = word(f, rec, 1, "ptr"), word(f, rec, 2)
        f.guard(f.cmp("sgt", field(f, x, layout.SIZE, "i64"), i), "no")
        expect(f.load("ptr", f.gep(field(f, x, layout.LIST_ITEMS), i, "ptr")), word(f, rec, 3, "ptr"))

    def mapping(rec: Val) -> None:
        x, n = word(f, rec, 1, "ptr"), word(f, rec, 2)
        f.guard(f.cmp("eq", field(f, x, layout.SIZE, "i64"), n), "no")
        f.store(i64(0), position)
        start = inside(f, table, rec, 3)

        def pair(i: Val) -> None:
            f.guard(f.cmp("ne", f.call("PyDict_Next", [x, position, key, value], "i32"), const("i32", 0)), "no")
            at = f.gep(start, f.mul(i, i64(16)))
            expect(f.load("ptr", key), f.load("ptr", at))
            expect(f.load("ptr", value), f.load("ptr", f.gep(at, 8)))

        f.loop(0, n, pair)

    def content(rec: Val) -> None:
        x, n, snapshot = word(f, rec, 1, "ptr"), word(f, rec, 2), inside(f, table, rec, 3)
        words = f.op("lshr", n, i64(3))

        def equal(ty: str, i: Val) -> None:
            f.guard(f.cmp("eq", f.load(ty, f.gep(x, i, ty), 1), f.load(ty, f.gep(snapshot, i, ty), 1)), "no")

        f.loop(0, words, lambda i: equal("i64", i))
        f.loop(f.mul(words, i64(8)), n, lambda i: equal("i8", i))

    def counted(rec: Val) -> None:
        f.guard(f.cmp("eq", field(f, f.load("ptr", namespace), layout.SIZE, "i64"), word(f, rec, 1)), "no")

    def same_word(rec: Val, ty: str) -> None:
        now = f.load(ty, word(f, rec, 1, "ptr"))
        f.guard(f.cmp("eq", now, f.cast("trunc", word(f, rec, 2), ty)), "no")

    start = f.gep(table, 8)

    def record(i: Val) -> None:
        rec = f.gep(start, f.mul(i, i64(8 * RECORD)))
        arms = {
            Check.NAMESPACE: lambda: f.store(word(f, rec, 1, "ptr"), namespace),
            Check.OWNER: lambda: owner(rec),
            Check.ENTRY: lambda: expect(lookup(rec), word(f, rec, 2, "ptr")),
            Check.PRESENT: lambda: f.guard(nonzero(f, lookup(rec)), "no"),
            Check.POINTER: lambda: expect(f.load("ptr", word(f, rec, 1, "ptr")), word(f, rec, 2, "ptr")),
            Check.NUMBER: lambda: same_word(rec, "i64"),
            Check.VERSION: lambda: same_word(rec, "i32"),
            Check.ITEM: lambda: listed_item(rec),
            Check.LIST: lambda: listed(rec),
            Check.DICT: lambda: mapping(rec),
            Check.BYTES: lambda: content(rec),
            Check.COUNT: lambda: counted(rec),
        }
        switch(f, word(f, rec, 0), arms, "no")

    f.loop(0, word(f, table, 0), record)
    f.ret_(const("i1", 1))
    f.label("error")
    f.call("PyErr_Clear", [])
    f.br("no")
    f.label("no")
    f.ret_(const("i1", 0))


def holds(f: Fn, address: Val) -> Val:
    """Whether the guards hold whose table's address is in a word at `address`; there are none if that is null."""

    def look() -> list[Val]:
        table = f.load("ptr", address)
        return f.if_(nonzero(f, table), lambda: [f.call("holds", [table], "i1")], lambda: [const("i1", 0)])

    return f.if_(nonzero(f, address), look, lambda: [const("i1", 1)])[0]
