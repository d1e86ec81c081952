"""The native code that takes the operands of eager operations: arrays in tensors, NumPy's own, and Python numbers.

A row of words describes one operation, `[slot | method | reflected | place | … | loops …]` with three words for each of
NumPy's type numbers: the loop, its data, and the type of its result. A record of words describes an element type.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from tracejit.lower.llvm import NULL, Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.boundary import decref, field, incref, nonzero, sym

MISS: Final = const("ptr", 1)  # no object lies at this address
TYPES: Final = 24  # NumPy's type numbers below this one


class Row(IntEnum):
    """Words of an operation's row."""

    OWN = 0  # the slot's function
    METHOD = 1  # a binary operator's method by name; a unary one's slot function as it was
    REFLECTED = 2
    PLACE = 3  # the slot's offset in PyNumberMethods
    ROUNDED = 4  # whether the bits of a result may depend on the way in which NumPy walks over the arrays
    PROMOTE = 5  # how operands of several types are brought together, a `Promote`
    COMPARES = 6  # whether integers of all types are compared exactly
    OLDER = 7  # the slot's function before better code took its place: slots have it a moment longer
    LOOPS = 8
    WORDS = LOOPS + 3 * TYPES


class Promote(IntEnum):
    """What becomes of operands of several types."""

    NEVER = 0
    COMMON = 1
    FLOAT = 2  # and integers become floating


class Element(IntEnum):
    """Words of an element type's record."""

    DESCR = 0
    SIZE = 1
    NUMBER = 2  # how a Python number is stored in it
    LOW = 3
    HIGH = 4
    DTYPE = 5  # our own object for it
    WORDS = 6


class Number(IntEnum):
    """How Python numbers are stored in elements of a type."""

    NEVER = 0
    INTEGER = 1
    FLOAT = 2
    DOUBLE = 3
    COMPLEX_FLOAT = 4  # two floats
    COMPLEX_DOUBLE = 5


def words(f: Fn, record: Val, index: int, ty: str = "i64") -> Val:
    """A word of a row or of an element's record; they never change while they are in use."""
    return f.load(ty, f.gep(record, 8 * index), invariant=True)


# --- operands ---------------------------------------------------------------------------------------------------
def require_loopable(f: Fn, array: Val, label: str = "miss") -> None:
    """Jump to `label` unless a loop can run over the array as it is."""
    flags, plain = field(f, array, layout.ARRAY_FLAGS, "i32"), const("i32", layout.C_CONTIGUOUS | layout.ALIGNED)
    simple = f.cmp("eq", f.and_(flags, plain), plain)
    aligned = nonzero(f, f.and_(flags, const("i32", layout.ALIGNED)))
    flat = f.cmp("eq", field(f, array, layout.ARRAY_NDIM, "i32"), const("i32", 1))  # loops take any step
    f.guard(f.or_(simple, f.and_(flat, aligned)), label)


def is_tensor(f: Fn, obj: Val) -> Val:
    cls = field(f, obj, layout.TYPE)
    return f.or_(f.cmp("eq", cls, sym("tj_tensor")), f.cmp("eq", cls, sym("tj_variable")))


def _define_payload(m: Module, payload: int) -> None:
    """`ptr payload(obj)`: the array in a Tensor or Variable; null for anything else."""
    f = m.function("payload", [("obj", "ptr")], "ptr", internal=True, attrs="alwaysinline")
    (obj,) = f.args
    f.guard(is_tensor(f, obj), "miss")
    array = field(f, obj, payload)
    f.guard(nonzero(f, array), "miss")
    f.guard(f.cmp("eq", field(f, array, layout.TYPE), sym("tj_ndarray")), "miss")
    f.ret_(array)
    f.label("miss")
    f.ret_(NULL)


def _define_array_of(m: Module) -> None:
    """`ptr array_of(obj)`: the array in a Tensor or Variable, if a loop can run over it as it is; else null."""
    f = m.function("array_of", [("obj", "ptr")], "ptr", internal=True, attrs="alwaysinline")
    array = f.call("payload", f.args, "ptr")
    f.guard(nonzero(f, array), "miss")
    require_loopable(f, array)
    f.ret_(array)
    f.label("miss")
    f.ret_(NULL)


