"""The native code that reads tensors: shapes, types and values as Python's and NumPy's objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from tracejit.lower.llvm import NULL, Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.arithmetic import MISS, Element, element_of, return_at_labels, size_of, words
from tracejit.runtime.boundary import decref, field, incref, nonzero, python_method, switch, sym
from tracejit.runtime.views import is_exact, rank_of, require_quiet

_SIGNED: Final = {"int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64"}
_UNSIGNED: Final = {"uint8": "i8", "uint16": "i16", "uint32": "i32"}
_REAL: Final = {"float32": "float", "float64": "double"}
SLOTS: Final = ("__float__", "__int__", "__bool__", "__index__", "__len__", "__getitem__")
GETTERS: Final = ("shape", "dtype", "ndim", "size", "T")
METHODS: Final = ("numpy", "item", "tolist")


def _number(name: str) -> int:
    return int(np.dtype(name).num)


def _getter(m: Module, name: str, quiet: bool) -> tuple[Fn, Val]:
    """A function of a tensor that reads its array."""
    f = m.function(name, [("obj", "ptr"), ("closure", "ptr")], "ptr")
    if quiet:
        require_quiet(f)
    array = f.call("payload", [f.args[0]], "ptr")
    f.guard(nonzero(f, array), "miss")
    return f, array


def _by_python(f: Fn, name: str) -> None:
    """At "miss": what the Python function does that this one stands for."""
    args = f.alloca(8, 8)
    f.label("miss")
    f.store(f.args[0], args)
    f.ret_(f.call("PyObject_Vectorcall", [sym(f"tj_python_{name}"), args, i64(1), NULL], "ptr"))


# --- what a tensor is -------------------------------------------------------------------------------------------
def _define_shape(m: Module) -> None:
    f, array = _getter(m, "get_shape", quiet=False)
    n = rank_of(f, array)
    shape = f.call("PyType_GenericAlloc", [sym("tj_shape"), n], "ptr")
    f.guard(nonzero(f, shape), "error")
    array = f.call("payload", [f.args[0]], "ptr")  # to make a tuple may collect garbage, and that run Python
    f.guard(nonzero(f, array), "changed")
    f.guard(f.cmp("eq", rank_of(f, array), n), "changed")
    if layout.TUPLE_ITEMS > layout.SIZE + 8:  # tuples keep their hash; none is known yet
        f.store(i64(-1), f.gep(shape, layout.SIZE + 8))
    dims = field(f, array, layout.ARRAY_DIMS)

    def axis(i: Val) -> None:
        d = f.call("PyLong_FromLongLong", [f.load("i64", f.gep(dims, i, "i64"))], "ptr")
        f.guard(nonzero(f, d), "lost")
        f.store(d, f.gep(f.gep(shape, layout.TUPLE_ITEMS), i, "ptr"))

    f.loop(0, n, axis)
    f.ret_(shape)
    f.label("changed")
    f.call("Py_DecRef", [shape])
    f.br("miss")
    f.label("lost")
    f.call("Py_DecRef", [shape])
    f.br("error")
    f.label("error")
    f.ret_(NULL)
    _by_python(f, "shape")


def _define_attributes(m: Module) -> None:
    f, array = _getter(m, "get_dtype", quiet=False)
    _, kind = element_of(f, array)
    dtype = words(f, kind, Element.DTYPE, "ptr")
    incref(f, dtype)
    f.ret_(dtype)
    _by_python(f, "dtype")
    f, array = _getter(m, "get_ndim", quiet=False)
    f.ret_(f.call("PyLong_FromLongLong", [rank_of(f, array)], "ptr"))
    _by_python(f, "ndim")
    f, array = _getter(m, "get_size", quiet=False)
    f.ret_(f.call("PyLong_FromLongLong", [size_of(f, array)], "ptr"))
    _by_python(f, "size")
    f, array = _getter(m, "get_T", quiet=True)
    out = f.call("PyArray_Transpose", [array, NULL], "ptr")
    f.guard(nonzero(f, out), "error")
    f.ret_(f.call("wrap", [out], "ptr"))
    f.label("error")
    f.ret_(NULL)
    _by_python(f, "T")


# --- values -----------------------------------------------------------------------------------------------------
def _value(f: Fn, array: Val, integer: Callable[[Val], Val], whole: Callable[[Val], Val], real: Callable[[Val], Val],
           truth: Callable[[Val], Val]) -> None:  # fmt: skip
    """Return what one of the functions makes of the only element; jumps to "miss" for several, and for other types.

    They take a signed or an unsigned 64-bit integer, a double, and a bit.
    """
    f.guard(f.cmp("eq", size_of(f, array), i64(1)), "miss")
    number = field(f, field(f, array, layout.ARRAY_DESCR), layout.DESCR_NUMBER, "i32")
    data = field(f, array, layout.ARRAY_DATA)
    element_of(f, array)

    def give(ty: str, step: Callable[[Val], Val]) -> Callable[[], None]:
        return lambda: f.store(step(f.load(ty, data, align=1)), place)

    place = f.alloca(8, 8)
    arms = {_number(n): give(ty, lambda v: integer(f.cast("sext", v, "i64"))) for n, ty in _SIGNED.items()}
    arms |= {_number(n): give(ty, lambda v: integer(f.cast("zext", v, "i64"))) for n, ty in _UNSIGNED.items()}
    arms[_number("uint64")] = give("i64", whole)
    arms |= {_number(n): give(ty, lambda v: real(f.cast("fpext", v, "double"))) for n, ty in _REAL.items()}
    arms[_number("bool")] = give("i8", lambda v: truth(nonzero(f, v)))
    switch(f, number, arms, "miss")
    f.ret_(f.load("ptr", place))


def _objects(f: Fn) -> tuple[Callable[[Val], Val], ...]:
    """An element as the Python number that NumPy's `item` gives."""

    def truth(v: Val) -> Val:
        r = f.select(v, sym("tj_true"), sym("tj_false"))
        incref(f, r)
        return r

    def made(name: str) -> Callable[[Val], Val]:
        return lambda v: f.call(name, [v], "ptr")

    return made("PyLong_FromLongLong"), made("PyLong_FromUnsignedLongLong"), made("PyFloat_FromDouble"), truth


