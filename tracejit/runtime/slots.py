"""The native functions in the slots of Tensor's operators, and behind the public functions of the same operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tracejit.lower.llvm import NULL, Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.arithmetic import MISS, Row, define_operands, row_of, words
from tracejit.runtime.boundary import decref, field, incref, nonzero, python_method, sym
from tracejit.runtime.indexkeys import define_keys
from tracejit.runtime.loops import OPERATIONS, define_operations
from tracejit.runtime.picking import define_picking
from tracejit.runtime.reading import define_reading
from tracejit.runtime.recast import define_recast
from tracejit.runtime.segments import define_segments
from tracejit.runtime.shapes import define_shapes
from tracejit.runtime.values import define_values
from tracejit.runtime.variables import PARTS, define_assignments
from tracejit.runtime.views import define_views

COMPARISONS: Final = 6
CALLS: Final = {name: arity for name, (_, arity) in OPERATIONS.items()}
# Functions of their own, which miss what is not simple, with the number of their operands.
QUICK: Final = {
    "cast": 2, "convert": 2, "identity": 1, "reshape": 2, "transpose": 2, "reverse_axes": 1, "squeeze": 2,
    "expand_dims": 2, "sealed": 1, "assign": 2, "assign_add": 2, "assign_sub": 2, "masked": 2, "swap_last": 1,
    "block": 3, "put": 3, "moved": 2, "elements": 1, "zeros": 2, "count": 1, "strided": 4, "rank": 1, "size": 1,
    "shape": 1, "bits": 2, "real": 1, "imag": 1, "segment_sum": 3, "segment_prod": 3, "segment_max": 4,
    "segment_min": 4, "steps": 3,
}  # fmt: skip
_UPDATES: Final = {"assign_add": "__add__", "assign_sub": "__sub__"}
DATA: Final = (
    "tj_ndarray", "tj_generic", "tj_integer", "tj_tensor", "tj_variable", "tj_float", "tj_complex", "tj_int",
    "tj_int64", "tj_int32", "tj_bool", "tj_true", "tj_false", "tj_none", "tj_zero", "tj_not_implemented", "tj_busy",
    "tj_rows", "tj_types", "tj_promotion", "tj_dtypes", "tj_shape", "tj_slice", "tj_tuple", "tj_list", "tj_dots",
    "tj_silent", "tj_python_shape", "tj_python_dtype", "tj_python_ndim", "tj_python_size", "tj_python_T",
    "tj_python_numpy", "tj_python_item", "tj_python_tolist", "tj_python_getitem", "tj_python_part",
    "tj_python_array_ufunc", "tj_str", "tj_ufuncs", "tj_python_array_method", "tj_part_methods", "tj_assign",
    "tj_assign_name",
    *[f"tj_{kind}_{name}" for kind in ("python", "slice") for name in PARTS],
)  # fmt: skip
FUNCTIONS: Final[dict[str, tuple[str, Sequence[str]]]] = {
    "PyArray_CopyInto": ("i32", ["ptr", "ptr"]),
    "PyArray_FromScalar": ("ptr", ["ptr", "ptr"]),
    "PyArray_NewFromDescr": ("ptr", ["ptr", "ptr", "i32", "ptr", "ptr", "ptr", "i32", "ptr"]),
    "PyArray_Newshape": ("ptr", ["ptr", "ptr", "i32"]),
    "PyArray_Scalar": ("ptr", ["ptr", "ptr", "ptr"]),
    "PyArray_SetBaseObject": ("i32", ["ptr", "ptr"]),
    "PyArray_ToList": ("ptr", ["ptr"]),
    "PyArray_Transpose": ("ptr", ["ptr", "ptr"]),
    "PyContext_Enter": ("i32", ["ptr"]),
    "PyContext_Exit": ("i32", ["ptr"]),
    "PyErr_Clear": ("void", []),
    "PyEval_RestoreThread": ("void", ["ptr"]),
    "PyEval_SaveThread": ("ptr", []),
    "PyFloat_FromDouble": ("ptr", ["double"]),
    "PyList_New": ("ptr", ["i64"]),
    "PyLong_AsLongLongAndOverflow": ("i64", ["ptr", "ptr"]),
    "PyLong_FromLongLong": ("ptr", ["i64"]),
    "PyLong_FromUnsignedLongLong": ("ptr", ["i64"]),
    "PyMethod_New": ("ptr", ["ptr", "ptr"]),
    "PyNumber_AsSsize_t": ("i64", ["ptr", "ptr"]),
    "PyObject_GetAttr": ("ptr", ["ptr", "ptr"]),
    "PyObject_Vectorcall": ("ptr", ["ptr", "ptr", "i64", "ptr"]),
    "PySlice_AdjustIndices": ("i64", ["i64", "ptr", "ptr", "i64"]),
    "PySlice_Unpack": ("i32", ["ptr", "ptr", "ptr", "ptr"]),
    "PyTuple_New": ("ptr", ["i64"]),
    "PyType_GenericAlloc": ("ptr", ["ptr", "i64"]),
    "PyType_IsSubtype": ("i32", ["ptr", "ptr"]),
    "PyUnicode_CompareWithASCIIString": ("i32", ["ptr", "ptr"]),
    "Py_DecRef": ("void", ["ptr"]),
    "Py_IncRef": ("void", ["ptr"]),
    "_Py_Dealloc": ("void", ["ptr"]),
    "tj_array": ("ptr", ["ptr", "i32", "ptr", "i64"]),
    "tj_before__bool__": ("i32", ["ptr"]),
    "tj_before__float__": ("ptr", ["ptr"]),
    "tj_before__getitem__": ("ptr", ["ptr", "ptr"]),
    "tj_before__index__": ("ptr", ["ptr"]),
    "tj_before__int__": ("ptr", ["ptr"]),
    "tj_before__len__": ("i64", ["ptr"]),
    "tj_numpy_put": ("i32", ["ptr", "ptr", "ptr"]),
    "tj_numpy_subscript": ("ptr", ["ptr", "ptr"]),
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
        own = [f.load("ptr", f.gep(row, 8 * word)) for word in (Row.OWN, Row.OLDER)]
        return [f.or_(*[f.cmp("eq", mine, function) for function in own])]

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


def _define_binary_slot(m: Module, name: str, number: int, operation: str = "binary") -> None:
    f = m.function(name, [("a", "ptr"), ("b", "ptr")], "ptr")
    row = row_of(f, number)
    r = f.call(operation, [*f.args, row], "ptr")
    f.guard(f.cmp("ne", r, MISS), "slow")
    f.ret_(r)
    f.label("slow")
    f.ret_(f.call("slow", [*f.args, row], "ptr"))


def _define_power_slot(m: Module, name: str, number: int, square: int) -> None:
    """Powers to a Python number that have functions of their own: squares are computed by rows `square` (of all types)
    and the next (of floats), powers of integers to such that are not negative by the row after it, roots by the next,
    the others by the method."""
    f = m.function(name, [("a", "ptr"), ("b", "ptr"), ("modulus", "ptr")], "ptr")
    a, b, modulus = f.args
    row, cls, overflow = row_of(f, number), field(f, b, layout.TYPE), f.alloca(4, 4)
    f.guard(f.cmp("eq", modulus, sym("tj_none")), "modular")

    def integer() -> list[Val]:
        n = f.call("PyLong_AsLongLongAndOverflow", [b, overflow], "i64")
        special = f.or_(f.cmp("eq", n, i64(1)), f.cmp("eq", n, i64(-1)))
        whole = f.cmp("sge", n, i64(0))
        return choose(special, f.cmp("eq", n, i64(2)), row_of(f, square), f.select(whole, row_of(f, square + 2), row))

    def floating() -> list[Val]:
        x = f.intrinsic("fabs", field(f, b, layout.FLOAT_VALUE, "double"))
        power = field(f, b, layout.FLOAT_VALUE, "double")
        half, root = f.cmp("oeq", x, const("double", 0.5)), f.cmp("oeq", power, const("double", 0.5))
        special = f.or_(f.and_(half, f.not_(root)), f.cmp("oeq", x, const("double", 1.0)))
        rows = f.select(root, row_of(f, square + 3), row_of(f, square + 1))
        return choose(special, f.or_(root, f.cmp("oeq", power, const("double", 2.0))), rows, row)

    def choose(special: Val, one: Val, alone: Val, other: Val) -> list[Val]:
        f.guard(f.not_(special), "slow")
        return f.if_(one, lambda: [f.call("unary", [a, alone], "ptr")], lambda: power(other))

    def power(chosen: Val) -> list[Val]:
        return [f.call("binary", [a, b, chosen], "ptr")]

    def not_integer() -> list[Val]:
        return f.if_(f.cmp("eq", cls, sym("tj_float")), floating, lambda: power(row))

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
    row = row_of(f, number)
    r = f.call("unary", [*f.args, row], "ptr")
    f.guard(f.cmp("ne", r, MISS), "slow")
    f.ret_(r)
    f.label("slow")
    f.ret_(f.call(words(f, row, Row.METHOD, "ptr"), f.args, "ptr"))


def _define_compare(m: Module, first: int) -> None:
    """Rows of the comparisons lie in the order of Python's numbers for them, from `first` on."""
    f = m.function("compare", [("a", "ptr"), ("b", "ptr"), ("kind", "i32")], "ptr")
    a, b, kind = f.args
    row = f.gep(row_of(f, first), f.mul(f.cast("sext", kind, "i64"), i64(8 * Row.WORDS)))
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