def _define_taken(m: Module) -> None:
    """`ptr taken(obj)`: a new reference to the array that an operand has, is or, as a number of NumPy's, becomes, if a
    loop can run over it; else null."""
    f = m.function("taken", [("obj", "ptr")], "ptr", internal=True, attrs="noinline")
    (obj,) = f.args
    own = f.call("payload", [obj], "ptr")
    cls = field(f, obj, layout.TYPE)
    exact = f.cmp("eq", cls, sym("tj_ndarray"))
    array = f.select(nonzero(f, own), own, f.select(exact, obj, NULL))
    f.guard(nonzero(f, array), "other")
    require_loopable(f, array)
    incref(f, array)
    f.ret_(array)
    f.label("other")
    f.guard(nonzero(f, f.call("PyType_IsSubtype", [cls, sym("tj_generic")], "i32")), "miss")
    made = f.call("PyArray_FromScalar", [obj, NULL], "ptr")
    f.guard(nonzero(f, made), "error")
    f.ret_(made)
    f.label("error")
    f.call("PyErr_Clear", [])
    f.br("miss")
    f.label("miss")
    f.ret_(NULL)


def _define_number(m: Module) -> None:
    """`i1 number(obj, element, place)`: store a Python number at `place`, unless the type has no such value."""
    params = [("obj", "ptr"), ("element", "ptr"), ("place", "ptr")]
    f = m.function("number", params, "i1", internal=True)
    obj, element, place = f.args
    kind = words(f, element, Element.NUMBER)
    real, single, pair = (f.cmp("eq", kind, i64(k)) for k in (Number.INTEGER, Number.FLOAT, Number.COMPLEX_FLOAT))
    narrow, complex_ = f.or_(single, pair), f.cmp("sge", kind, i64(Number.COMPLEX_FLOAT))
    cls, overflow = field(f, obj, layout.TYPE), f.alloca(4, 4)
    f.guard(f.cmp("ne", kind, i64(Number.NEVER)), "miss")

    def store_parts(x: Val, y: Val) -> None:
        def put(ty: str, *parts: Val) -> None:
            f.store(parts[0], place)
            f.if_(complex_, lambda: f.store(parts[1], f.gep(place, 4 if ty == "float" else 8)))

        f.if_(narrow, lambda: put("float", *[f.cast("fptrunc", v, "float") for v in (x, y)]),
              lambda: put("double", x, y))  # fmt: skip

    def store_float(x: Val) -> None:
        store_parts(x, const("double", 0.0))

    def floating() -> list[Val]:
        def put() -> list[Val]:
            store_float(field(f, obj, layout.FLOAT_VALUE, "double"))
            return [const("i1", 1)]

        return f.if_(f.not_(real), put, lambda: [const("i1", 0)])

    def imaginary() -> list[Val]:
        def put() -> list[Val]:
            store_parts(*[field(f, obj, layout.FLOAT_VALUE + 8 * k, "double") for k in range(2)])
            return [const("i1", 1)]

        return f.if_(complex_, put, lambda: [const("i1", 0)])

    def other() -> list[Val]:
        true = f.cmp("eq", obj, sym("tj_true"))
        logical = f.or_(true, f.cmp("eq", obj, sym("tj_false")))
        return f.if_(logical, lambda: put_integer(f.cast("zext", true, "i64")), no_truth)

    def no_truth() -> list[Val]:
        return f.if_(f.cmp("eq", cls, sym("tj_complex")), imaginary, integer)

    def integer() -> list[Val]:
        f.guard(f.cmp("eq", cls, sym("tj_int")), "miss")
        n = f.call("PyLong_AsLongLongAndOverflow", [obj, overflow], "i64")
        f.guard(f.cmp("eq", f.load("i32", overflow), const("i32", 0)), "miss")
        return put_integer(n)

    def put_integer(n: Val) -> list[Val]:
        low, high = words(f, element, Element.LOW), words(f, element, Element.HIGH)
        f.guard(f.or_(f.and_(f.cmp("sge", n, low), f.cmp("sle", n, high)), f.not_(real)), "miss")
        f.if_(real, lambda: f.store(n, place), lambda: store_float(f.cast("sitofp", n, "double")))
        return [const("i1", 1)]

    f.ret_(f.if_(f.cmp("eq", cls, sym("tj_float")), floating, other)[0])
    f.label("miss")
    f.ret_(const("i1", 0))


