"""The native code of eager operations: from Python's objects to NumPy's loops and back.

A row of words describes one operation, `[slot | method | reflected | place | loops …]` with three words for each of
NumPy's type numbers: the loop, its data, and the type of its result. The loops are those that NumPy's ufuncs run, so
results have NumPy's bits. What is not simple is a miss, and goes to the operator's Python method.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from tracejit.lower.llvm import NULL, Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.boundary import call, decref, field, incref, nonzero, sym

MISS: Final = const("ptr", 1)  # no object lies at this address
TYPES: Final = 24  # NumPy's type numbers below this one
_RANK: Final = 16  # axes that products of matrices may have
RELEASE: Final = 1 << 15  # elements; operations on more let other threads run meanwhile


class Row(IntEnum):
    """Words of an operation's row."""

    OWN = 0  # the slot's function
    METHOD = 1  # a binary operator's method by name; a unary one's slot function as it was
    REFLECTED = 2
    PLACE = 3  # the slot's offset in PyNumberMethods
    ROUNDED = 4  # whether the bits of a result may depend on the way in which NumPy walks over the arrays
    LOOPS = 5
    WORDS = LOOPS + 3 * TYPES


class Element(IntEnum):
    """Words of an element type's record."""

    DESCR = 0
    SIZE = 1
    NUMBER = 2  # how a Python number is stored in it
    LOW = 3
    HIGH = 4
    WORDS = 5


class Number(IntEnum):
    """How Python numbers are stored in elements of a type."""

    NEVER = 0
    INTEGER = 1
    FLOAT = 2
    DOUBLE = 3


def words(f: Fn, record: Val, index: int, ty: str = "i64") -> Val:
    """A word of a row or of an element's record; they never change while they are in use."""
    return f.load(ty, f.gep(record, 8 * index), invariant=True)


# --- operands ---------------------------------------------------------------------------------------------------
def _define_array_of(m: Module, payload: int) -> None:
    """`ptr array_of(obj)`: the array in a Tensor or Variable, if a loop can run over it as it is; else null."""
    f = m.function("array_of", [("obj", "ptr")], "ptr", internal=True, attrs="alwaysinline")
    (obj,) = f.args
    cls = field(f, obj, layout.TYPE)
    f.guard(f.or_(f.cmp("eq", cls, sym("tj_tensor")), f.cmp("eq", cls, sym("tj_variable"))), "miss")
    array = field(f, obj, payload)
    f.guard(nonzero(f, array), "miss")
    f.guard(f.cmp("eq", field(f, array, layout.TYPE), sym("tj_ndarray")), "miss")
    flags, plain = field(f, array, layout.ARRAY_FLAGS, "i32"), const("i32", layout.C_CONTIGUOUS | layout.ALIGNED)
    simple = f.cmp("eq", f.and_(flags, plain), plain)
    aligned = nonzero(f, f.and_(flags, const("i32", layout.ALIGNED)))
    flat = f.cmp("eq", field(f, array, layout.ARRAY_NDIM, "i32"), const("i32", 1))  # loops take any step
    f.guard(f.or_(simple, f.and_(flat, aligned)), "miss")
    f.ret_(array)
    f.label("miss")
    f.ret_(NULL)


def _define_number(m: Module) -> None:
    """`i1 number(obj, element, place)`: store a Python number at `place`, unless the type has no such value."""
    params = [("obj", "ptr"), ("element", "ptr"), ("place", "ptr")]
    f = m.function("number", params, "i1", internal=True)
    obj, element, place = f.args
    kind = words(f, element, Element.NUMBER)
    real, single, double = (f.cmp("eq", kind, i64(k)) for k in (Number.INTEGER, Number.FLOAT, Number.DOUBLE))
    cls, overflow = field(f, obj, layout.TYPE), f.alloca(4, 4)
    f.guard(f.cmp("ne", kind, i64(Number.NEVER)), "miss")

    def store_float(x: Val) -> None:
        f.if_(single, lambda: f.store(f.cast("fptrunc", x, "float"), place), lambda: f.store(x, place))

    def floating() -> list[Val]:
        def put() -> list[Val]:
            store_float(field(f, obj, layout.FLOAT_VALUE, "double"))
            return [const("i1", 1)]

        return f.if_(f.or_(single, double), put, lambda: [const("i1", 0)])

    def other() -> list[Val]:
        true = f.cmp("eq", obj, sym("tj_true"))
        logical = f.or_(true, f.cmp("eq", obj, sym("tj_false")))
        return f.if_(logical, lambda: put_integer(f.cast("zext", true, "i64")), integer)

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


