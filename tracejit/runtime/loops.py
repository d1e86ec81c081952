"""The native code of eager operations: NumPy's loops, run on operands of one type or on what they become in one.

The loops are those that NumPy's ufuncs run, so results have NumPy's bits. What is not simple is a miss, and goes to the
operator's Python method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tracejit.lower.llvm import NULL, Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.arithmetic import (
    MISS,
    TYPES,
    Element,
    Number,
    Promote,
    Row,
    element_of,
    new_array,
    record_of,
    return_wrapped,
    same_shape,
    size_of,
    step_of,
    words,
)
from tracejit.runtime.boundary import call, decref, field, incref, nonzero, sym

_RANK: Final = 16  # axes that products of matrices may have
RELEASE: Final = 1 << 15  # elements; operations on more let other threads run meanwhile
# The table of promotions: type numbers of two arrays together, of an array and a Python number of each kind, and of the
# floating type that a type becomes.
KINDS: Final = "bifc"
WEAK: Final = TYPES * TYPES
FLOATING: Final = WEAK + len(KINDS) * TYPES
PROMOTIONS: Final = FLOATING + TYPES
UNKNOWN: Final = 255
OPERATIONS: Final = {"unary": ("apply", 1), "binary": ("combine", 2), "product": ("multiply", 2)}


# --- operations -------------------------------------------------------------------------------------------------
def _loop(f: Fn, row: Val, index: Val) -> tuple[Val, Val, Val]:
    """The loop for a type, its data, and the record of its result's type; jumps to "miss" where there is none."""
    entry = f.gep(f.gep(row, 8 * Row.LOOPS), f.mul(index, i64(24)))
    loop = words(f, entry, 0, "ptr")
    f.guard(nonzero(f, loop), "miss")
    result = f.gep(sym("tj_types"), f.mul(words(f, entry, 2), i64(8 * Element.WORDS)))
    return loop, words(f, entry, 1, "ptr"), result


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


def _define_apply(m: Module) -> None:
    """`ptr apply(x, row)`: the new Tensor, null with an exception, or MISS."""
    f = m.function("apply", [("x", "ptr"), ("row", "ptr")], "ptr", internal=True, attrs="alwaysinline")
    x, row = f.args
    index, kind = element_of(f, x)
    loop, data, result = _loop(f, row, index)
    n = size_of(f, x)
    f.guard(nonzero(f, n), "miss")
    out = new_array(f, x, n, result)
    places = [field(f, x, layout.ARRAY_DATA), step_of(f, x, words(f, kind, Element.SIZE))]
    places += [field(f, out, layout.ARRAY_DATA), words(f, result, Element.SIZE)]
    _run_apart(f, f.cmp("ugt", n, i64(RELEASE)), [x], "run1", [loop, data, n, *places])
    return_wrapped(f, out)


def _broadcast(f: Fn, row: Val, x: Val, y: Val, size: Val) -> list[Val]:
    """What `_operands` says for arrays of different shapes."""
    n, k, inner = size_of(f, x), size_of(f, y), f.alloca(8, 8)
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
    near, far = f.select(single, step_of(f, whole, size), size), f.mul(length, size)
    step = f.select(f.or_(single, f.not_(rows)), i64(0), step_of(f, part, size))
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
        return [field(f, array, layout.ARRAY_DATA), step_of(f, array, size), none]

    def both() -> list[Val]:
        f.guard(f.cmp("eq", field(f, x, layout.ARRAY_DESCR), field(f, y, layout.ARRAY_DESCR)), "miss")
        return f.if_(
            same_shape(f, x, y),
            lambda: [x, once, size_of(f, x), *operand(x), *operand(y)],
            lambda: _broadcast(f, row, x, y, size),
        )

    def right() -> list[Val]:
        f.guard(f.call("number", [b, element, scratch], "i1"), "miss")
        return [x, once, size_of(f, x), *operand(x), scratch, none, none]

    def left() -> list[Val]:
        f.guard(f.call("number", [a, element, scratch], "i1"), "miss")
        return [y, once, size_of(f, y), scratch, none, none, *operand(y)]

    arrays_only = f.and_(nonzero(f, x), nonzero(f, y))
    return f.if_(arrays_only, both, lambda: f.if_(nonzero(f, x), right, left))