def _define_broadcast(m: Module) -> None:
    """`i32 broadcast(whole, part, inner)`: whether `part` repeats along the leading axes of `whole` (1, with the
    length of a repetition in `inner`) or along the last one only (2); 0 if neither."""
    params = [("whole", "ptr"), ("part", "ptr"), ("inner", "ptr")]
    f = m.function("broadcast", params, "i32", internal=True, attrs="noinline")
    whole, part, inner = f.args
    w, p = (f.cast("sext", field(f, x, layout.ARRAY_NDIM, "i32"), "i64") for x in (whole, part))
    f.guard(f.cmp("sge", w, p), "no")
    shift = f.sub(w, p)
    ahead = field(f, whole, layout.ARRAY_DIMS)
    theirs = field(f, part, layout.ARRAY_DIMS)

    def size(dims: Val, i: Val) -> Val:
        return f.load("i64", f.gep(dims, i, "i64"))

    ones = f.while_(
        [i64(0), const("i1", 1)],
        lambda k, go: f.and_(go, f.cmp("slt", k, p)),
        lambda k, _: (lambda one: [f.add(k, f.cast("zext", one, "i64")), one])(f.cmp("eq", size(theirs, k), i64(1))),
    )[0]

    def agree(i: Val, length: Val, same: Val, last: Val) -> list[Val]:
        mine, other = size(ahead, f.add(i, shift)), size(theirs, i)
        equal = f.cmp("eq", mine, other)
        final = f.cmp("eq", i, f.sub(p, i64(1)))
        column = f.and_(final, f.cmp("eq", other, i64(1)))
        leading = f.or_(equal, f.cmp("slt", i, ones))
        return [f.mul(length, other), f.and_(same, leading), f.and_(last, f.or_(equal, column))]

    length, same, last = f.loop(0, p, agree, [i64(1), const("i1", 1), const("i1", 1)])
    f.store(length, inner)
    f.guard(f.not_(same), "rows")
    f.guard(f.and_(f.and_(last, f.cmp("eq", w, p)), f.cmp("sgt", p, i64(0))), "no")
    f.store(size(ahead, f.sub(p, i64(1))), inner)
    f.ret_(const("i32", 2))
    f.label("rows")
    f.ret_(const("i32", 1))
    f.label("no")
    f.ret_(const("i32", 0))


def size_of(f: Fn, array: Val) -> Val:
    """The number of elements."""
    dims = field(f, array, layout.ARRAY_DIMS)
    ndim = f.cast("sext", field(f, array, layout.ARRAY_NDIM, "i32"), "i64")
    return f.loop(0, ndim, lambda i, n: [f.mul(n, f.load("i64", f.gep(dims, i, "i64")))], [i64(1)])[0]


def same_shape(f: Fn, x: Val, y: Val) -> Val:
    rank, other = (field(f, v, layout.ARRAY_NDIM, "i32") for v in (x, y))
    mine, theirs = (field(f, v, layout.ARRAY_DIMS) for v in (x, y))

    def dims() -> list[Val]:
        return f.while_(
            [i64(0), const("i1", 1)],
            lambda i, same: f.and_(same, f.cmp("slt", i, f.cast("sext", rank, "i64"))),
            lambda i, _: [
                f.add(i, i64(1)),
                f.cmp("eq", f.load("i64", f.gep(mine, i, "i64")), f.load("i64", f.gep(theirs, i, "i64"))),
            ],
        )[1:]

    return f.if_(f.cmp("eq", rank, other), dims, lambda: [const("i1", 0)])[0]