def _count(f: Fn, array: Val) -> Val:
    """The number of elements."""
    dims = field(f, array, layout.ARRAY_DIMS)
    ndim = f.cast("sext", field(f, array, layout.ARRAY_NDIM, "i32"), "i64")
    return f.loop(0, ndim, lambda i, n: [f.mul(n, f.load("i64", f.gep(dims, i, "i64")))], [i64(1)])[0]


def _same_shape(f: Fn, x: Val, y: Val) -> Val:
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


# --- operations -------------------------------------------------------------------------------------------------
def _element(f: Fn, array: Val) -> tuple[Val, Val]:
    """The type number of an array's elements and the type's record; jumps to "miss" for types that have none."""
    descr = field(f, array, layout.ARRAY_DESCR)
    number = field(f, descr, layout.DESCR_NUMBER, "i32")
    f.guard(f.cmp("ult", number, const("i32", TYPES)), "miss")
    index = f.cast("zext", number, "i64")
    record = f.gep(sym("tj_types"), f.mul(index, i64(8 * Element.WORDS)))
    f.guard(f.cmp("eq", words(f, record, Element.DESCR, "ptr"), descr), "miss")
    return index, record


def _step(f: Fn, array: Val, size: Val) -> Val:
    """The step of an operand as NumPy gives it to a loop that runs once; some loops choose their way by it."""
    rank = field(f, array, layout.ARRAY_NDIM, "i32")

    def one_or_none() -> list[Val]:
        strides = field(f, array, layout.ARRAY_STRIDES)
        return f.if_(nonzero(f, rank), lambda: [f.load("i64", strides)], lambda: [i64(0)])

    return f.if_(f.cmp("ugt", rank, const("i32", 1)), lambda: [size], one_or_none)[0]


def _loop(f: Fn, row: Val, index: Val) -> tuple[Val, Val, Val]:
    """The loop for a type, its data, and the record of its result's type; jumps to "miss" where there is none."""
    entry = f.gep(f.gep(row, 8 * Row.LOOPS), f.mul(index, i64(24)))
    loop = words(f, entry, 0, "ptr")
    f.guard(nonzero(f, loop), "miss")
    result = f.gep(sym("tj_types"), f.mul(words(f, entry, 2), i64(8 * Element.WORDS)))
    return loop, words(f, entry, 1, "ptr"), result


def _result(f: Fn, like: Val, count: Val, element: Val) -> Val:
    """A new array with the shape of `like`; jumps to "error" if there is no memory."""
    size = f.mul(count, words(f, element, Element.SIZE))
    rank, dims = field(f, like, layout.ARRAY_NDIM, "i32"), field(f, like, layout.ARRAY_DIMS)
    out = f.call("tj_array", [words(f, element, Element.DESCR, "ptr"), rank, dims, size], "ptr")
    f.guard(f.emit(f"icmp ne ptr {out}, null", "i1"), "error")
    return out


def _wrap(f: Fn, out: Val, payload: int) -> None:
    """Return a Tensor that holds the array."""
    t = f.call("PyType_GenericAlloc", [sym("tj_tensor"), i64(0)], "ptr")
    f.guard(f.emit(f"icmp ne ptr {t}, null", "i1"), "lost")
    f.store(out, f.gep(t, payload))
    f.ret_(t)
    f.label("lost")
    decref(f, out)
    f.br("error")
    f.label("error")
    f.ret_(NULL)
    f.label("miss")
    f.ret_(MISS)