def _define_array_ufunc(m: Module) -> None:
    """`ptr array_ufunc(self, args, nargs, names)`, the method `__array_ufunc__`: NumPy calls it for its ufuncs."""
    params = [("self", "ptr"), ("args", "ptr"), ("nargs", "i64"), ("names", "ptr")]
    f = m.function("array_ufunc", params, "ptr")
    _, args, nargs, names = f.args
    f.guard(f.cmp("eq", names, NULL), "python")
    f.guard(f.cmp("ult", f.sub(nargs, i64(3)), i64(2)), "python")
    how = f.load("ptr", f.gep(args, 8))
    f.guard(f.cmp("eq", field(f, how, layout.TYPE), sym("tj_str")), "python")
    text = m.global_("call_text", 'internal constant [9 x i8] c"__call__\\00"')
    same = f.call("PyUnicode_CompareWithASCIIString", [how, text], "i32")
    f.guard(f.cmp("eq", same, const("i32", 0)), "python")
    ufunc = f.load("ptr", args)

    def other(k: Val) -> Val:
        have = f.load("ptr", f.gep(sym("tj_ufuncs"), f.mul(k, i64(24))))
        return f.and_(nonzero(f, have), f.cmp("ne", have, ufunc))

    (k,) = f.while_([i64(0)], other, lambda k: [f.add(k, i64(1))])
    entry = f.gep(sym("tj_ufuncs"), f.mul(k, i64(24)))  # the ufunc, the row, and how many operands
    f.guard(nonzero(f, f.load("ptr", entry)), "python")
    row = f.load("ptr", f.gep(entry, 8))
    f.guard(f.cmp("eq", f.load("i64", f.gep(entry, 16)), f.sub(nargs, i64(2))), "python")
    a = f.load("ptr", f.gep(args, 16))

    def both() -> list[Val]:
        return [f.call("binary", [a, f.load("ptr", f.gep(args, 24)), row], "ptr")]

    (r,) = f.if_(f.cmp("eq", nargs, i64(4)), both, lambda: [f.call("unary", [a, row], "ptr")])
    f.guard(f.cmp("ne", r, MISS), "python")
    f.ret_(r)
    f.label("python")
    python_method(f, "tj_python_array_ufunc")