def _define_combine(m: Module) -> None:
    """`ptr combine(a, b, x, y, row)`: the same for two objects and the arrays that they have, null for a number."""
    names = ("a", "b", "x", "y", "row")
    f = m.function("combine", [(n, "ptr") for n in names], "ptr", internal=True, attrs="alwaysinline")
    a, b, x, y, row = f.args
    some = f.select(nonzero(f, x), x, y)
    f.guard(nonzero(f, some), "miss")
    index, kind = element_of(f, some)
    loop, data, result = _loop(f, row, index)
    like, outer, length, *places = _operands(f, row, (a, b), (x, y), kind)
    n = f.mul(outer, length)
    f.guard(nonzero(f, n), "miss")
    out = new_array(f, like, n, result)
    places += [field(f, out, layout.ARRAY_DATA), words(f, result, Element.SIZE)]
    held = [f.select(nonzero(f, v), v, some) for v in (x, y)]
    _run_apart(f, f.cmp("ugt", n, i64(RELEASE)), held, "run2", [loop, data, outer, length, *places])
    return_wrapped(f, out)


def _define_multiply(m: Module) -> None:
    """`ptr multiply(a, b, x, y, row)`: the matrix product of two arrays of equal leading axes, or of a vector."""
    names = ("a", "b", "x", "y", "row")
    f = m.function("multiply", [(n, "ptr") for n in names], "ptr", internal=True, attrs="noinline")
    _, _, x, y, row = f.args
    shape, counts, steps, args = f.alloca(8 * _RANK, 8), f.alloca(32, 8), f.alloca(72, 8), f.alloca(24, 8)
    f.guard(f.and_(nonzero(f, x), nonzero(f, y)), "miss")
    f.guard(f.cmp("eq", field(f, x, layout.ARRAY_DESCR), field(f, y, layout.ARRAY_DESCR)), "miss")
    index, kind = element_of(f, x)
    loop, data, result = _loop(f, row, index)
    ranks = [f.cast("sext", field(f, v, layout.ARRAY_NDIM, "i32"), "i64") for v in (x, y)]
    left, right = (f.cmp("eq", r, i64(1)) for r in ranks)  # vectors: a row, and a column
    flat = f.or_(left, right)
    f.guard(f.or_(flat, f.cmp("eq", *ranks)), "miss")
    most = f.select(flat, i64(2), i64(_RANK))
    for v, rank in zip((x, y), ranks, strict=True):
        f.guard(f.cmp("ult", f.sub(rank, i64(1)), most), "miss")
        flags = field(f, v, layout.ARRAY_FLAGS, "i32")
        f.guard(nonzero(f, f.and_(flags, const("i32", layout.C_CONTIGUOUS))), "miss")
    mine, theirs = field(f, x, layout.ARRAY_DIMS), field(f, y, layout.ARRAY_DIMS)
    lead = f.select(flat, i64(0), f.sub(ranks[0], i64(2)))

    def size(dims: Val, i: Val) -> Val:
        return f.load("i64", f.gep(dims, i, "i64"))

    def leading(i: Val, n: Val) -> list[Val]:
        d = size(mine, i)
        f.guard(f.cmp("eq", d, size(theirs, i)), "miss")
        f.store(d, f.gep(shape, i, "i64"))
        return [f.mul(n, d)]

    turns = f.loop(0, lead, leading, [i64(1)])[0]
    n, k = f.select(left, i64(1), size(mine, lead)), size(mine, f.sub(ranks[0], i64(1)))
    q = f.select(right, i64(1), size(theirs, f.sub(ranks[1], i64(1))))
    f.guard(f.cmp("eq", k, size(theirs, lead)), "miss")
    work = f.mul(f.mul(f.mul(n, k), q), turns)
    f.guard(nonzero(f, work), "miss")
    f.store(n, f.gep(shape, lead, "i64"))
    second = f.select(left, lead, f.add(lead, i64(1)))
    f.store(q, f.gep(shape, second, "i64"))
    rank = f.cast("trunc", f.select(right, second, f.add(second, i64(1))), "i32")
    width = words(f, kind, Element.SIZE)
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
    return_wrapped(f, out)