def _run(f: Fn, loop: Val, data: Val, outer: Val, inner: Val, operands: Sequence[tuple[Val, Val, Val]]) -> None:
    """Run a loop `outer` times over `inner` elements; an operand is its data, its step, and the way between turns."""
    n = len(operands)
    args, steps, count = f.alloca(8 * n, 8), f.alloca(8 * n, 8), f.alloca(8, 8)
    f.store(inner, count)
    for k, (_, step, _) in enumerate(operands):
        f.store(step, f.gep(steps, 8 * k))

    def turn(_: Val, *places: Val) -> list[Val]:
        for k, p in enumerate(places):
            f.store(p, f.gep(args, 8 * k))
        call(f, loop, args, count, steps, data)
        return [f.gep(p, way) for p, (_, _, way) in zip(places, operands, strict=True)]

    f.loop(0, outer, turn, [p for p, _, _ in operands])


def _run_apart(f: Fn, large: Val, held: Sequence[Val], run: str | Val, args: Sequence[Val]) -> None:
    """Call `run`; if the operation is large, without the GIL, and with the arrays `held` kept meanwhile."""

    def apart() -> None:
        for a in held:
            incref(f, a)
        thread = f.call("PyEval_SaveThread", [], "ptr")
        f.call(run, args)
        f.call("PyEval_RestoreThread", [thread])
        for a in held:
            decref(f, a)

    f.if_(large, apart, lambda: call(f, run, *args))


def _define_runs(m: Module) -> None:
    """`run1(loop, data, count, x, step, out, out_step)` and its like for two operands and repetitions."""
    names = ["loop", "data", "count", "x", "xs", "out", "os"]
    f = m.function("run1", [(n, _type(n)) for n in names], internal=True, attrs="alwaysinline")
    loop, data, count, x, xs, out, os = f.args
    _run(f, loop, data, i64(1), count, [(x, xs, i64(0)), (out, os, i64(0))])
    f.ret_()
    names = ["loop", "data", "outer", "inner", "x", "xs", "xw", "y", "ys", "yw", "out", "os"]
    f = m.function("run2", [(n, _type(n)) for n in names], internal=True, attrs="alwaysinline")
    loop, data, outer, inner, x, xs, xw, y, ys, yw, out, os = f.args
    _run(f, loop, data, outer, inner, [(x, xs, xw), (y, ys, yw), (out, os, f.mul(inner, os))])
    f.ret_()


def _type(name: str) -> str:
    return "ptr" if name in ("loop", "data", "x", "y", "out") else "i64"


def _define_unary(m: Module, payload: int) -> None:
    """`ptr unary(obj, row)`: the new Tensor, null with an exception, or MISS."""
    f = m.function("unary", [("obj", "ptr"), ("row", "ptr")], "ptr", internal=True, attrs="noinline")
    obj, row = f.args
    f.guard(f.cmp("eq", f.load("ptr", sym("tj_busy")), sym("tj_zero")), "miss")
    x = f.call("array_of", [obj], "ptr")
    f.guard(nonzero(f, x), "miss")
    index, element = _element(f, x)
    loop, data, result = _loop(f, row, index)
    count = _count(f, x)
    f.guard(nonzero(f, count), "miss")
    out = _result(f, x, count, result)
    places = [field(f, x, layout.ARRAY_DATA), _step(f, x, words(f, element, Element.SIZE))]
    places += [field(f, out, layout.ARRAY_DATA), words(f, result, Element.SIZE)]
    _run_apart(f, f.cmp("ugt", count, i64(RELEASE)), [x], "run1", [loop, data, count, *places])
    _wrap(f, out, payload)


