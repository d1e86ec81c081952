"""The native functions in the slots of Tensor's operators, and behind the public functions of the same operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tracejit.lower.llvm import NULL, Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.arithmetic import MISS, Row, define_operations, words
from tracejit.runtime.boundary import decref, field, incref, nonzero, sym

COMPARISONS: Final = 6
CALLS: Final = {"unary": 1, "binary": 2, "product": 2}
DATA: Final = (
    "tj_ndarray", "tj_tensor", "tj_variable", "tj_float", "tj_int", "tj_true", "tj_false", "tj_none", "tj_zero",
    "tj_not_implemented", "tj_busy", "tj_rows", "tj_types",
)  # fmt: skip
FUNCTIONS: Final[dict[str, tuple[str, Sequence[str]]]] = {
    "PyEval_RestoreThread": ("void", ["ptr"]),
    "PyEval_SaveThread": ("ptr", []),
    "PyLong_AsLongLongAndOverflow": ("i64", ["ptr", "ptr"]),
    "PyObject_GetAttr": ("ptr", ["ptr", "ptr"]),
    "PyObject_Vectorcall": ("ptr", ["ptr", "ptr", "i64", "ptr"]),
    "PyType_GenericAlloc": ("ptr", ["ptr", "i64"]),
    "Py_DecRef": ("void", ["ptr"]),
    "Py_IncRef": ("void", ["ptr"]),
    "_Py_Dealloc": ("void", ["ptr"]),
    "tj_array": ("ptr", ["ptr", "i32", "ptr", "i64"]),
    "tj_richcompare": ("ptr", ["ptr", "ptr", "i32"]),
}


def _define_method(m: Module) -> None:
    """`ptr method(self, other, name)`: what the method of this name of the object's class returns."""
    f = m.function("method", [("self", "ptr"), ("other", "ptr"), ("name", "ptr")], "ptr", internal=True)
    self, other, name = f.args
    args = f.alloca(16, 8)
    found = f.call("PyObject_GetAttr", [field(f, self, layout.TYPE), name], "ptr")
    f.guard(nonzero(f, found), "error")
    f.store(self, args)
    f.store(other, f.gep(args, 8))
    r = f.call("PyObject_Vectorcall", [found, args, i64(2), NULL], "ptr")
    decref(f, found)
    f.ret_(r)
    f.label("error")
    f.ret_(NULL)


def _has_slot(f: Fn, obj: Val, row: Val) -> Val:
    """Whether the class of an object has this row's function in its slot."""
    numbers = field(f, field(f, obj, layout.TYPE), layout.TYPE_NUMBERS)

    def look() -> list[Val]:
        mine = f.load("ptr", f.gep(numbers, words(f, row, Row.PLACE)))
        return [f.cmp("eq", mine, words(f, row, Row.OWN, "ptr"))]

    return f.if_(nonzero(f, numbers), look, lambda: [const("i1", 0)])[0]


def _define_slow(m: Module) -> None:
    """`ptr slow(a, b, row)`: what Python's own slot function for classes with methods does."""
    f = m.function("slow", [("a", "ptr"), ("b", "ptr"), ("row", "ptr")], "ptr", internal=True, attrs="noinline")
    a, b, row = f.args
    not_implemented = sym("tj_not_implemented")
    alike = f.cmp("eq", field(f, a, layout.TYPE), field(f, b, layout.TYPE))
    turned = f.and_(f.not_(alike), _has_slot(f, b, row))
    f.guard(_has_slot(f, a, row), "reflected")
    r = f.call("method", [a, b, words(f, row, Row.METHOD, "ptr")], "ptr")
    f.guard(f.and_(f.cmp("eq", r, not_implemented), turned), "done")
    decref(f, r)
    f.br("reflected")
    f.label("done")
    f.ret_(r)
    f.label("reflected")
    f.guard(turned, "neither")
    f.ret_(f.call("method", [b, a, words(f, row, Row.REFLECTED, "ptr")], "ptr"))
    f.label("neither")
    incref(f, not_implemented)
    f.ret_(not_implemented)


def _row(f: Fn, number: int) -> Val:
    return f.gep(sym("tj_rows"), 8 * Row.WORDS * number)


def _define_binary_slot(m: Module, name: str, number: int, operation: str = "binary") -> None:
    f = m.function(name, [("a", "ptr"), ("b", "ptr")], "ptr")
    row = _row(f, number)
    r = f.call(operation, [*f.args, row], "ptr")
    f.guard(f.cmp("ne", r, MISS), "slow")
    f.ret_(r)
    f.label("slow")
    f.ret_(f.call("slow", [*f.args, row], "ptr"))


