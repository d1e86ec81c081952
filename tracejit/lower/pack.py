"""Packing matrices for products: rows or columns copied into panels, converted and transposed on the way."""

from __future__ import annotations

from collections.abc import Callable

from tracejit.lower.llvm import Fn, Module, Val, const, elem, i64, lanes, vec
from tracejit.lower.microkernel import Tiles, prefetch, void

PARAMS = (
    ("src", "ptr"), ("s", "i64"), ("s_k", "i64"), ("cols", "i64"), ("depth", "i64"), ("dst", "ptr"), ("width", "i64"),
)  # fmt: skip
ROWS = 16  # rows that are packed for one panel before the next panel gets its part of them


def packing(module: Module, t: Tiles) -> None:
    """`pack(src, s, s_k, cols, depth, dst, width)`: `dst[k, j] = src[j * s + k * s_k]`, j < cols; zeros up to `width`.

    `dst` has rows of `width` elements and room for depth rounded up to whole vectors. Strides are in bytes.
    """
    _pack_along(module, t)
    _pack_transposed(module, t)
    _pack_any(module, t)
    fn = module.function(f"{t.prefix}_pack", PARAMS, internal=True)
    unit = i64(t.dtype.size)
    _, s, s_k, cols, depth, _, _ = fn.args
    along = fn.or_(fn.cmp("eq", s, unit), fn.cmp("eq", cols, i64(1)))
    across = fn.or_(fn.cmp("eq", s_k, unit), fn.cmp("eq", depth, i64(1)))

    def call(kind: str) -> Callable[[], None]:
        return lambda: void(fn.call(f"{t.prefix}_pack_{kind}", fn.args))

    fn.if_(along, call("along"), lambda: void(fn.if_(across, call("transposed"), call("any"))))
    fn.ret_()
    _pack_many(module, t)


def _pack_many(module: Module, t: Tiles) -> None:
    """Pack panel after panel of `width` columns, `size` bytes apart; rows of neighbours are read as they lie."""
    fn = module.function(f"{t.prefix}_pack_many", [*PARAMS, ("size", "i64")], internal=True)
    src, s, s_k, cols, depth, dst, width, size = fn.args
    step = fn.select(fn.cmp("eq", s, i64(t.dtype.size)), i64(ROWS), fn.intrinsic("smax", depth, i64(1)))

    def rows(k: Val) -> None:
        count = fn.intrinsic("smin", step, fn.sub(depth, k))
        row = fn.gep(dst, fn.mul(k, fn.mul(width, i64(t.size))))

        def panel(j: Val, to: Val) -> list[Val]:
            at = fn.gep(src, fn.add(fn.mul(k, s_k), fn.mul(j, s)))
            left = fn.intrinsic("smin", fn.sub(cols, j), width)
            fn.call(f"{t.prefix}_pack", [at, s, s_k, left, count, to, width])
            return [fn.gep(to, size)]

        fn.loop(0, cols, panel, [row], step=width)

    fn.loop(0, depth, rows, step=step)
    fn.ret_()


def _widen(fn: Fn, t: Tiles, x: Val, width: int) -> Val:
    """Stored bits as computed values."""
    if not t.converts:
        return x
    if t.dtype.llvm == "half":
        return fn.cast("fpext", fn.cast("bitcast", x, vec("half", width)), vec("float", width))
    wide = fn.cast("zext", x, vec("i32", width))
    return fn.cast("bitcast", fn.op("shl", wide, const(wide.ty, 16)), vec("float", width))


def _stored(t: Tiles) -> str:
    return "i16" if t.converts else t.compute


def _load(fn: Fn, t: Tiles, p: Val, mask: Val | None) -> Val:
    ty = vec(_stored(t), t.width)
    x = fn.load(ty, p, t.dtype.size) if mask is None else fn.masked_load(ty, p, mask, t.dtype.size)
    return _widen(fn, t, x, t.width)


def _store(fn: Fn, t: Tiles, x: Val, p: Val, mask: Val | None) -> None:
    if mask is None:
        fn.store(x, p, t.size)
    else:
        fn.masked_store(x, p, mask, t.size)


def _pack_along(module: Module, t: Tiles) -> None:
    """Elements of a row of `dst` are neighbours in `src`."""
    fn = module.function(f"{t.prefix}_pack_along", PARAMS, internal=True)
    src, _, s_k, cols, depth, dst, width = fn.args
    step = fn.mul(width, i64(t.size))
    ahead = fn.mul(s_k, i64(ROWS))

    def strip(j: Val) -> None:
        read = fn.mask(fn.intrinsic("smax", fn.sub(cols, j), i64(0)), t.width)
        write = fn.mask(fn.sub(width, j), t.width)
        whole = fn.cmp("sge", fn.sub(fn.intrinsic("smin", cols, width), j), i64(t.width))

        def rows(masked: bool) -> None:
            def row(_: Val, p: Val, q: Val) -> list[Val]:
                prefetch(fn, fn.gep(p, ahead))
                _store(fn, t, _load(fn, t, p, read if masked else None), q, write if masked else None)
                return [fn.gep(p, s_k), fn.gep(q, step)]

            fn.loop(0, depth, row, [fn.gep(src, j, _stored(t)), fn.gep(dst, j, t.compute)])

        fn.if_(whole, lambda: rows(False), lambda: rows(True))

    fn.loop(0, width, strip, step=t.width)
    fn.ret_()