def element_of(f: Fn, array: Val, label: str = "miss") -> tuple[Val, Val]:
    """The type number of an array's elements and the type's record; jumps to `label` for types that have none."""
    descr = field(f, array, layout.ARRAY_DESCR)
    number = field(f, descr, layout.DESCR_NUMBER, "i32")
    f.guard(f.cmp("ult", number, const("i32", TYPES)), label)
    index = f.cast("zext", number, "i64")
    record = record_of(f, index)
    f.guard(f.cmp("eq", words(f, record, Element.DESCR, "ptr"), descr), label)
    return index, record


def row_of(f: Fn, number: int) -> Val:
    """The row of an operation, by its number."""
    return f.gep(sym("tj_rows"), 8 * Row.WORDS * number)


def record_of(f: Fn, index: Val) -> Val:
    return f.gep(sym("tj_types"), f.mul(index, i64(8 * Element.WORDS)))


def step_of(f: Fn, array: Val, size: Val) -> Val:
    """The step of an operand as NumPy gives it to a loop that runs once; some loops choose their way by it."""
    rank = field(f, array, layout.ARRAY_NDIM, "i32")

    def one_or_none() -> list[Val]:
        strides = field(f, array, layout.ARRAY_STRIDES)
        return f.if_(nonzero(f, rank), lambda: [f.load("i64", strides)], lambda: [i64(0)])

    return f.if_(f.cmp("ugt", rank, const("i32", 1)), lambda: [size], one_or_none)[0]




# --- results ----------------------------------------------------------------------------------------------------
def new_array(f: Fn, like: Val, count: Val, element: Val) -> Val:
    """A new array with the shape of `like`; jumps to "error" if there is no memory."""
    size = f.mul(count, words(f, element, Element.SIZE))
    rank, dims = field(f, like, layout.ARRAY_NDIM, "i32"), field(f, like, layout.ARRAY_DIMS)
    out = f.call("tj_array", [words(f, element, Element.DESCR, "ptr"), rank, dims, size], "ptr")
    f.guard(f.emit(f"icmp ne ptr {out}, null", "i1"), "error")
    return out


def _define_wrap(m: Module, payload: int) -> None:
    """`ptr wrap(array)`: a Tensor that holds the array, whose reference it takes; null if there is no memory."""
    f = m.function("wrap", [("array", "ptr")], "ptr", internal=True, attrs="alwaysinline")
    (array,) = f.args
    t = f.call("PyType_GenericAlloc", [sym("tj_tensor"), i64(0)], "ptr")
    f.guard(nonzero(f, t), "lost")
    f.store(array, f.gep(t, payload))
    f.ret_(t)
    f.label("lost")
    decref(f, array)
    f.ret_(NULL)


def return_at_labels(f: Fn) -> None:
    """What a native form returns at its labels "error" (an exception is set) and "miss" (Python has to do it)."""
    f.label("error")
    f.ret_(NULL)
    f.label("miss")
    f.ret_(MISS)


def return_unless_missed(f: Fn, out: Val) -> None:
    """As `return_wrapped`, for an array that may be MISS, or null with an exception."""
    f.guard(f.cmp("ne", out, MISS), "miss")
    f.guard(nonzero(f, out), "error")
    return_wrapped(f, out)


def return_wrapped(f: Fn, out: Val) -> None:
    """Return a Tensor that holds the array; and what the function returns at its labels "error" and "miss"."""
    f.ret_(f.call("wrap", [out], "ptr"))
    return_at_labels(f)


def define_operands(m: Module, payload: int) -> None:
    """The functions above, for tensors that hold their arrays at the offset `payload`."""
    _define_payload(m, payload)
    _define_array_of(m)
    _define_taken(m)
    _define_number(m)
    _define_broadcast(m)
    _define_wrap(m, payload)