def _broadcast(f: Fn, row: Val, x: Val, y: Val, size: Val) -> list[Val]:
    """What `_operands` says for arrays of different shapes."""
    n, k, inner = _count(f, x), _count(f, y), f.alloca(8, 8)
    first = f.cmp("sge", n, k)
    whole, part, total = f.select(first, x, y), f.select(first, y, x), f.select(first, n, k)
    point = f.cmp("eq", field(f, part, layout.ARRAY_NDIM, "i32"), const("i32", 0))
    f.guard(f.or_(point, f.cmp("eq", words(f, row, Row.ROUNDED), i64(0))), "miss")
    way = f.call("broadcast", [whole, part, inner], "i32")
    f.guard(nonzero(f, way), "miss")
    f.guard(nonzero(f, f.mul(n, k)), "miss")
    length = f.load("i64", inner)
    rows = f.cmp("eq", way, const("i32", 1))
    single = f.and_(rows, f.cmp("eq", length, i64(1)))
    turns = f.select(single, i64(1), f.op("udiv", total, length))
    length = f.select(single, total, length)
    near, far = f.select(single, _step(f, whole, size), size), f.mul(length, size)
    step = f.select(f.or_(single, f.not_(rows)), i64(0), _step(f, part, size))
    skip = f.select(rows, i64(0), size)
    p, q = field(f, x, layout.ARRAY_DATA), field(f, y, layout.ARRAY_DATA)
    return f.if_(
        first,
        lambda: [x, turns, length, p, near, far, q, step, skip],
        lambda: [y, turns, length, p, step, skip, q, near, far],
    )


def _operands(f: Fn, row: Val, objects: tuple[Val, Val], arrays: tuple[Val, Val], element: Val) -> list[Val]:
    """The array with the result's shape, how often the loop runs and over how many elements, and for both operands
    the data, the step and the way between runs. One of the arrays may be null: that operand is a Python number."""
    (a, b), (x, y) = objects, arrays
    size, scratch, none, once = words(f, element, Element.SIZE), f.alloca(16, 16), i64(0), i64(1)

    def operand(array: Val) -> list[Val]:
        return [field(f, array, layout.ARRAY_DATA), _step(f, array, size), none]

    def both() -> list[Val]:
        f.guard(f.cmp("eq", field(f, x, layout.ARRAY_DESCR), field(f, y, layout.ARRAY_DESCR)), "miss")
        return f.if_(
            _same_shape(f, x, y),
            lambda: [x, once, _count(f, x), *operand(x), *operand(y)],
            lambda: _broadcast(f, row, x, y, size),
        )

    def right() -> list[Val]:
        f.guard(f.call("number", [b, element, scratch], "i1"), "miss")
        return [x, once, _count(f, x), *operand(x), scratch, none, none]

    def left() -> list[Val]:
        f.guard(f.call("number", [a, element, scratch], "i1"), "miss")
        return [y, once, _count(f, y), scratch, none, none, *operand(y)]

    arrays_only = f.and_(nonzero(f, x), nonzero(f, y))
    return f.if_(arrays_only, both, lambda: f.if_(nonzero(f, x), right, left))


def _define_binary(m: Module, payload: int) -> None:
    """`ptr binary(a, b, row)`: the new Tensor, null with an exception, or MISS."""
    f = m.function("binary", [("a", "ptr"), ("b", "ptr"), ("row", "ptr")], "ptr", internal=True, attrs="noinline")
    a, b, row = f.args
    f.guard(f.cmp("eq", f.load("ptr", sym("tj_busy")), sym("tj_zero")), "miss")
    x, y = f.call("array_of", [a], "ptr"), f.call("array_of", [b], "ptr")
    some = f.select(nonzero(f, x), x, y)
    f.guard(nonzero(f, some), "miss")
    index, element = _element(f, some)
    loop, data, result = _loop(f, row, index)
    like, outer, length, *places = _operands(f, row, (a, b), (x, y), element)
    count = f.mul(outer, length)
    f.guard(nonzero(f, count), "miss")
    out = _result(f, like, count, result)
    places += [field(f, out, layout.ARRAY_DATA), words(f, result, Element.SIZE)]
    held = [f.select(nonzero(f, v), v, some) for v in (x, y)]
    _run_apart(f, f.cmp("ugt", count, i64(RELEASE)), held, "run2", [loop, data, outer, length, *places])
    _wrap(f, out, payload)