def _slot(m: Module, name: str, ret: str = "ptr") -> tuple[Fn, Val]:
    f = m.function(name, [("obj", "ptr")], ret)
    require_quiet(f)
    array = f.call("payload", f.args, "ptr")
    f.guard(nonzero(f, array), "miss")
    return f, array


def _as_before(f: Fn, name: str, ret: str = "ptr") -> None:
    """At "miss": what Python's own slot function does, which calls the method."""
    f.label("miss")
    f.ret_(f.call(f"tj_before{name}", f.args, ret))


def _define_numbers(m: Module) -> None:
    f, array = _slot(m, "__float__")

    def made(opcode: str) -> Callable[[Val], Val]:
        return lambda v: f.call("PyFloat_FromDouble", [f.cast(opcode, v, "double")], "ptr")

    _value(f, array, made("sitofp"), made("uitofp"), made(""), made("uitofp"))
    _as_before(f, "__float__")
    f, array = _slot(m, "__int__")
    integer, whole, _, _ = _objects(f)

    def truncated(v: Val) -> Val:
        finite = f.cmp("olt", f.intrinsic("fabs", v), const("double", 2.0**62))
        f.guard(finite, "miss")
        return integer(f.cast("fptosi", v, "i64"))

    _value(f, array, integer, whole, truncated, lambda v: integer(f.cast("zext", v, "i64")))
    _as_before(f, "__int__")
    f, array = _slot(m, "__index__")
    f.guard(f.cmp("eq", field(f, array, layout.ARRAY_NDIM, "i32"), const("i32", 0)), "miss")
    integer, whole, _, _ = _objects(f)

    def never(v: Val) -> Val:
        f.guard(f.cmp("eq", f.args[0], NULL), "miss")
        return NULL

    _value(f, array, integer, whole, never, never)
    _as_before(f, "__index__")


