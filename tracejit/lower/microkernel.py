"""The innermost kernels of matrix products as LLVM IR: a few rows by a few vectors, held in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from tracejit.ir.types import DType
from tracejit.lower.llvm import Fn, Module, Val, const, elem, i64, suffix, vec
from tracejit.runtime.cache import host

AHEAD = 16  # rows of B that are fetched before they are needed
GROUP = 5  # rows reached from one base pointer by the strides 0, s, 2s, 3s, 4s
CHUNK = 128  # products that are added one after another; longer sums are sums of such sums, which are more accurate
WHOLE, ADD = 1, 2  # how a tile is stored: every lane of it, and added to what is there


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
    features = host()[1].split(",")
    if "+avx512f" in features:
        return "avx512"
    if "+avx2" in features and "+fma" in features:
        return "avx2"
    return "neon" if "+neon" in features else "generic"


def prefetch(fn: Fn, p: Val) -> None:
    """Fetch the cache line at `p`, which need not be there."""
    fn.module.declarations["llvm.prefetch.p0"] = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
    fn.line(f"call void @llvm.prefetch.p0(ptr {p}, i32 0, i32 3, i32 1)")


def void(_: object) -> None:
    """For branches that are expressions: they give no values."""


def column_mask(fn: Fn, cols: Val, vector: int, width: int) -> Val:
    """Which lanes of the panel's `vector`-th vector lie in the first `cols` columns."""
    return fn.mask(fn.intrinsic("smax", fn.sub(cols, i64(vector * width)), i64(0)), width)


# --- multiply --------------------------------------------------------------------------------------------------------
_NAMES = ("a", "a_row", "a_k", "b", "b_k", "depth", "out", "out_row", "cols", "how")
KERNEL_PARAMS = tuple((n, "ptr" if n in ("a", "b", "out") else "i64") for n in _NAMES)


def dot_name(t: Tiles, rows: int) -> str:
    return f"{t.prefix}_dot{rows}"


def kernel_name(t: Tiles, rows: int, vectors: int) -> str:
    return f"{t.prefix}_{rows}x{vectors}"