def _define_power_slot(m: Module, name: str, number: int, square: int) -> None:
    """Powers to a Python number that have functions of their own: squares are computed by rows `square` (of all types)
    and the next (of floats), the others by the method."""
    f = m.function(name, [("a", "ptr"), ("b", "ptr"), ("modulus", "ptr")], "ptr")
    a, b, modulus = f.args
    row, cls, overflow = _row(f, number), field(f, b, layout.TYPE), f.alloca(4, 4)
    f.guard(f.cmp("eq", modulus, sym("tj_none")), "modular")

    def integer() -> list[Val]:
        n = f.call("PyLong_AsLongLongAndOverflow", [b, overflow], "i64")
        special = f.or_(f.cmp("eq", n, i64(1)), f.cmp("eq", n, i64(-1)))
        return choose(special, f.cmp("eq", n, i64(2)), square)

    def floating() -> list[Val]:
        x = f.intrinsic("fabs", field(f, b, layout.FLOAT_VALUE, "double"))
        half = f.cmp("oeq", x, const("double", 0.5))
        two = f.cmp("oeq", field(f, b, layout.FLOAT_VALUE, "double"), const("double", 2.0))
        return choose(f.or_(half, f.cmp("oeq", x, const("double", 1.0))), two, square + 1)

    def choose(special: Val, two: Val, squares: int) -> list[Val]:
        f.guard(f.not_(special), "slow")
        return f.if_(two, lambda: [f.call("unary", [a, _row(f, squares)], "ptr")], power)

    def power() -> list[Val]:
        return [f.call("binary", [a, b, row], "ptr")]

    def not_integer() -> list[Val]:
        return f.if_(f.cmp("eq", cls, sym("tj_float")), floating, power)

    r = f.if_(f.cmp("eq", cls, sym("tj_int")), integer, not_integer)[0]
    f.guard(f.cmp("ne", r, MISS), "slow")
    f.ret_(r)
    f.label("slow")
    f.ret_(f.call("slow", [a, b, row], "ptr"))
    f.label("modular")
    incref(f, sym("tj_not_implemented"))
    f.ret_(sym("tj_not_implemented"))


def _define_unary_slot(m: Module, name: str, number: int) -> None:
    f = m.function(name, [("a", "ptr")], "ptr")
    row = _row(f, number)
    r = f.call("unary", [*f.args, row], "ptr")
    f.guard(f.cmp("ne", r, MISS), "slow")
    f.ret_(r)
    f.label("slow")
    f.ret_(f.call(words(f, row, Row.METHOD, "ptr"), f.args, "ptr"))


def _define_compare(m: Module, first: int) -> None:
    """Rows of the comparisons lie in the order of Python's numbers for them, from `first` on."""
    f = m.function("compare", [("a", "ptr"), ("b", "ptr"), ("kind", "i32")], "ptr")
    a, b, kind = f.args
    row = f.gep(_row(f, first), f.mul(f.cast("sext", kind, "i64"), i64(8 * Row.WORDS)))
    r = f.call("binary", [a, b, row], "ptr")
    f.guard(f.cmp("ne", r, MISS), "slow")
    f.ret_(r)
    f.label("slow")
    f.ret_(f.call("tj_richcompare", [a, b, kind], "ptr"))


def _define_call(m: Module, operation: str, arity: int) -> None:
    """`call_unary` and its like, C functions for Python: `self` is a bytes object with the row's address."""
    f = m.function(f"call_{operation}", [("self", "ptr"), ("args", "ptr"), ("nargs", "i64")], "ptr")
    self, args, nargs = f.args
    f.guard(f.cmp("eq", nargs, i64(arity)), "miss")
    row = field(f, self, layout.BYTES_DATA)
    objects = [f.load("ptr", f.gep(args, 8 * k)) for k in range(arity)]
    r = f.call(operation, [*objects, row], "ptr")
    f.guard(f.cmp("ne", r, MISS), "miss")
    f.ret_(r)
    f.label("miss")
    incref(f, sym("tj_not_implemented"))
    f.ret_(sym("tj_not_implemented"))


def module_text(payload: int, unary: Sequence[str], binary: Sequence[str], product: str, power: str) -> str:
    """The module for operators with these names. Their rows lie in this order, then those of the comparisons, and of
    the square for all types and for floats."""
    m = Module()
    for name, (ret, params) in FUNCTIONS.items():
        m.declare(name, ret, params)
    for name in DATA:
        m.global_(name, "external global i8")
    define_operations(m, payload)
    _define_method(m)
    _define_slow(m)
    for k, name in enumerate(unary):
        _define_unary_slot(m, name, k)
    for k, name in enumerate(binary, len(unary)):
        _define_binary_slot(m, name, k)
    after = len(unary) + len(binary)
    _define_binary_slot(m, product, after, "product")
    _define_power_slot(m, power, after + 1, after + 2 + COMPARISONS)
    _define_compare(m, after + 2)
    for operation, arity in CALLS.items():
        _define_call(m, operation, arity)
    return m.text()