def _define_quick(m: Module, name: str, arity: int) -> None:
    """The same of a function that has no row."""
    f = m.function(f"call_{name}", [("self", "ptr"), ("args", "ptr"), ("nargs", "i64")], "ptr")
    _, args, nargs = f.args
    f.guard(f.cmp("eq", nargs, i64(arity)), "miss")
    r = f.call(name, [f.load("ptr", f.gep(args, 8 * k)) for k in range(arity)], "ptr")
    f.guard(f.cmp("ne", r, MISS), "miss")
    f.ret_(r)
    f.label("miss")
    incref(f, sym("tj_not_implemented"))
    f.ret_(sym("tj_not_implemented"))


def module_text(
    payload: int, slice_of: int, unary: Sequence[str], binary: Sequence[str], product: str, power: str
) -> str:
    """The module for operators with these names. Their rows lie in this order, then those of the comparisons, and of
    the square for all types and for floats."""
    m = Module()
    for name, (ret, params) in FUNCTIONS.items():
        m.declare(name, ret, params)
    for name in DATA:
        m.global_(name, "external global i8")
    define_operands(m, payload)
    define_recast(m)
    define_operations(m)
    define_values(m)
    define_keys(m)
    define_views(m, slice_of)
    define_shapes(m)
    define_picking(m)
    define_segments(m)
    define_reading(m)
    rows = {name: len(unary) + list(binary).index(method) for name, method in _UPDATES.items()}
    define_assignments(m, payload, slice_of, rows)
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
    _define_array_ufunc(m)
    for name, arity in QUICK.items():
        _define_quick(m, name, arity)
    return m.text()