def multiply_kernel(module: Module, t: Tiles, rows: int, vectors: int) -> None:
    """`out[rows, vectors * width] = a[rows, k] @ b[k, …]`; strides and sizes are run-time values, strides in bytes.

    Only `cols` columns of `b` are read: at least one, or with several vectors more than the first one has. `how` is
    made of WHOLE and ADD. With few accumulators several values of k are summed apart, to hide the time that an
    addition takes.
    """
    fn = module.function(kernel_name(t, rows, vectors), KERNEL_PARAMS, internal=True)
    a, a_row, a_k, b, b_k, depth, out, out_row, cols, how = fn.args
    masks = [column_mask(fn, cols, v, t.width) if t.masks and (v or vectors == 1) else None for v in range(vectors)]
    sums = rows * vectors
    unroll = max(1, 8 // sums)
    strides = [fn.mul(a_row, i64(q)) for q in range(min(GROUP, rows))]
    bases = [a]
    for _ in range(1, -(-rows // GROUP)):
        bases.append(fn.gep(bases[-1], fn.mul(a_row, i64(GROUP))))
    n = len(bases) + 1
    ahead = fn.mul(b_k, i64(AHEAD)) if rows > 1 else None

    def steps(count: int) -> Callable[..., list[Val]]:
        def body(_: Val, *carried: Val) -> list[Val]:
            pointers, acc = list(carried[:n]), list(carried[n:])
            for u in range(count):
                at = [fn.gep(pointers[r // GROUP], strides[r % GROUP]) for r in range(rows)]
                part = slice(u * sums, (u + 1) * sums)
                acc[part] = _step(fn, t, at, pointers[-1], masks, acc[part], ahead)
                # LLVM would step one pointer through all rows, a chain of additions longer than the products take;
                # it leaves frozen values alone.
                pointers = [_frozen(fn, fn.gep(p, s)) for p, s in zip(pointers, [a_k] * (n - 1) + [b_k], strict=True)]
            return [*pointers, *acc]

        return body

    def chunk(start: Val, add: Val, *pointers: Val) -> list[Val]:
        length = fn.intrinsic("smin", fn.sub(depth, start), i64(CHUNK))
        main = fn.and_(length, i64(-unroll))
        state = [*pointers, *[Val("zeroinitializer", t.vector)] * (sums * unroll)]
        state = fn.loop(0, main, steps(unroll), state, step=unroll)
        if unroll > 1:
            state = fn.loop(main, length, steps(1), state)
        acc = state[n:]
        while len(acc) > sums:
            half = len(acc) // 2
            acc = [fn.add(x, y) for x, y in zip(acc[:half], acc[half:], strict=True)]
        _store_tile(fn, t, acc, out, out_row, masks, how, add)
        return [const("i1", True), *state[:n]]

    add = fn.cmp("ne", fn.and_(how, i64(ADD)), i64(0))
    fn.loop(0, fn.intrinsic("smax", depth, i64(1)), chunk, [add, *bases, b], step=CHUNK, nonempty=True)
    fn.ret_()


def _frozen(fn: Fn, v: Val) -> Val:
    return fn.emit(f"freeze {v.ty} {v}", v.ty)


def _step(
    fn: Fn, t: Tiles, rows: list[Val], b: Val, masks: list[Val | None], acc: list[Val], ahead: Val | None
) -> list[Val]:
    """The accumulators after one value of k; of B, what lies `ahead` bytes further is fetched."""
    bs = []
    for v, mask in enumerate(masks):
        p = fn.gep(b, v * t.vector_bytes)
        if ahead is not None:
            prefetch(fn, fn.gep(p, ahead))
        bs.append(fn.load(t.vector, p, t.size) if mask is None else fn.masked_load(t.vector, p, mask, t.size))
    out = []
    for r, p in enumerate(rows):
        x = fn.splat(fn.load(t.compute, p, t.size), t.width)
        out += [fn.intrinsic("fmuladd", x, y, acc[r * len(bs) + v]) for v, y in enumerate(bs)]
    return out


def _store_tile(
    fn: Fn, t: Tiles, acc: list[Val], out: Val, out_row: Val, masks: list[Val | None], how: Val, add: Val
) -> None:
    n = len(masks)

    def store(masked: bool, added: bool) -> None:
        p = out
        for r in range(len(acc) // n):
            for v, mask in enumerate(masks):
                q, x = fn.gep(p, v * t.vector_bytes), acc[r * n + v]
                if masked and mask is not None:
                    x = fn.add(fn.masked_load(t.vector, q, mask, t.size), x) if added else x
                    fn.masked_store(x, q, mask, t.size)
                else:
                    fn.store(fn.add(fn.load(t.vector, q, t.size), x) if added else x, q, t.size)
            p = fn.gep(p, out_row)

    def stored(masked: bool) -> None:
        fn.if_(add, lambda: store(masked, True), lambda: store(masked, False))

    if not t.masks:
        stored(False)
        return
    fn.if_(fn.cmp("ne", fn.and_(how, i64(WHOLE)), i64(0)), lambda: stored(False), lambda: stored(True))


def dot_kernel(module: Module, t: Tiles, rows: int) -> None:
    """As `multiply_kernel`, for `a` and `b` with neighbours along k: `b_k` is the stride by column, `a_k` unused.

    Vectors of products are added up lane by lane at last. `out` has room for the columns rounded up to four.
    """
    fn = module.function(dot_name(t, rows), KERNEL_PARAMS, internal=True)
    a, a_row, _, b, b_col, depth, out, out_row, cols, how = fn.args
    added = fn.cmp("ne", fn.and_(how, i64(ADD)), i64(0))
    whole = fn.and_(depth, i64(-t.width))
    tail = fn.mask(fn.sub(depth, whole), t.width)
    a_rows = [fn.gep(a, fn.mul(a_row, i64(r))) for r in range(rows)]
    last = fn.sub(cols, i64(1))

    def load(p: Val, k: Val, mask: Val | None) -> Val:
        q = fn.gep(p, k, t.compute)
        return fn.load(t.vector, q, t.size) if mask is None else fn.masked_load(t.vector, q, mask, t.size)

    def columns(j: Val) -> None:
        b_cols = [fn.gep(b, fn.mul(fn.intrinsic("smin", fn.add(j, i64(c)), last), b_col)) for c in range(4)]

        def add(k: Val, mask: Val | None, acc: Sequence[Val]) -> list[Val]:
            xs, ys = ([load(p, k, mask) for p in ps] for ps in (a_rows, b_cols))
            return [fn.intrinsic("fmuladd", x, y, s) for (x, y), s in zip(product(xs, ys), acc, strict=True)]

        acc = [Val("zeroinitializer", t.vector)] * (rows * 4)
        acc = fn.loop(0, whole, lambda k, *acc: add(k, None, acc), acc, step=t.width)
        acc = fn.if_(fn.cmp("slt", whole, depth), lambda: add(whole, tail, acc), lambda: acc)
        for i, x in enumerate(acc):
            row = fn.gep(out, fn.mul(out_row, i64(i // 4)))
            at, total = fn.gep(row, fn.add(j, i64(i % 4)), t.compute), _lane_sum(fn, x)
            fn.store(fn.select(added, fn.add(fn.load(t.compute, at, t.size), total), total), at, t.size)

    fn.loop(0, cols, columns, step=4)
    fn.ret_()


def _lane_sum(fn: Fn, x: Val) -> Val:
    name, ty = f"llvm.vector.reduce.fadd.{suffix(x.ty)}", elem(x.ty)
    fn.module.declare(name, ty, [ty, x.ty])
    return fn.emit(f"call reassoc {ty} @{name}({ty} {const(ty, -0.0)}, {x.ty} {x})", ty)


def accumulate(module: Module, t: Tiles) -> None:
    """`total += part` for `count` whole vectors that lie one after another."""
    fn = module.function(f"{t.prefix}_accumulate", [("total", "ptr"), ("part", "ptr"), ("count", "i64")], internal=True)
    total, part, count = fn.args

    def body(i: Val) -> None:
        p, q = fn.gep(total, i, t.vector), fn.gep(part, i, t.vector)
        fn.store(fn.add(fn.load(t.vector, p, t.size), fn.load(t.vector, q, t.size)), p, t.size)

    fn.loop(0, count, body)
    fn.ret_()
