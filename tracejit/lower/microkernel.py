"""The register tiles of matrix products as LLVM IR: multiply kernels of a few rows by a few vectors, and packing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tracejit.ir.types import DType
from tracejit.lower import engine
from tracejit.lower.llvm import Fn, Module, Val, const, elem, i64, suffix, vec

GROUP = 5  # rows reached from one base pointer by the strides 0, s, 2s, 3s, 4s


@dataclass(frozen=True)
class Tiles:
    """The tile shapes of one machine for one element type.

    `rows` are the heights of the multiply kernels, tallest first; `vectors` the width of a column panel in vectors;
    `thin` the heights of the kernels for matrices of few rows, whose panel has `thin_vectors` vectors. `masks` tells
    that masked loads and stores are cheap.
    """

    dtype: DType
    vector_bytes: int
    rows: tuple[int, ...]
    vectors: int
    thin: tuple[int, ...]
    thin_vectors: int
    masks: bool

    @property
    def compute(self) -> str:
        """LLVM's type of products and sums."""
        return "double" if self.dtype.bits == 64 else "float"

    @property
    def size(self) -> int:
        """Bytes of a computed element."""
        return 8 if self.dtype.bits == 64 else 4

    @property
    def width(self) -> int:
        return self.vector_bytes // self.size

    @property
    def vector(self) -> str:
        return vec(self.compute, self.width)

    @property
    def converts(self) -> bool:
        """The operands are stored in a narrower type and are converted when they are packed."""
        return self.dtype.bits == 16

    @property
    def prefix(self) -> str:
        return f"tj_mm_{self.dtype.name}x{self.width}"


def tiles(dtype: DType, level: str | None = None) -> Tiles:
    """The tiles for `dtype` on this machine, or on the named level: "avx512", "avx2", "neon", "generic"."""
    level = level or host_level()
    if level == "avx512":
        return Tiles(dtype, 64, (14, 8, 4, 2, 1), 2, (4, 2, 1), 4, True)
    if level == "avx2":
        return Tiles(dtype, 32, (6, 4, 2, 1), 2, (2, 1), 4, True)
    if level == "neon":
        return Tiles(dtype, 16, (6, 4, 2, 1), 4, (4, 2, 1), 4, False)
    return Tiles(dtype, 16, (4, 2, 1), 2, (2, 1), 4, False)


def host_level() -> str:
    features = engine.host()[1].split(",")
    if "+avx512f" in features:
        return "avx512"
    if "+avx2" in features and "+fma" in features:
        return "avx2"
    return "neon" if "+neon" in features else "generic"


def column_mask(fn: Fn, cols: Val, vector: int, width: int) -> Val:
    """Which lanes of the panel's `vector`-th vector lie in the first `cols` columns."""
    return fn.mask(fn.intrinsic("smax", fn.sub(cols, i64(vector * width)), i64(0)), width)


# --- multiply --------------------------------------------------------------------------------------------------------
_NAMES = ("a", "a_row", "a_k", "b", "b_k", "depth", "out", "out_row", "cols", "whole")
KERNEL_PARAMS = tuple((n, "ptr" if n in ("a", "b", "out") else "i64") for n in _NAMES)


def dot_name(t: Tiles, rows: int) -> str:
    return f"{t.prefix}_dot{rows}"


def kernel_name(t: Tiles, rows: int, vectors: int) -> str:
    return f"{t.prefix}_{rows}x{vectors}"