def _define_product(m: Module, payload: int) -> None:
    """`ptr product(a, b, row)`: the matrix product of two arrays of equal leading axes."""
    f = m.function("product", [("a", "ptr"), ("b", "ptr"), ("row", "ptr")], "ptr", internal=True, attrs="noinline")
    a, b, row = f.args
    shape, counts, steps, args = f.alloca(8 * _RANK, 8), f.alloca(32, 8), f.alloca(72, 8), f.alloca(24, 8)
    f.guard(f.cmp("eq", f.load("ptr", sym("tj_busy")), sym("tj_zero")), "miss")
    x, y = f.call("array_of", [a], "ptr"), f.call("array_of", [b], "ptr")
    f.guard(f.and_(nonzero(f, x), nonzero(f, y)), "miss")
    f.guard(f.cmp("eq", field(f, x, layout.ARRAY_DESCR), field(f, y, layout.ARRAY_DESCR)), "miss")
    index, element = _element(f, x)
    loop, data, result = _loop(f, row, index)
    rank = field(f, x, layout.ARRAY_NDIM, "i32")
    f.guard(f.cmp("eq", rank, field(f, y, layout.ARRAY_NDIM, "i32")), "miss")
    f.guard(f.cmp("ult", f.sub(rank, const("i32", 2)), const("i32", _RANK - 1)), "miss")
    mine, theirs = field(f, x, layout.ARRAY_DIMS), field(f, y, layout.ARRAY_DIMS)
    lead = f.sub(f.cast("sext", rank, "i64"), i64(2))

    def size(dims: Val, i: Val) -> Val:
        return f.load("i64", f.gep(dims, i, "i64"))

    def leading(i: Val, n: Val) -> list[Val]:
        d = size(mine, i)
        f.guard(f.cmp("eq", d, size(theirs, i)), "miss")
        f.store(d, f.gep(shape, i, "i64"))
        return [f.mul(n, d)]

    turns = f.loop(0, lead, leading, [i64(1)])[0]
    last = f.add(lead, i64(1))
    n, k, q = size(mine, lead), size(mine, last), size(theirs, last)
    f.guard(f.cmp("eq", k, size(theirs, lead)), "miss")
    work = f.mul(f.mul(f.mul(n, k), q), turns)
    f.guard(nonzero(f, work), "miss")
    f.store(n, f.gep(shape, lead, "i64"))
    f.store(q, f.gep(shape, last, "i64"))
    width = words(f, element, Element.SIZE)
    total = f.mul(f.mul(f.mul(n, q), turns), width)
    out = f.call("tj_array", [words(f, result, Element.DESCR, "ptr"), rank, shape, total], "ptr")
    f.guard(nonzero(f, out), "error")
    for i, v in enumerate((turns, n, k, q)):
        f.store(v, f.gep(counts, 8 * i))
    row_of_x, row_of_y = f.mul(k, width), f.mul(q, width)
    matrices = [f.mul(n, row_of_x), f.mul(k, row_of_y), f.mul(n, row_of_y)]
    for i, v in enumerate((*matrices, row_of_x, width, row_of_y, width, row_of_y, width)):
        f.store(v, f.gep(steps, 8 * i))
    for i, v in enumerate((x, y, out)):
        f.store(field(f, v, layout.ARRAY_DATA), f.gep(args, 8 * i))
    _run_apart(f, f.cmp("ugt", work, i64(RELEASE)), [x, y], loop, [args, counts, steps, data])
    _wrap(f, out, payload)


def define_operations(m: Module, payload: int) -> None:
    """`unary`, `binary` and `product` for tensors that hold their arrays at the offset `payload`."""
    _define_array_of(m, payload)
    _define_number(m)
    _define_broadcast(m)
    _define_runs(m)
    _define_unary(m, payload)
    _define_binary(m, payload)
    _define_product(m, payload)
