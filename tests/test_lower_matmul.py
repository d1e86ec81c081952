"""Generated matrix products against NumPy: all sizes, strides, types and tile shapes, epilogues, and memory bounds."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import sys
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from tracejit.ir.types import DType, as_dtype
from tracejit.lower import engine, gemmplan, matmul
from tracejit.lower.gemm import exports, library, operand
from tracejit.lower.llvm import Fn, Module, Val, const, vec
from tracejit.lower.microkernel import host_level, tiles

LEVELS = [host_level(), *(level for level in ("avx2", "neon", "generic") if level != host_level())]
SIZES = [  # batch, m, n, k
    (1, 1, 1, 1), (1, 16, 16, 16), (2, 33, 47, 19), (1, 3, 200, 50), (3, 2, 17, 5), (1, 14, 32, 1), (1, 15, 33, 2500),
    (1, 5, 1, 3000), (1, 1, 10, 9000), (1, 64, 70, 3), (4, 1, 70, 100), (1, 100, 10, 37), (1, 2, 2, 40000),
    (1, 300, 300, 1800), (1, 700, 257, 800), (1, 29, 600, 40), (1, 90, 31, 4500), (20, 7, 9, 11),
    (1, 128, 130, 3300), (2, 20, 30, 4000),
]  # fmt: skip


class Product:
    """The kernels of one product, called as the runtime calls them."""

    def __init__(
        self, dtype: DType, level: str | None, epilogue: matmul.Epilogue, first: int, imports: dict[str, int]
    ) -> None:
        module = Module()
        self.dtype, self.level, self.first = dtype, level, first
        self.steps = matmul.emit(module, "mm", dtype, epilogue, first, level)
        self.code = engine.load(module.text(), [s.name for s in self.steps], imports)
        types = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
        self.functions = [self.code.function(s.name, None, *types) for s in self.steps]

    def __call__(
        self, a: np.ndarray, b: np.ndarray, own: list[int], chunk: int = 1 << 40, reverse: bool = False, seen: int = 0
    ) -> None:
        (batch, m, k), n = a.shape, b.shape[2]
        scratch = np.full(matmul.scratch_bytes(self.dtype, m, n, k, batch, self.level, seen) + 64, 0xFF, np.uint8)
        strides = [s // a.itemsize for x in (a, b) for s in x.strides]
        slots = [a.ctypes.data, b.ctypes.data, m, n, k, batch, *strides]
        slots += [scratch.ctypes.data + -scratch.ctypes.data % 64, seen, 0]
        frame = np.array([-1] * self.first + slots + own, np.int64)
        idx = np.arange(len(frame), dtype=np.int32)
        for step, function in zip(self.steps, self.functions, strict=True):
            tasks = step.tasks(m, n, k, batch, seen)
            assert step.grain(m, n, k, batch, seen) >= 1
            starts = range(0, tasks, chunk)
            for lo in reversed(starts) if reverse else starts:
                function(frame.ctypes.data, idx.ctypes.data, lo, min(lo + chunk, tasks))


@cache
def stored(dtype: str, level: str | None = None) -> Product:
    t = as_dtype(dtype)
    return Product(t, level, matmul.StoreEpilogue(t), 0, matmul.symbols(t, level))


def multiply(product: Product, a: np.ndarray, b: np.ndarray, **how: object) -> np.ndarray:
    """The product in a part of a larger array, of which nothing else may change."""
    (batch, m, _), n = a.shape, b.shape[2]
    whole = np.full((batch, m + 1, n + 3), 77, a.dtype)
    c = whole[:, :m, :n]
    product(a, b, [c.ctypes.data, c.strides[1] // c.itemsize, c.strides[0] // c.itemsize], **how)
    rest = whole.copy()
    rest[:, :m, :n] = 77
    assert (rest == 77).all()
    return c


def operands(size: tuple[int, ...], dtype: str, layout: tuple[str, str] = ("c", "c")) -> list[np.ndarray]:
    """Small integers, so that sums are exact in any order: `c` rows, `t` transposed, `s` strided both ways."""
    batch, m, n, k = size
    rng = np.random.default_rng([*size])
    out = []
    for (rows, cols), kind in zip(((m, k), (k, n)), layout, strict=True):
        shape = (batch, cols, rows) if kind == "t" else (batch, rows, cols)
        if kind == "s":
            shape = (batch, rows * 2, cols * 3)
        x = rng.integers(-2, 3, shape).astype(as_dtype(dtype).np)
        out.append(x.swapaxes(1, 2) if kind == "t" else x[:, ::2, ::3] if kind == "s" else x)
    return out


def exact(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(a.dtype)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_sizes_and_layouts(dtype: str, size: tuple[int, ...]) -> None:
    for layout in itertools.product("cts", repeat=2):
        a, b = operands(size, dtype, layout)
        assert np.array_equal(multiply(stored(dtype), a, b), exact(a, b)), layout


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_a_thread(dtype: str, level: str) -> None:
    """Where B lasts over a loop, tasks follow each other by columns, then by rows, one at a time or all at once."""
    t = tiles(as_dtype(dtype), level)
    for m, n, k in ((16, 40, 24), (32, 512, 128), (33, 70, 600), (100, 33, 7), (255, 129, 65), (12, 1, 1)):
        if not gemmplan.kept(t, m, n, k):
            assert m < 2 * t.rows[1]
            continue
        for layout in (("c", "c"), ("t", "c"), ("s", "c")):
            a, b = operands((1, m, n, k), dtype, layout)
            for chunk in (1, 1 << 40):
                how = {"seen": gemmplan.KEPT, "chunk": chunk, "reverse": True}
                assert np.array_equal(multiply(stored(dtype, level), a, b, **how), exact(a, b)), (m, n, k, layout)


def test_rows_that_need_no_packing() -> None:
    t, size = tiles(as_dtype("float32")), (1, 1024, 520, 800)
    m, n, k = size[1:]
    assert gemmplan.in_rows(t, m, n, k) and not gemmplan.in_rows(t, m, 4096, k) and not gemmplan.in_rows(t, 2048, n, k)
    assert gemmplan.tasks(t, "pack_step", m, n, k, 1) and not gemmplan.tasks(t, "pack_step", m, n, k, 1, gemmplan.ROWS)
    a, b = operands(size, "float32")
    assert np.array_equal(multiply(stored("float32"), a, b, seen=gemmplan.ROWS), exact(a, b))


@pytest.mark.parametrize("level", LEVELS[1:])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_tile_shapes(dtype: str, level: str) -> None:
    for size, layout in itertools.product(SIZES, (("c", "c"), ("t", "c"), ("c", "t"))):
        a, b = operands(size, dtype, layout)
        assert np.array_equal(multiply(stored(dtype, level), a, b), exact(a, b)), (size, layout)


def test_every_small_size() -> None:
    for m, n in itertools.product(range(1, 31), (1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65)):
        for k in (1, 2, 7):
            a, b = operands((1, m, n, k), "float32")
            assert np.array_equal(multiply(stored("float32"), a, b), exact(a, b)), (m, n, k)


@pytest.mark.skipif(host_level() not in ("avx512", "avx2"), reason="needs AVX2")
def test_avx2_code() -> None:
    """The tiles for AVX2 with code that uses nothing beyond AVX2."""
    t = tiles(as_dtype("float32"), "avx2")
    text = library(t).replace("attributes #0 = {", 'attributes #0 = { "target-cpu"="haswell"')
    machine_code = engine.load(text, exports(t), matmul.imports())
    product = Product(t.dtype, "avx2", matmul.StoreEpilogue(t.dtype), 0, machine_code.addresses)
    for size, layout in itertools.product(SIZES, (("c", "c"), ("t", "c"), ("c", "t"))):
        a, b = operands(size, "float32", layout)
        assert np.array_equal(multiply(product, a, b), exact(a, b)), (size, layout)


@pytest.mark.parametrize("size", [(1, 255, 1400, 1365), (1, 600, 700, 3000)], ids=str)
def test_several_panels_in_a_task(size: tuple[int, ...]) -> None:
    a, b = operands(size, "float32", ("c", "t"))
    assert np.array_equal(multiply(stored("float32"), a, b, chunk=2), exact(a, b))


def test_nothing_to_sum() -> None:
    a, b = np.empty((2, 40, 0), np.float32), np.empty((2, 0, 50), np.float32)
    assert (multiply(stored("float32"), a, b) == 0).all()
    for sizes in ((0, 5, 5, 1), (5, 0, 5, 1), (5, 5, 5, 0)):
        assert all(s.tasks(*sizes) == 0 for s in stored("float32").steps)


def test_broadcast_batch() -> None:
    a, b = operands((6, 20, 40, 30), "float32")
    a, b = np.broadcast_to(a[:1], a.shape), np.broadcast_to(b[2:3], b.shape)
    assert np.array_equal(multiply(stored("float32"), a, b), exact(a, b))


@pytest.mark.parametrize("size", [(1, 40, 50, 30), (1, 3, 50, 100), (1, 300, 300, 1800), (1, 15, 33, 2500)], ids=str)
@pytest.mark.parametrize("layout", ["cc", "tc", "ct"])
def test_not_finite(size: tuple[int, ...], layout: str) -> None:
    """0 * inf is NaN, an infinity stays one, and neither reaches elements that it does not belong to."""
    a, b = operands(size, "float32", (layout[0], layout[1]))
    a, b = a.copy(order="K"), b.copy(order="K")
    _, m, n, k = size
    a[0, m - 1, k - 1] = np.inf
    a[0, 0, 0] = np.nan
    b[0, k - 1, n - 1] = 0
    b[0, k // 2, 1] = -np.inf
    with np.errstate(invalid="ignore"):
        expected = exact(a, b)
    c = multiply(stored("float32"), a, b)
    assert np.array_equal(c, expected, equal_nan=True)
    assert np.isnan(c[0, m - 1, n - 1]) and np.isfinite(c[0, 1, 2])


def test_denormals() -> None:
    a, b = np.full((1, 20, 3), 1e-30, np.float32), np.full((1, 3, 20), 1e-10, np.float32)
    assert np.allclose(multiply(stored("float32"), a, b), 3e-40, rtol=1e-3, atol=0)


@pytest.mark.parametrize("size", [(1, 200, 300, 64), (1, 700, 600, 800), (1, 15, 33, 9000), (30, 20, 20, 20)], ids=str)
def test_result_does_not_depend_on_the_division_of_tasks(size: tuple[int, ...]) -> None:
    batch, m, n, k = size
    rng = np.random.default_rng(0)
    a = rng.standard_normal((batch, m, k)).astype(np.float32)
    b = rng.standard_normal((batch, k, n)).astype(np.float32)
    product = stored("float32")
    c = multiply(product, a, b)
    assert np.allclose(c, a.astype(np.float64) @ b, rtol=1e-4, atol=1e-5 * k**0.5)
    for how in ({"chunk": 1}, {"chunk": 3}, {"chunk": 1, "reverse": True}):
        assert np.array_equal(multiply(product, a, b, **how), c)


def test_a_long_sum_is_divided_among_tasks() -> None:
    steps = stored("float32").steps
    assert steps[1].tasks(10, 64, 100_000, 1) > 2 and steps[2].tasks(10, 64, 100_000, 1) > 0
    assert steps[1].tasks(32, 32, 32, 1) == 1 and steps[2].tasks(32, 32, 32, 1) == 0


class BiasRelu:
    """`out = relu(acc + bias[col])` and `count[batch, row, col] += 1000 * row + col`, both rows of `n`."""

    def __init__(self, first: int) -> None:
        self.first = first

    def prepare(self, fn: Fn) -> None:
        frame, idx = fn.args[:2]
        self.out, self.count, self.bias = (operand(fn, frame, idx, self.first + i, "ptr") for i in range(3))
        self.n, self.rows = (operand(fn, frame, idx, self.first + 3 + i) for i in range(2))

    def emit(self, fn: Fn, acc: Val, batch: Val, row: Val, col: Val, mask: Val | None, width: int) -> None:
        at = fn.add(fn.mul(fn.add(fn.mul(batch, self.rows), row), self.n), col)

        def load(p: Val, index: Val) -> Val:
            q = fn.gep(p, index, "float")
            return fn.load(acc.ty, q, 4) if mask is None else fn.masked_load(acc.ty, q, mask, 4)

        def store(v: Val, p: Val) -> None:
            q = fn.gep(p, at, "float")
            if mask is None:
                fn.store(v, q, 4)
            else:
                fn.masked_store(v, q, mask, 4)

        x = fn.add(acc, load(self.bias, col))
        store(fn.intrinsic("maxnum", x, const(acc.ty, 0)), self.out)
        place = fn.cast("sitofp", fn.add(fn.mul(row, Val("1000", "i64")), col), "float")
        lane = fn.cast("sitofp", fn.iota(vec("i32", width)), acc.ty)
        store(fn.add(load(self.count, at), fn.add(fn.splat(place, width), lane)), self.count)

    def destination(self, fn: Fn) -> None:
        return None


@pytest.mark.parametrize("level", LEVELS)
def test_epilogue(level: str) -> None:
    """Every element is finished exactly once, with its own coordinates, also where k is divided."""
    dtype, first = as_dtype("float32"), 2
    product = Product(dtype, level, BiasRelu(first + len(matmul.OPERANDS)), first, matmul.symbols(dtype, level))
    for size in SIZES:
        batch, m, n, _ = size
        a, b = operands(size, "float32")
        bias = np.arange(n, dtype=np.float32) - n // 2
        out, count = np.full((batch, m, n), -1, np.float32), np.zeros((batch, m, n), np.float32)
        product(a, b, [out.ctypes.data, count.ctypes.data, bias.ctypes.data, n, m])
        assert np.array_equal(out, np.maximum(exact(a, b) + bias, 0)), size
        assert np.array_equal(count, np.broadcast_to(1000.0 * np.arange(m)[:, None] + np.arange(n), count.shape)), size


def test_plan_is_the_same_in_generated_code() -> None:
    t = tiles(as_dtype("float32"))
    module = Module()
    gemmplan.plan_function(module, t)
    name = f"{t.prefix}_plan"
    code = engine.load(module.text().replace("define internal", "define"), [name])
    call = code.function(name, None, *[ctypes.c_int64] * 5, ctypes.c_void_p)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        m, n, k, batch = (int(x) for x in np.exp(rng.uniform(0, [9, 9, 11, 4])) - 1)
        seen = int(rng.integers(5))
        plan = gemmplan.plan(gemmplan.Ints(), t, m, n, k, batch, seen)
        out = np.zeros(len(vars(plan)), np.int64)
        call(m, n, k, batch, seen, out.ctypes.data)
        assert SimpleNamespace(**dict(zip(vars(plan), out.tolist(), strict=True))) == SimpleNamespace(**vars(plan))


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_read_outside_of_the_operands(level: str) -> None:
    def fenced(x: np.ndarray) -> np.ndarray:
        """A copy that ends where a page that must not be touched begins."""
        pages = -(-x.nbytes // mmap.PAGESIZE) + 1
        memory = mmap.mmap(-1, pages * mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        end = start + (pages - 1) * mmap.PAGESIZE
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(end), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
        at = (pages - 1) * mmap.PAGESIZE - x.nbytes
        y = np.frombuffer(memory, x.dtype, x.size, at).reshape(x.shape)
        y[...] = x
        return y

    for size in ((1, 5, 7, 3), (1, 33, 47, 19), (1, 1, 70, 100), (1, 20, 100, 50), (1, 100, 33, 65), (2, 3, 5, 40)):
        for layout in (("c", "c"), ("t", "c"), ("c", "t")):
            a, b = operands(size, "float32", layout)
            fa = fenced(a.swapaxes(1, 2)).swapaxes(1, 2) if layout[0] == "t" else fenced(a)
            fb = fenced(b.swapaxes(1, 2)).swapaxes(1, 2) if layout[1] == "t" else fenced(b)
            assert np.array_equal(multiply(stored("float32", level), fa, fb), exact(a, b)), (size, layout)