def multiply_kernel(module: Module, t: Tiles, rows: int, vectors: int) -> None:
    """`out[rows, vectors * width] = a[rows, k] @ b[k, …]`; strides and sizes are run-time values, strides in bytes.

    Only `cols` columns of `b` are read, at least one and more than a vector if there are several; `whole` tells to
    store every lane. With few accumulators several values of k are summed apart, to hide the latency of an addition.
    """
    fn = module.function(kernel_name(t, rows, vectors), KERNEL_PARAMS, internal=True)
    a, a_row, a_k, b, b_k, depth, out, out_row, cols, whole = fn.args
    masks = [
        column_mask(fn, cols, v, t.width) if t.masks and (v or vectors == 1) else None for v in range(vectors)
    ]
    unroll = max(1, 8 // (rows * vectors))
    strides = [fn.mul(a_row, i64(q)) for q in range(min(GROUP, rows))]
    bases = [a]
    for _ in range(1, -(-rows // GROUP)):
        bases.append(fn.gep(bases[-1], fn.mul(a_row, i64(GROUP))))

    def steps(count: int) -> Callable[..., list[Val]]:
        def body(_: Val, *carried: Val) -> list[Val]:
            pointers, acc = list(carried[: len(bases) + 1]), list(carried[len(bases) + 1 :])
            for u in range(count):
                _step(fn, t, pointers, strides, masks, rows, acc, u * rows * vectors)
                # LLVM would step one pointer through all rows, a chain of additions longer than the products take;
                # it leaves frozen values alone.
                pointers = [*(frozen(fn, fn.gep(p, a_k)) for p in pointers[:-1]), frozen(fn, fn.gep(pointers[-1], b_k))]
            return [*pointers, *acc]

        return body

    state: list[Val] = [*bases, b, *[Val("zeroinitializer", t.vector)] * (rows * vectors * unroll)]
    main = fn.and_(depth, i64(-unroll))
    state = fn.loop(0, main, steps(unroll), state, step=unroll)
    if unroll > 1:
        state = fn.loop(main, depth, steps(1), state)
    acc = state[len(bases) + 1 :]
    n = rows * vectors
    while len(acc) > n:
        half = len(acc) // 2
        acc = [fn.add(x, y) for x, y in zip(acc[:half], acc[half:], strict=True)]
    _store_tile(fn, t, acc, out, out_row, masks, whole)
    fn.ret_()


def frozen(fn: Fn, v: Val) -> Val:
    return fn.emit(f"freeze {v.ty} {v}", v.ty)


def _step(
    fn: Fn, t: Tiles, pointers: list[Val], strides: list[Val], masks: list[Val | None], rows: int, acc: list[Val], first: int
) -> None:
    """Add one value of k to the accumulators from `first` on."""
    bs = []
    for v, mask in enumerate(masks):
        p = fn.gep(pointers[-1], v * t.vector_bytes)
        bs.append(fn.load(t.vector, p, t.size) if mask is None else fn.masked_load(t.vector, p, mask, t.size))
    for r in range(rows):
        p = fn.gep(pointers[r // GROUP], strides[r % GROUP]) if r % GROUP else pointers[r // GROUP]
        x = fn.splat(fn.load(t.compute, p, t.size), t.width)
        for v, y in enumerate(bs):
            at = first + r * len(bs) + v
            acc[at] = fn.intrinsic("fmuladd", x, y, acc[at])


def _store_tile(
    fn: Fn, t: Tiles, acc: list[Val], out: Val, out_row: Val, masks: list[Val | None], whole: Val
) -> None:
    n = len(masks)

    def store(masked: bool) -> None:
        p = out
        for r in range(len(acc) // n):
            for v, mask in enumerate(masks):
                q = fn.gep(p, v * t.vector_bytes)
                if masked and mask is not None:
                    fn.masked_store(acc[r * n + v], q, mask, t.size)
                else:
                    fn.store(acc[r * n + v], q, t.size)
            p = fn.gep(p, out_row)

    if not t.masks:
        store(False)
        return
    fn.if_(fn.cmp("ne", whole, i64(0)), lambda: store(False), lambda: store(True))


def dot_kernel(module: Module, t: Tiles, rows: int) -> None:
    """As `multiply_kernel`, for `a` and `b` with neighbours along k: `b_k` is the stride by column, `a_k` unused.

    Vectors of products over k are added up lane by lane at last; `out` has room for a few more columns than `cols`.
    """
    fn = module.function(dot_name(t, rows), KERNEL_PARAMS, internal=True)
    a, a_row, _, b, b_col, depth, out, out_row, cols, _ = fn.args
    w, at_once = t.width, 4
    whole = fn.and_(depth, i64(-w))
    tail = fn.mask(fn.sub(depth, whole), w)
    a_rows = [fn.gep(a, fn.mul(a_row, i64(r))) for r in range(rows)]

    def columns(j: Val) -> None:
        last = fn.sub(cols, i64(1))
        ps = [fn.gep(b, fn.mul(fn.intrinsic("smin", fn.add(j, i64(c)), last), b_col)) for c in range(at_once)]

        def add(k: Val, mask: Val | None, acc: tuple[Val, ...]) -> list[Val]:
            def load(p: Val) -> Val:
                q = fn.gep(p, k, t.compute)
                return fn.load(t.vector, q, t.size) if mask is None else fn.masked_load(t.vector, q, mask, t.size)

            xs, ys = [load(p) for p in a_rows], [load(p) for p in ps]
            return [fn.intrinsic("fmuladd", x, y, acc[i * at_once + c]) for i, x in enumerate(xs) for c, y in enumerate(ys)]

        zero = Val("zeroinitializer", t.vector)
        acc = fn.loop(0, whole, lambda k, *acc: add(k, None, acc), [zero] * (rows * at_once), step=w)
        acc = fn.if_(fn.cmp("slt", whole, depth), lambda: add(whole, tail, tuple(acc)), lambda: acc)
        for i, x in enumerate(acc):
            row = fn.gep(out, fn.mul(out_row, i64(i // at_once)))
            fn.store(_lane_sum(fn, x), fn.gep(row, fn.add(j, i64(i % at_once)), t.compute), t.size)

    fn.loop(0, cols, columns, step=at_once)
    fn.ret_()


def _lane_sum(fn: Fn, x: Val) -> Val:
    name = f"llvm.vector.reduce.fadd.{suffix(x.ty)}"
    fn.module.declare(name, elem(x.ty), [elem(x.ty), x.ty])
    return fn.emit(f"call reassoc {elem(x.ty)} @{name}({elem(x.ty)} {const(elem(x.ty), -0.0)}, {x.ty} {x})", elem(x.ty))


def accumulate(module: Module, t: Tiles) -> None:
    """`total += part` for `count` whole vectors that lie one after another."""
    fn = module.function(f"{t.prefix}_accumulate", [("total", "ptr"), ("part", "ptr"), ("count", "i64")], internal=True)
    total, part, count = fn.args

    def body(i: Val) -> None:
        p, q = fn.gep(total, i, t.vector), fn.gep(part, i, t.vector)
        fn.store(fn.add(fn.load(t.vector, p, t.size), fn.load(t.vector, q, t.size)), p, t.size)

    fn.loop(0, count, body)
    fn.ret_()


# --- packing ---------------------------------------------------------------------------------------------------------
def packing(module: Module, t: Tiles) -> None:
    """`pack(src, s, s_k, cols, depth, dst, width)`: `dst[k, j] = src[j * s + k * s_k]`, j < cols; zeros up to `width`.

    `dst` has rows of `width` elements and room for depth rounded up to whole vectors. Strides are in bytes.
    """
    _pack_along(module, t)
    _pack_transposed(module, t)
    _pack_any(module, t)
    fn = module.function(f"{t.prefix}_pack", _pack_params(), internal=True)
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
    fn = module.function(f"{t.prefix}_pack_many", [*_pack_params(), ("size", "i64")], internal=True)
    src, s, s_k, cols, depth, dst, width, size = fn.args
    step = fn.select(fn.cmp("eq", s, i64(t.dtype.size)), i64(16), fn.intrinsic("smax", depth, i64(1)))

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


def void(_: object) -> None:
    return None


def _pack_params() -> list[tuple[str, str]]:
    return [("src", "ptr"), ("s", "i64"), ("s_k", "i64"), ("cols", "i64"), ("depth", "i64"), ("dst", "ptr"), ("width", "i64")]


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


def _pack_along(module: Module, t: Tiles) -> None:
    """Elements of a row of `dst` are neighbours in `src`."""
    fn = module.function(f"{t.prefix}_pack_along", _pack_params(), internal=True)
    src, _, s_k, cols, depth, dst, width = fn.args
    step = fn.mul(width, i64(t.size))

    def strip(j: Val) -> None:
        read = fn.mask(fn.intrinsic("smax", fn.sub(cols, j), i64(0)), t.width)
        write = fn.mask(fn.sub(width, j), t.width)
        whole = fn.cmp("sge", fn.sub(fn.intrinsic("smin", cols, width), j), i64(t.width))
        p, q = fn.gep(src, j, _stored(t)), fn.gep(dst, j, t.compute)

        def rows(masked: bool) -> None:
            def body(_: Val, p: Val, q: Val) -> list[Val]:
                ty = vec(_stored(t), t.width)
                x = fn.masked_load(ty, p, read, t.dtype.size) if masked else fn.load(ty, p, t.dtype.size)
                x = _widen(fn, t, x, t.width)
                if masked:
                    fn.masked_store(x, q, write, t.size)
                else:
                    fn.store(x, q, t.size)
                return [fn.gep(p, s_k), fn.gep(q, step)]

            fn.loop(0, depth, body, [p, q])

        fn.if_(whole, lambda: rows(False), lambda: rows(True))

    fn.loop(0, width, strip, step=t.width)
    fn.ret_()


def _pack_transposed(module: Module, t: Tiles) -> None:
    """Elements of a column of `dst` are neighbours in `src`: squares of vectors are transposed in registers."""
    fn = module.function(f"{t.prefix}_pack_transposed", _pack_params(), internal=True)
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
        full = fn.cmp("sge", fn.sub(width, j), i64(w))
        start = fn.gep(dst, j, t.compute)

        def square(k: Val) -> None:
            read = fn.mask(fn.sub(depth, k), w)
            at = fn.gep(src, k, _stored(t))
            rows = []
            for r in range(w):
                p = fn.gep(at, fn.load("i64", fn.gep(offsets, 8 * r)))
                rows.append(_widen(fn, t, fn.masked_load(vec(_stored(t), w), p, read, t.dtype.size), w))
            outs = transpose(fn, rows)
            q = fn.gep(start, fn.mul(k, step))
            pointers = [q]
            for _ in range(w - 1):
                pointers.append(fn.gep(pointers[-1], step))
            if t.masks:
                for x, p in zip(outs, pointers, strict=True):
                    fn.masked_store(x, p, write, t.size)
                return

            def store(masked: bool) -> None:
                for x, p in zip(outs, pointers, strict=True):
                    if masked:
                        fn.masked_store(x, p, write, t.size)
                    else:
                        fn.store(x, p, t.size)

            fn.if_(full, lambda: store(False), lambda: store(True))

        fn.loop(0, depth, square, step=w)

    fn.loop(0, width, strip, step=w)
    fn.ret_()


def _pack_any(module: Module, t: Tiles) -> None:
    """No neighbours in `src`: one element after another."""
    fn = module.function(f"{t.prefix}_pack_any", _pack_params(), internal=True)
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
    block = min(w, 128 // (64 if rows[0].ty.endswith("double>") else 32))
    within: list[list[Val]] = [_transpose_blocks(fn, rows[g : g + block], block) for g in range(0, w, block)]
    out: list[Val] = [rows[0]] * w
    for c in range(block):
        for b, x in enumerate(_deal(fn, [group[c] for group in within], block)):
            out[b * block + c] = x
    return out


def _transpose_blocks(fn: Fn, rows: list[Val], block: int) -> list[Val]:
    """Transpose `block` rows inside every block by interleaving low and high halves, as shuffle units do best."""
    w = len(rows) if rows[0].ty[0] != "<" else int(rows[0].ty[1 : rows[0].ty.index(" ")])

    def unpack(a: Val, b: Val, high: int, piece: int) -> Val:
        index = []
        for start in range(0, w, block):
            for at in range(start + high * block // 2, start + high * block // 2 + block // 2, piece):
                index += [*range(at, at + piece), *range(w + at, w + at + piece)]
        return fn.shuffle(a, b, index)

    if block == 2:
        return [unpack(rows[0], rows[1], h, 1) for h in (0, 1)]
    low = [unpack(rows[i], rows[i + 1], h, 1) for i in (0, 2) for h in (0, 1)]
    return [unpack(low[i], low[i + 2], h, 2) for i in (0, 1) for h in (0, 1)]


def _deal(fn: Fn, rows: list[Val], block: int) -> list[Val]:
    """Vectors of as many blocks as there are vectors: the transpose of the blocks."""
    if len(rows) == 1:
        return rows
    w = int(rows[0].ty[1 : rows[0].ty.index(" ")])

    def every_other(a: Val, b: Val, odd: int) -> Val:
        starts = range(odd * block, 2 * w, 2 * block)
        return fn.shuffle(a, b, [s + i for s in starts for i in range(block)])

    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    even = _deal(fn, [every_other(a, b, 0) for a, b in pairs], block)
    odd = _deal(fn, [every_other(a, b, 1) for a, b in pairs], block)
    return [x for pair in zip(even, odd, strict=True) for x in pair]
