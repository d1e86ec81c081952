"""The native code that combines elements, or slices, with the same number: sums, products and extremes of segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from tracejit.lower.llvm import Fn, Module, Val, const, i64
from tracejit.ops.index import MANY
from tracejit.runtime import layout
from tracejit.runtime.arithmetic import Element, Number, element_of, return_wrapped, size_of, words
from tracejit.runtime.boundary import field, nonzero, switch, sym
from tracejit.runtime.recast import LARGEST
from tracejit.runtime.views import RANK, integer, is_exact, rank_of, require_quiet

_TYPES: Final = {"int32": "i32", "int64": "i64", "float32": "float", "float64": "double"}
_MOST: Final = 256  # numbers
_START: Final = {"sum": 0, "prod": 1}


def _number(name: str) -> int:
    return int(np.dtype(name).num)


def _extreme(f: Fn, largest: bool, a: Val, x: Val) -> Val:
    """NumPy's maximum or minimum: NaN if one is NaN."""
    if a.ty.startswith("i"):
        return f.select(f.cmp("sge" if largest else "sle", a, x), a, x)
    kept = f.or_(f.cmp("oge" if largest else "ole", a, x), f.cmp("uno", a, a))
    return f.select(kept, a, x)


def _combine(f: Fn, how: str, a: Val, x: Val) -> Val:
    if how in _START:
        return f.add(a, x) if how == "sum" else f.mul(a, x)
    return _extreme(f, how == "max", a, x)


def _read_numbers(f: Fn, ids: Val, places: Val) -> Val:
    """Store the numbers as 64-bit integers; how many there are. Jumps to "miss" for too many and for other types."""
    index, kind = element_of(f, ids)
    whole = f.cmp("eq", words(f, kind, Element.NUMBER), i64(Number.INTEGER))
    f.guard(f.and_(whole, f.cmp("ne", index, i64(_number("uint64")))), "miss")
    n = size_of(f, ids)
    f.guard(f.cmp("ult", f.sub(n, i64(1)), i64(_MOST)), "miss")
    f.call("widen", [index, field(f, ids, layout.ARRAY_DATA), words(f, kind, Element.SIZE), n, places])
    return n


def _segments(f: Fn, count: Val, ids: Val, n: Val, places: Val) -> Val:
    """How many segments there are: as many as an int says, or as numbers tell that ascend from 0 or more."""

    def at(i: Val) -> Val:
        return f.load("i64", f.gep(places, i, "i64"))

    def told() -> list[Val]:
        f.guard(f.cmp("eq", rank_of(f, ids), i64(1)), "miss")
        f.guard(f.cmp("sge", at(i64(0)), i64(0)), "miss")

        def next_one(i: Val, before: Val) -> list[Val]:
            f.guard(f.cmp("sge", at(i), before), "miss")
            return [at(i)]

        (last,) = f.loop(0, n, next_one, [i64(0)])
        f.guard(f.cmp("ult", last, i64(LARGEST)), "miss")
        return [f.add(last, i64(1))]

    def said() -> list[Val]:
        f.guard(is_exact(f, count, "tj_int"), "miss")
        k = integer(f, count, f.alloca(4, 4))
        f.guard(f.cmp("ult", k, i64(LARGEST)), "miss")
        f.loop(0, n, lambda i: f.guard(f.cmp("ult", at(i), k), "miss"))
        return [k]

    return f.if_(f.cmp("eq", count, sym("tj_none")), told, said)[0]


def _require_whole(f: Fn, array: Val) -> None:
    flags = field(f, array, layout.ARRAY_FLAGS, "i32")
    f.guard(nonzero(f, f.and_(flags, const("i32", layout.C_CONTIGUOUS))), "miss")


def _shape(f: Fn, x: Val, ids: Val, count: Val, dims: Val) -> tuple[Val, Val]:
    """Write the result's shape; its rank, and the elements of a slice."""
    rank, mine, theirs = rank_of(f, ids), field(f, x, layout.ARRAY_DIMS), field(f, ids, layout.ARRAY_DIMS)
    more = f.sub(rank_of(f, x), rank)
    f.guard(f.cmp("sge", more, i64(0)), "miss")

    def size(of: Val, i: Val) -> Val:
        return f.load("i64", f.gep(of, i, "i64"))

    f.loop(0, rank, lambda i: f.guard(f.cmp("eq", size(mine, i), size(theirs, i)), "miss"))
    f.store(count, dims)

    def rest(i: Val, length: Val) -> list[Val]:
        d = size(mine, f.add(rank, i))
        f.store(d, f.gep(dims, f.add(i, i64(1)), "i64"))
        return [f.mul(length, d)]

    (length,) = f.loop(0, more, rest, [i64(1)])
    return f.add(more, i64(1)), length