def _define_truth(m: Module) -> None:
    f, array = _slot(m, "__bool__", "i32")
    f.guard(f.cmp("eq", size_of(f, array), i64(1)), "miss")
    element_of(f, array)
    number = field(f, field(f, array, layout.ARRAY_DESCR), layout.DESCR_NUMBER, "i32")
    data, place = field(f, array, layout.ARRAY_DATA), f.alloca(4, 4)

    def give(ty: str, test: str) -> Callable[[], None]:
        def arm() -> None:
            v = f.load(ty, data, align=1)
            f.store(f.cast("zext", f.cmp(test, v, const(ty, 0)), "i32"), place)

        return arm

    arms = {_number(n): give(ty, "ne") for n, ty in (_SIGNED | _UNSIGNED | {"bool": "i8", "uint64": "i64"}).items()}
    arms |= {_number(n): give(ty, "une") for n, ty in _REAL.items()}
    switch(f, number, arms, "miss")
    f.ret_(f.load("i32", place))
    _as_before(f, "__bool__", "i32")


def _define_length(m: Module) -> None:
    f = m.function("__len__", [("obj", "ptr")], "i64")
    array = f.call("payload", f.args, "ptr")
    f.guard(nonzero(f, array), "miss")
    f.guard(f.cmp("sgt", rank_of(f, array), i64(0)), "miss")
    f.ret_(f.load("i64", field(f, array, layout.ARRAY_DIMS)))
    _as_before(f, "__len__", "i64")


def _define_items(m: Module) -> None:
    """`x[key]` of Tensors and of Variables, from the slot and from the methods of the two classes."""
    for name, function, cls in (("getitem", "subscript", "tj_tensor"), ("part", "variable_subscript", "tj_variable")):
        f = m.function(name, [("obj", "ptr"), ("key", "ptr")], "ptr")
        args = f.alloca(16, 8)
        f.guard(is_exact(f, f.args[0], cls), "miss")
        r = f.call(function, f.args, "ptr")
        f.guard(f.cmp("ne", r, MISS), "miss")
        f.ret_(r)
        f.label("miss")
        for k, x in enumerate(f.args):
            f.store(x, f.gep(args, 8 * k))
        f.ret_(f.call("PyObject_Vectorcall", [sym(f"tj_python_{name}"), args, i64(2), NULL], "ptr"))
    f = m.function("__getitem__", [("obj", "ptr"), ("key", "ptr")], "ptr")
    obj, key = f.args
    f.guard(f.not_(is_exact(f, obj, "tj_tensor")), "tensor")
    f.guard(f.not_(is_exact(f, obj, "tj_variable")), "variable")
    f.ret_(f.call("tj_before__getitem__", [obj, key], "ptr"))
    for label, name in (("tensor", "getitem"), ("variable", "part")):
        f.label(label)
        f.ret_(f.call(name, [obj, key], "ptr"))


def _define_methods(m: Module) -> None:
    """Methods without arguments."""
    f, array = _getter(m, "item", quiet=True)
    _value(f, array, *_objects(f))
    _by_python(f, "item")
    f, array = _getter(m, "tolist", quiet=True)
    incref(f, array)
    made = f.call("PyArray_ToList", [array], "ptr")
    decref(f, array)
    f.ret_(made)
    _by_python(f, "tolist")
    f, array = _getter(m, "numpy", quiet=True)
    f.guard(is_exact(f, f.args[0], "tj_tensor"), "miss")
    f.guard(nonzero(f, rank_of(f, array)), "point")
    f.ret_(f.call("sealed_view", [f.args[0], array], "ptr"))
    f.label("point")
    place = [field(f, array, at) for at in (layout.ARRAY_DATA, layout.ARRAY_DESCR)]
    f.ret_(f.call("PyArray_Scalar", [*place, array], "ptr"))
    _by_python(f, "numpy")