def _pack_transposed(module: Module, t: Tiles) -> None:
    """Elements of a column of `dst` are neighbours in `src`: squares of vectors are transposed in registers."""
    fn = module.function(f"{t.prefix}_pack_transposed", PARAMS, internal=True)
    src, s, _, cols, depth, dst, width = fn.args
    w = t.width
    offsets = fn.alloca(8 * w)
    step = fn.mul(width, i64(t.size))

    def strip(j: Val) -> None:
        last = fn.sub(cols, i64(1))
        for r in range(w):  # rows past the last one read the last one again; what they give is never used
            row = fn.intrinsic("smin", fn.add(j, i64(r)), last)
            fn.store(fn.mul(row, s), fn.gep(offsets, 8 * r))
        write = fn.mask(fn.sub(width, j), w)

        def square(k: Val) -> None:
            read = fn.mask(fn.sub(depth, k), w)
            at = fn.gep(src, k, _stored(t))
            rows = [_load(fn, t, fn.gep(at, fn.load("i64", fn.gep(offsets, 8 * r))), read) for r in range(w)]
            pointers = [fn.gep(fn.gep(dst, j, t.compute), fn.mul(k, step))]
            for _ in range(w - 1):
                pointers.append(fn.gep(pointers[-1], step))
            for x, p in zip(transpose(fn, rows), pointers, strict=True):
                _store(fn, t, x, p, write)

        fn.loop(0, depth, square, step=w)

    fn.loop(0, width, strip, step=w)
    fn.ret_()


def _pack_any(module: Module, t: Tiles) -> None:
    """No neighbours in `src`: one element after another."""
    fn = module.function(f"{t.prefix}_pack_any", PARAMS, internal=True)
    src, s, s_k, cols, depth, dst, width = fn.args

    def column(j: Val) -> None:
        inside = fn.cmp("slt", j, cols)
        p = fn.gep(src, fn.mul(fn.intrinsic("smin", j, fn.sub(cols, i64(1))), s))

        def row(k: Val) -> None:
            x = _widen(fn, t, fn.load(_stored(t), fn.gep(p, fn.mul(k, s_k)), t.dtype.size), 1)
            q = fn.gep(dst, fn.add(fn.mul(k, width), j), t.compute)
            fn.store(fn.select(inside, x, const(t.compute, 0)), q, t.size)

        fn.loop(0, depth, row)

    fn.loop(0, width, column)
    fn.ret_()


def transpose(fn: Fn, rows: list[Val]) -> list[Val]:
    """The transpose of a square of vectors: within blocks of 128 bits first, then the blocks."""
    w = len(rows)
    block = 2 if elem(rows[0].ty) == "double" else 4
    within = [_transpose_blocks(fn, rows[g : g + block], block) for g in range(0, w, block)]
    columns = [_deal(fn, [group[c] for group in within], block) for c in range(block)]
    return [columns[i % block][i // block] for i in range(w)]


def _transpose_blocks(fn: Fn, rows: list[Val], block: int) -> list[Val]:
    """Transpose `block` rows inside every block by interleaving low and high halves, as shuffle units do best."""
    w = lanes(rows[0].ty)

    def interleave(a: Val, b: Val, high: int, piece: int) -> Val:
        index: list[int] = []
        for start in range(high * block // 2, w, block):
            for at in range(start, start + block // 2, piece):
                index += [*range(at, at + piece), *range(w + at, w + at + piece)]
        return fn.shuffle(a, b, index)

    if block == 2:
        return [interleave(rows[0], rows[1], high, 1) for high in (0, 1)]
    pairs = [interleave(rows[i], rows[i + 1], high, 1) for i in (0, 2) for high in (0, 1)]
    return [interleave(pairs[i], pairs[i + 2], high, 2) for i in (0, 1) for high in (0, 1)]


def _deal(fn: Fn, rows: list[Val], block: int) -> list[Val]:
    """The transpose of the blocks of vectors that have as many blocks as there were vectors at first."""
    if len(rows) == 1:
        return rows
    w = lanes(rows[0].ty)

    def every_other(a: Val, b: Val, odd: int) -> Val:
        starts = range(odd * block, 2 * w, 2 * block)
        return fn.shuffle(a, b, [s + i for s in starts for i in range(block)])

    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    even, odd = (_deal(fn, [every_other(a, b, k) for a, b in pairs], block) for k in (0, 1))
    return [x for pair in zip(even, odd, strict=True) for x in pair]
