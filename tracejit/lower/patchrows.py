"""What windows see of an image, copied row by row as products need it: patches that are never in memory as a whole."""

from __future__ import annotations

from collections.abc import Sequence

from tracejit.lower.llvm import Fn, Module, Val, i64
from tracejit.lower.microkernel import Tiles

# How the operand `seen` says that A is patches: with a row for each place of the window, or the transpose of that.
PLACES, ELEMENTS = 1, 2
# The image's address, elements of a pixel, and by axis: sizes, strides, numbers of places, steps from place to place.
IMAGE = ("image", "pixel", "size_d", "size_h", "size_w", "s_b", "s_d", "s_h", "s_w")
WINDOWS = ("count_d", "count_h", "count_w", "step_d", "step_h", "step_w", "runs")
HEAD = (*IMAGE, *WINDOWS)
# Where a run of neighbouring pixels begins, from the place of the window: by axis, and in elements.
RUN = ("d", "h", "w", "pixels", "offset")
PARAMS = (
    ("frame", "ptr"), ("idx", "ptr"), ("first", "i64"), ("count", "i64"), ("lo", "i64"), ("hi", "i64"),
    ("dst", "ptr"), ("dst_row", "i64"),
)  # fmt: skip


def _operand(fn: Fn, k: Val | int, ty: str = "i64") -> Val:
    """`frame[idx[k]]`"""
    at = fn.gep(fn.args[1], k, "i32") if isinstance(k, Val) else fn.gep(fn.args[1], 4 * k)
    slot = fn.load("i32", at, 4, invariant=True)
    return fn.load(ty, fn.gep(fn.args[0], fn.cast("zext", slot, "i64"), "i64"), 8, invariant=True)


def patch_rows(module: Module, t: Tiles) -> None:
    """Row i of `dst`: elements lo … hi − 1 of what the window sees at its place first + i; zeros beyond the image.

    `idx` gives the numbers in HEAD, then those in RUN for each run. Up to a vector behind each row is overwritten.
    """
    fn = module.function(f"{t.prefix}_patch_rows", PARAMS, internal=True)
    _, _, first, count, lo, hi, dst, dst_row = fn.args
    v = {name: _operand(fn, i, "ptr" if name == "image" else "i64") for i, name in enumerate(HEAD)}
    w, rest = fn.op("urem", first, v["count_w"]), fn.op("udiv", first, v["count_w"])
    h, rest = fn.op("urem", rest, v["count_h"]), fn.op("udiv", rest, v["count_h"])
    d, b = fn.op("urem", rest, v["count_d"]), fn.op("udiv", rest, v["count_d"])

    def row(_: Val, w: Val, h: Val, d: Val, b: Val, to: Val) -> list[Val]:
        at = [fn.mul(i, v[f"step_{axis}"]) for i, axis in ((d, "d"), (h, "h"), (w, "w"))]
        origin = fn.mul(b, v["s_b"])
        for i, axis in zip(at, "dhw", strict=True):
            origin = fn.add(origin, fn.mul(i, v[f"s_{axis}"]))
        begin = fn.gep(to, fn.mul(lo, i64(-t.size)))

        def run(i: Val, element: Val) -> list[Val]:
            return [_run(fn, t, v, i, element, at, origin, (lo, hi), begin)]

        fn.loop(0, v["runs"], run, [i64(0)])
        return [*_next(fn, v, w, h, d, b), fn.gep(to, dst_row)]

    fn.loop(0, count, row, [w, h, d, b, dst])
    fn.ret_()


def _next(fn: Fn, v: dict[str, Val], w: Val, h: Val, d: Val, b: Val) -> list[Val]:
    """The next place: along the last axis, then the one before it."""
    out, more = [], i64(1)
    for i, axis in ((w, "w"), (h, "h"), (d, "d")):
        i = fn.add(i, more)
        over = fn.cmp("sge", i, v[f"count_{axis}"])
        out.append(fn.select(over, i64(0), i))
        more = fn.cast("zext", over, "i64")
    return [*out, fn.add(b, more)]


def _run(
    fn: Fn, t: Tiles, v: dict[str, Val], i: Val, element: Val, at: Sequence[Val], origin: Val, want: tuple[Val, Val],
    begin: Val,
) -> Val:  # fmt: skip
    """Copy what is wanted of the i-th run, which begins with that element; the result is the element behind it."""
    first = fn.add(fn.mul(i, i64(len(RUN))), i64(len(HEAD)))
    *moved, pixels, offset = (_operand(fn, fn.add(first, i64(j))) for j in range(len(RUN)))
    end = fn.add(element, fn.mul(pixels, v["pixel"]))
    lo, hi = fn.intrinsic("smax", element, want[0]), fn.intrinsic("smin", end, want[1])

    def copy() -> None:
        z, y, x = (fn.add(a, b) for a, b in zip(at, moved, strict=True))
        within = fn.and_(fn.cmp("ult", z, v["size_d"]), fn.cmp("ult", y, v["size_h"]))
        reach = fn.select(within, fn.sub(v["size_w"], x), i64(0))
        start = fn.sub(element, fn.mul(v["pixel"], x))
        stop = fn.add(element, fn.mul(v["pixel"], reach))
        start = fn.intrinsic("smin", fn.intrinsic("smax", start, lo), hi)
        stop = fn.intrinsic("smax", fn.intrinsic("smin", stop, hi), start)
        source = fn.gep(v["image"], fn.sub(fn.add(origin, offset), element), t.compute)
        _zeros(fn, t, begin, lo, start)
        _copy(fn, t, source, begin, start, stop)
        _zeros(fn, t, begin, stop, hi)

    fn.if_(fn.cmp("slt", lo, hi), copy)
    return end


def _zeros(fn: Fn, t: Tiles, to: Val, lo: Val, hi: Val) -> None:
    zeros = Val("zeroinitializer", t.vector)
    fn.loop(lo, hi, lambda i: fn.store(zeros, fn.gep(to, i, t.compute), t.size), step=t.width)


def _copy(fn: Fn, t: Tiles, source: Val, to: Val, lo: Val, hi: Val) -> None:
    last = fn.add(lo, fn.and_(fn.sub(hi, lo), i64(-t.width)))

    def vector(i: Val, mask: Val | None = None) -> None:
        p = fn.gep(source, i, t.compute)
        x = fn.load(t.vector, p, t.size) if mask is None else fn.masked_load(t.vector, p, mask, t.size)
        fn.store(x, fn.gep(to, i, t.compute), t.size)

    fn.loop(lo, last, vector, step=t.width)
    fn.if_(fn.cmp("slt", last, hi), lambda: vector(last, fn.mask(fn.sub(hi, last), t.width)))