def _define_sealed(m: Module) -> None:
    """`ptr sealed(obj)`: an array with a tensor's value that NumPy lets nobody write to, or MISS."""
    f = m.function("sealed_view", [("owner", "ptr"), ("array", "ptr")], "ptr", internal=True, attrs="alwaysinline")
    owner, array = f.args
    descr, rank = field(f, array, layout.ARRAY_DESCR), field(f, array, layout.ARRAY_NDIM, "i32")
    incref(f, descr)
    shape = [field(f, array, at) for at in (layout.ARRAY_DIMS, layout.ARRAY_STRIDES, layout.ARRAY_DATA)]
    args = [sym("tj_ndarray"), descr, rank, *shape, const("i32", 0), NULL]
    out = f.call("PyArray_NewFromDescr", args, "ptr")
    f.guard(nonzero(f, out), "error")
    incref(f, owner)
    f.call("PyArray_SetBaseObject", [out, owner], "i32")  # an array as the base could be made writeable again
    f.ret_(out)
    f.label("error")
    f.ret_(NULL)
    f = m.function("sealed", [("obj", "ptr")], "ptr", internal=True)
    (obj,) = f.args
    require_quiet(f)
    array = f.call("payload", [obj], "ptr")
    f.guard(nonzero(f, array), "miss")
    f.guard(f.not_(is_exact(f, obj, "tj_tensor")), "tensor")
    incref(f, array)  # a Variable may let go of it
    owner = f.call("wrap", [array], "ptr")
    f.guard(nonzero(f, owner), "error")
    made = f.call("sealed_view", [owner, array], "ptr")
    decref(f, owner)
    f.ret_(made)
    f.label("tensor")
    f.ret_(f.call("sealed_view", [obj, array], "ptr"))
    return_at_labels(f)


def _define_array(m: Module) -> None:
    """`ptr array_method(self, args, nargs, names)`, the method `__array__`."""
    params = [("self", "ptr"), ("args", "ptr"), ("nargs", "i64"), ("names", "ptr")]
    f = m.function("array_method", params, "ptr")
    self, args, nargs, names = f.args
    f.guard(f.cmp("eq", nargs, i64(0)), "python")
    f.guard(f.cmp("eq", names, NULL), "named")
    r = f.call("sealed", [self], "ptr")
    f.guard(f.cmp("ne", r, MISS), "python")
    f.ret_(r)
    f.label("named")  # np.array asks for a copy
    f.guard(f.cmp("eq", field(f, names, layout.SIZE, "i64"), i64(1)), "python")
    text = m.global_("copy_text", 'internal constant [5 x i8] c"copy\\00"')
    name = f.load("ptr", f.gep(names, layout.TUPLE_ITEMS))
    same = f.call("PyUnicode_CompareWithASCIIString", [name, text], "i32")
    f.guard(f.cmp("eq", same, const("i32", 0)), "python")
    f.guard(f.cmp("eq", f.load("ptr", args), sym("tj_true")), "python")
    require_quiet(f, "python")
    array = f.call("payload", [self], "ptr")
    f.guard(nonzero(f, array), "python")
    incref(f, array)
    made = f.call("copy", [array], "ptr")
    decref(f, array)
    f.guard(f.cmp("ne", made, MISS), "python")
    f.ret_(made)
    f.label("python")
    python_method(f, "tj_python_array_method")


def define_reading(m: Module) -> None:
    """The getters of attributes, the methods, and the functions in the slots of Python's own protocols."""
    _define_shape(m)
    _define_attributes(m)
    _define_numbers(m)
    _define_truth(m)
    _define_length(m)
    _define_items(m)
    _define_sealed(m)
    _define_methods(m)
    _define_array(m)
