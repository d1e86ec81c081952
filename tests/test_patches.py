"""Products that take what windows see of an image where it lies: values, gradients, bits, and what is not copied."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest
from convolution_cases import agrees_at_open_sizes, convolution, inside, normal, places, same
from test_lower_matmul import LEVELS

import tracejit as tj
from tracejit.ir.types import DType, as_dtype
from tracejit.lower import engine, matmul
from tracejit.lower.llvm import Module
from tracejit.lower.patchrows import ELEMENTS, PLACES
from tracejit.lower.units import CopyUnit, ProductUnit
from tracejit.lower.windows import window_operands
from tracejit.passes.layout import Layout, contiguous
from tracejit.passes.patches import Patches
from tracejit.runtime import threads

CASES = [  # image, filters, strides, padding, dilations
    ((2, 5, 6, 8), (3, 3, 8, 5), (1, 1), "SAME", (1, 1)),
    ((2, 7, 5, 9), (3, 2, 9, 17), (2, 1), "SAME", (1, 1)),
    ((1, 8, 9, 33), (3, 3, 33, 40), (1, 1), "VALID", (2, 1)),
    ((3, 6, 7, 12), (2, 3, 12, 33), (1, 2), [(1, 0), (2, 3)], (1, 2)),
    ((1, 4, 4, 16), (5, 5, 16, 16), (1, 1), "SAME", (1, 1)),
    ((2, 9, 9, 8), (3, 3, 8, 300), (3, 3), "SAME", (1, 1)),
    ((4, 12, 8), (3, 8, 7), (1,), "SAME", (1,)),
    ((2, 11, 10), (4, 10, 3), (2,), [(3, 0)], (2,)),
    ((1, 4, 5, 3, 8), (2, 3, 2, 8, 9), (1, 2, 1), "SAME", (1, 1, 1)),
    ((9, 16, 16, 24), (3, 3, 24, 20), (1, 1), "SAME", (1, 1)),
]


class Slots:
    """Stands in for a binding: each number has a slot of its own."""

    def __init__(self, image: int) -> None:
        self.image, self.numbers = image, []

    def size(self, d: int) -> int:
        return d

    def slot(self, d: int) -> int:
        self.numbers.append(d)
        return len(self.numbers) - 1

    def slot_at(self, base: object, offset: int, size: int) -> int:
        return self.slot(self.image + offset * size)


class Product:
    """The kernels of a product whose left operand is patches."""

    def __init__(self, dtype: DType, level: str) -> None:
        module = Module()
        self.dtype, self.level = dtype, level
        self.steps = matmul.emit(module, "mm", dtype, matmul.StoreEpilogue(dtype), 0, level)
        self.code = engine.load(module.text(), [s.name for s in self.steps], matmul.symbols(dtype, level))
        types = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
        self.functions = [self.code.function(s.name, None, *types) for s in self.steps]

    def __call__(
        self, x: np.ndarray, p: Patches, right: np.ndarray, m: int, seen: int, chunk: int, back: bool
    ) -> np.ndarray:
        k, n = right.shape
        out = np.full((m, n), 77, right.dtype)
        scratch = np.full(matmul.scratch_bytes(self.dtype, m, n, k, 1, self.level, seen) + 64, 0xFF, np.uint8)
        b = Slots(x.ctypes.data)
        strides = [0, 0, int(seen == PLACES), 0, n, 1]
        own = [b.slot(v) for v in (0, right.ctypes.data, m, n, k, 1, *strides)]
        own += [b.slot(v) for v in (scratch.ctypes.data + -scratch.ctypes.data % 64, seen)]
        own += [b.slot(len(own) + 4), *[b.slot(v) for v in (out.ctypes.data, n, m * n)]]
        own += window_operands(b, p, x.itemsize)
        frame, idx = np.array(b.numbers, np.int64), np.array(own, np.int32)
        for step, function in zip(self.steps, self.functions, strict=True):
            starts = range(0, step.tasks(m, n, k, 1, seen), chunk)
            for lo in reversed(starts) if back else starts:
                function(frame.ctypes.data, idx.ctypes.data, lo, min(lo + chunk, starts.stop))
        return out


def whole_numbers(*shape: int, dtype: str = "float32") -> np.ndarray:
    """Small ones, so that sums are exact in any order."""
    return np.random.default_rng(sum(shape)).integers(-2, 3, shape).astype(dtype)


def patches(x: np.ndarray, size: tuple, stride: tuple, padding: object, dilation: tuple) -> tuple[Patches, np.ndarray]:
    """What windows see, as native code is told of it, and as a matrix."""
    count, before = places(x.shape[1:-1], size, stride, dilation, padding)
    positions = itertools.product(*map(range, size))
    starts = [tuple(i * r - b for i, r, b in zip(at, dilation, before, strict=True)) for at in positions]
    p = Patches(None, x.shape, Layout(None, 0, contiguous(x.shape)), tuple(starts), stride, tuple(count))
    matrix = np.zeros((x.shape[0], *count, *size, x.shape[-1]), x.dtype)
    for place, k, at in inside(x.shape[1:-1], size, stride, dilation, padding):
        matrix[(slice(None), *place, *k)] = x[(slice(None), *at)]
    return p, matrix.reshape(-1, int(np.prod(size)) * x.shape[-1])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_with_patches(dtype: str, level: str) -> None:
    product = Product(as_dtype(dtype), level)
    for image, filters, *how in CASES:
        x = whole_numbers(*image, dtype=dtype)
        p, matrix = patches(x, filters[:-2], *how)
        outputs = filters[-1]
        for seen, left in ((PLACES, matrix), (ELEMENTS, matrix.T)):
            right = whole_numbers(left.shape[1], outputs, dtype=dtype)
            for chunk, back in ((1 << 40, False), (1, True), (3, False)):
                got = product(x, p, right, len(left), seen, chunk, back)
                np.testing.assert_array_equal(got, left @ right, err_msg=str((image, filters, seen, chunk)))


def test_many_places_are_divided_among_tasks() -> None:
    steps = Product(as_dtype("float32"), LEVELS[0]).steps
    assert steps[1].tasks(288, 64, 12544, 1, ELEMENTS) > 4 and steps[2].tasks(288, 64, 12544, 1, ELEMENTS) > 0


def differentiated(stride: object, padding: object, dilation: object) -> object:
    def step(x, w, b):
        with tj.GradientTape() as tape:
            tape.watch([x, w, b])
            y = tj.nn.relu(tj.nn.convolution(x, w, stride, padding, None, dilation) + b)
        return y, *tape.gradient(y, [x, w, b], output_gradients=tj.sin(y))  # 0 where the slope of relu jumps

    return step


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_traced_convolutions(case: tuple, dtype: str) -> None:
    image, filters, *how = case
    d = as_dtype(dtype)
    scale = np.prod(filters[:-1]) ** -0.5
    x, w, b = (tj.constant((normal(*s) * scale).astype(d.np)) for s in (image, filters, filters[-1:]))
    step = differentiated(*how)
    got = [a.numpy() for a in tj.function(step)(x, w, b)]
    y = convolution(x.numpy().astype(float), w.numpy().astype(float), how[0], how[1], how[2]) + b.numpy().astype(float)
    same(got[0], np.maximum(y, 0), 4)
    wide = [a.numpy() for a in step(*(tj.cast(v, tj.float64) for v in (x, w, b)))]
    for a, e in zip(got, wide, strict=True):
        scale = max(np.abs(e).max(initial=0), 1)
        limit = {"float32": 2e-6, "float64": 1e-14, "float16": 2e-2, "bfloat16": 1e-1}[dtype]
        assert np.abs(a.astype(float) - e).max(initial=0) <= limit * scale


@pytest.mark.parametrize("channels", [1, 3, 7, 8, 16, 31, 33])
def test_channels(channels: int) -> None:
    for outputs in (1, 4, 9, 32):
        x, w = tj.constant(normal(2, 6, 5, channels)), tj.constant(normal(3, 3, channels, outputs))
        step = differentiated(1, "SAME", None)
        b = tj.constant(normal(outputs))
        for a, e in zip(tj.function(step)(x, w, b), step(x, w, b)):
            np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-10)


def test_groups_and_layouts() -> None:
    x, w = tj.constant(normal(2, 6, 5, 16)), tj.constant(normal(3, 3, 8, 6))
    first = tj.constant(np.moveaxis(x.numpy(), -1, 1))

    def step(x, first, w, v):
        with tj.GradientTape() as tape:
            tape.watch([x, first, w, v])
            y = [tj.nn.conv2d(x, w, 1, "SAME"), tj.nn.conv2d(first, v, 1, "SAME", "NCHW")]
            y.append(tj.nn.conv2d(x[:, ::2], v, 1, "VALID"))
            total = tj.add_n([tj.reduce_sum(tj.sin(a)) for a in y])
        return *y, *tape.gradient(total, [x, first, w, v])

    args = x, first, w, tj.constant(normal(3, 3, 16, 9))
    for a, e in zip(tj.function(step)(*args), step(*args)):
        np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-10)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    x, w, b = (tj.constant(normal(*s, dtype=np.float32)) for s in ((40, 14, 14, 32), (3, 3, 32, 33), (33,)))
    step = tj.function(differentiated(1, "SAME", None))
    before, bits = threads.get_threads(), []
    try:
        for n in (1, 2, 4):
            threads.set_threads(n)
            bits.append([a.numpy().tobytes() for a in step(x, w, b)])
    finally:
        threads.set_threads(before)
    assert bits[0] == bits[1] == bits[2]


@pytest.mark.parametrize(("stride", "padding"), [(1, "SAME"), (2, "SAME"), (1, "VALID"), (3, [(1, 0), (2, 1)])])
def test_open_sizes(stride: object, padding: object) -> None:
    w = tj.constant(normal(3, 3, 8, 9))

    def step(x):
        with tj.GradientTape() as tape:
            tape.watch([x, w])
            channels = tj.concat([x * (i + 1.0) for i in range(4)], -1)
            y = tj.nn.conv2d(channels, w, stride, padding)
        return y, *tape.gradient(y, [x, w], output_gradients=tj.cos(y))

    agrees_at_open_sizes(step, ((2, 8, 7), (1, 5, 9), (0, 6, 6), (3, 8, 8), (1, 3, 4)), 1e-10)


def units(f: object, *args: object) -> list:
    f(*args)
    return f.get_concrete_function(*args).executable.program.units


def test_patches_are_not_copied() -> None:
    x, w, b = (tj.constant(normal(*s, dtype=np.float32)) for s in ((4, 8, 8, 16), (3, 3, 16, 32), (32,)))
    made = units(tj.function(differentiated(1, "SAME", None)), x, w, b)
    products = [u for u in made if isinstance(u, ProductUnit)]
    assert len(products) == 3 and all(u.patches is not None for u in products)
    assert not [u for u in made if isinstance(u, CopyUnit) and u.needed]
    assert products[0].describe().startswith("matmul+add+relu")


def test_patches_that_others_read_too_are_copied() -> None:
    def f(x, w):
        y = tj.pad(x, [[0, 0], [1, 1], [0, 0]])
        seen = tj.concat([y[:, i : i + 6] for i in range(3)], 2)
        flat = tj.reshape(seen, (-1, 24))
        return flat @ w, tj.reduce_sum(tj.sin(seen))

    x, w = tj.constant(normal(2, 6, 8)), tj.constant(normal(24, 20))
    made = units(tj.function(f), x, w)
    assert all(u.patches is None for u in made if isinstance(u, ProductUnit))
    for a, e in zip(tj.function(f)(x, w), f(x, w)):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12)


def test_long_columns() -> None:
    """The transpose of a long matrix as the left operand, of whole rows and of a part of each."""

    @tj.function
    def f(a, b):
        return tj.matmul(a, b, transpose_a=True), tj.matmul(a[:, 1:-1], b, transpose_a=True) + 1

    for m, n, k in ((288, 64, 5000), (9, 33, 3001), (201, 300, 2048), (195, 7, 2049)):
        a, b = whole_numbers(k, m), whole_numbers(k, n)
        whole, part = f(tj.constant(a), tj.constant(b))
        np.testing.assert_array_equal(whole, a.T @ b)
        np.testing.assert_array_equal(part, a[:, 1:-1].T @ b + 1)


@pytest.mark.parametrize("k", [1000, 3000, 12000])
@pytest.mark.parametrize("form", ["", "a", "b"])
def test_long_sums_are_as_accurate_as_those_of_blas(form: str, k: int) -> None:
    rng = np.random.default_rng(k)
    for m, n in ((64, 64), (3, 40)):
        a, b = rng.random((m, k), np.float32), rng.random((k, n), np.float32)
        args = (a.T.copy() if form == "a" else a, b.T.copy() if form == "b" else b)
        f = tj.function(lambda x, y: tj.matmul(x, y, transpose_a=form == "a", transpose_b=form == "b"))
        exact = a.astype(float) @ b
        error = np.abs(f(*map(tj.constant, args)).numpy() - exact) / exact
        assert error.max() < 12 * 2.0**-24