# --- operands of several types ----------------------------------------------------------------------------------
def _common(f: Fn, row: Val, objects: Sequence[Val], arrays: Sequence[Val]) -> tuple[Val, list[Val]]:
    """The type number that all operands get, and those of the arrays; jumps to "drop" where there is none."""
    pair = len(arrays) == 2
    some = f.select(nonzero(f, arrays[0]), arrays[0], arrays[-1])
    f.guard(nonzero(f, some), "drop")
    mode = words(f, row, Row.PROMOTE)
    f.guard(f.cmp("ne", mode, i64(Promote.NEVER)), "drop")
    mine = [element_of(f, f.select(nonzero(f, x), x, some), "drop") for x in arrays]
    (i, first), (j, second) = mine[0], mine[-1]

    def entry(at: Val) -> Val:
        return f.cast("zext", f.load("i8", f.gep(sym("tj_promotion"), at)), "i64")

    def both() -> list[Val]:
        together = entry(f.add(f.mul(i, i64(TYPES)), j))
        f.guard(f.cmp("ne", together, i64(UNKNOWN)), "drop")
        integers = [f.cmp("eq", words(f, r, Element.NUMBER), i64(Number.INTEGER)) for r in (first, second)]
        real = f.cmp("ne", words(f, record_of(f, together), Element.NUMBER), i64(Number.INTEGER))
        inexact = f.and_(f.and_(*integers), real)
        f.guard(f.not_(f.and_(inexact, nonzero(f, words(f, row, Row.COMPARES)))), "drop")
        return [together]

    def weak() -> list[Val]:
        number = f.select(nonzero(f, arrays[0]), objects[-1], objects[0])
        cls = field(f, number, layout.TYPE)
        kind = i64(-1)
        for k, name in enumerate(("tj_bool", "tj_int", "tj_float", "tj_complex")):
            kind = f.select(f.cmp("eq", cls, sym(name)), i64(k), kind)
        f.guard(f.cmp("sge", kind, i64(0)), "drop")
        together = entry(f.add(f.add(f.mul(kind, i64(TYPES)), i64(WEAK)), i))
        f.guard(f.cmp("ne", together, i64(UNKNOWN)), "drop")
        return [together]

    if pair:
        (together,) = f.if_(f.and_(nonzero(f, arrays[0]), nonzero(f, arrays[1])), both, weak)
    else:
        together = i
    floating = f.cmp("eq", mode, i64(Promote.FLOAT))
    (together,) = f.if_(floating, lambda: [entry(f.add(together, i64(FLOATING)))], lambda: [together])
    f.guard(f.cmp("ne", together, i64(UNKNOWN)), "drop")
    return together, [i, j][: len(arrays)]


def _define_mixed(m: Module, name: str, core: str, arity: int) -> None:
    """`ptr mixed_…(a, b, row)`: what `core` makes of the operands as arrays of one type."""
    objects = [("a", "ptr"), ("b", "ptr")][:arity]
    f = m.function(name, [*objects, ("row", "ptr")], "ptr", internal=True, attrs="noinline")
    *given, row = f.args
    held = [f.alloca(8, 8) for _ in given]
    for place, obj in zip(held, given, strict=True):
        f.store(f.call("taken", [obj], "ptr"), place)
    together, types = _common(f, row, given, [f.load("ptr", place) for place in held])
    for place, own in zip(held, types, strict=True):
        x = f.load("ptr", place)

        def change(place: Val = place, x: Val = x) -> None:
            made = f.call("recast", [x, together], "ptr")
            f.guard(f.cmp("ne", made, MISS), "drop")
            f.store(made, place)
            decref(f, x)
            f.guard(nonzero(f, made), "failed")

        f.if_(f.and_(nonzero(f, x), f.cmp("ne", own, together)), change)
    arrays = [f.load("ptr", place) for place in held]
    r = f.call(core, [*arrays, row] if arity == 1 else [*given, *arrays, row], "ptr")
    done, drop, failed = (f.fresh("leave") for _ in range(3))
    f.br(done)
    f.label("drop")
    f.br(drop)
    f.label("failed")
    f.br(failed)
    for label, result in ((done, r), (drop, MISS), (failed, NULL)):
        f.label(label)
        for place in held:
            x = f.load("ptr", place)
            f.if_(nonzero(f, x), lambda x=x: decref(f, x))  # type: ignore[misc]
        f.ret_(result)


def _define_operation(m: Module, name: str, core: str, arity: int) -> None:
    """`unary`, `binary` and `product`, of objects and a row: the new Tensor, null with an exception, or MISS."""
    objects = [("a", "ptr"), ("b", "ptr")][:arity]
    f = m.function(name, [*objects, ("row", "ptr")], "ptr", internal=True, attrs="noinline")
    *given, row = f.args
    f.guard(f.cmp("eq", f.load("ptr", sym("tj_busy")), sym("tj_zero")), "miss")
    arrays = [f.call("array_of", [obj], "ptr") for obj in given]
    if arity == 1 or core == "multiply":
        for x in arrays:
            f.guard(nonzero(f, x), "mixed")
    r = f.call(core, [*arrays, row] if arity == 1 else [*given, *arrays, row], "ptr")
    f.guard(f.cmp("ne", r, MISS), "mixed")
    f.ret_(r)
    f.label("mixed")
    f.ret_(f.call(f"mixed_{name}", f.args, "ptr"))
    f.label("miss")
    f.ret_(MISS)


def define_operations(m: Module) -> None:
    """`unary`, `binary` and `product`."""
    _define_runs(m)
    _define_apply(m)
    _define_combine(m)
    _define_multiply(m)
    for name, (core, arity) in OPERATIONS.items():
        _define_mixed(m, f"mixed_{name}", core, arity)
        _define_operation(m, name, core, arity)