def _define_segments(m: Module, how: str) -> None:
    """`ptr segment_…(x, ids, count)` (and where extremes start): a Tensor, or MISS."""
    extreme = how not in _START
    names = ["x", "ids", "count", *(["start"] if extreme else [])]
    f = m.function(f"segment_{how}", [(n, "ptr") for n in names], "ptr", internal=True)
    require_quiet(f)
    arrays = []
    for obj in f.args[:2]:
        f.guard(is_exact(f, obj, "tj_tensor"), "miss")
        arrays.append(f.call("payload", [obj], "ptr"))
        f.guard(nonzero(f, arrays[-1]), "miss")
        _require_whole(f, arrays[-1])
    (x, ids), places, dims, first = arrays, f.alloca(8 * _MOST, 8), f.alloca(8 * RANK, 8), f.alloca(16, 8)
    index, kind = element_of(f, x)
    n = _read_numbers(f, ids, places)
    count = _segments(f, f.args[2], ids, n, places)
    if how == "sum":
        f.guard(f.cmp("sle", n, f.mul(count, i64(MANY))), "miss")  # more are summed in a wider type
    if extreme:
        f.guard(f.call("number", [f.args[3], kind, first], "i1"), "miss")
    rank, length = _shape(f, x, ids, count, dims)
    total = f.mul(count, length)
    f.guard(f.cmp("ult", f.sub(total, i64(1)), i64(LARGEST)), "miss")
    f.guard(f.cmp("ule", f.mul(n, length), i64(LARGEST)), "miss")
    size = f.mul(total, words(f, kind, Element.SIZE))
    known = const("i1", 0)
    for name in _TYPES:
        known = f.or_(known, f.cmp("eq", index, i64(_number(name))))
    f.guard(known, "miss")
    out = f.call("tj_array", [words(f, kind, Element.DESCR, "ptr"), f.cast("trunc", rank, "i32"), dims, size], "ptr")
    f.guard(nonzero(f, out), "error")
    source, target = field(f, x, layout.ARRAY_DATA), field(f, out, layout.ARRAY_DATA)

    def run(ty: str) -> Callable[[], None]:
        def fill() -> None:
            start = f.load(ty, first) if extreme else const(ty, _START[how])
            f.loop(0, total, lambda i: f.store(start, f.gep(target, i, ty)))

            def one(k: Val) -> None:
                to = f.gep(target, f.mul(f.load("i64", f.gep(places, k, "i64")), length), ty)
                of = f.gep(source, f.mul(k, length), ty)

                def element(j: Val) -> None:
                    place = f.gep(to, j, ty)
                    f.store(_combine(f, how, f.load(ty, place), f.load(ty, f.gep(of, j, ty), align=1)), place)

                f.loop(0, length, element)

            f.loop(0, n, one)
            if extreme:
                _clear_empty(f, f.args[2], places, n, count, length, target, ty)

        return fill

    switch(f, index, {_number(name): run(ty) for name, ty in _TYPES.items()}, "miss")
    return_wrapped(f, out)


def _clear_empty(f: Fn, said: Val, places: Val, n: Val, count: Val, length: Val, target: Val, ty: str) -> None:
    """Segments that no slice has are 0 where the numbers ascend."""

    def clear() -> None:
        def gap(k: Val, after: Val) -> list[Val]:
            own = f.load("i64", f.gep(places, k, "i64"))
            begin, end = f.mul(after, length), f.mul(own, length)
            f.loop(begin, end, lambda i: f.store(const(ty, 0), f.gep(target, i, ty)))
            return [f.add(own, i64(1))]

        f.loop(0, n, gap, [i64(0)])

    f.if_(f.cmp("eq", said, sym("tj_none")), clear)


def define_segments(m: Module) -> None:
    for how in ("sum", "prod", "max", "min"):
        _define_segments(m, how)
