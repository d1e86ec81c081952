"""Lowering at its edges: 16-bit floats rounded after each operation, empty arrays, kernels with many operations."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from lowerings import Lowered, flat

import tracejit as tj
from tracejit.lower import compiler
from tracejit.lower.emit_body import INLINE

HALVES = [tj.float16, tj.bfloat16]


def agree(f, *args):
    """All ways of running the function give the bits that eager operations give."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        want = flat(f(*args))
        for way, got in Lowered(f).results(*args):
            for a, b in zip(want, got, strict=True):
                assert a.shape == b.shape, way
                np.testing.assert_array_equal(a.astype(np.float64), b.astype(np.float64), err_msg=way)


def half_values(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    return tj.cast(tj.constant(rng.uniform(0.1, 2.0, shape)), dtype)


# --- 16-bit floats ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", HALVES)
def test_gradient_of_the_largest_half(dtype):
    def f(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.reduce_max(tj.square(x) * 3.0)
        return tape.gradient(y, x)

    x = tj.constant([0.1, 0.7, -0.3], dtype)
    assert np.asarray(f(x))[1] != 0
    agree(f, x)


@pytest.mark.parametrize("dtype", HALVES)
def test_halves_equal_their_own_maximum(dtype):
    def f(x):
        v = x * 3.0 + x * x
        return v == tj.reduce_max(v), v == tj.reduce_max(v, axis=1, keepdims=True)

    agree(f, half_values(dtype, (5, 37)))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: ((x * 3.0) // y, (x * 3.0) % y, (x / y) * y == x),
        lambda x, y: ((x + y) - y, (x * y) / y, tj.sqrt(x) * tj.sqrt(x), tj.square(x) - x * x),
        lambda x, y: (tj.floor(x * 37.0) / y, tj.minimum(x * y, x + y) - x, -(x / y) + x / y),
        lambda x, y: tj.cast(x * y, tj.float32) - tj.cast(x, tj.float32) * tj.cast(y, tj.float32),
    ],
)
def test_halves_are_rounded_after_each_operation(dtype, f):
    agree(f, half_values(dtype, (3, 41)), half_values(dtype, (3, 41), 1))


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_of_halves_are_rounded_before_they_are_used(dtype):
    def f(x):
        s = tj.reduce_sum(x, axis=1, keepdims=True)
        return s * 3.0, s * 3.0 - x

    large = 2048.0 if dtype is tj.float16 else 256.0  # the sum, 3 more, is exact in float32 alone
    x = tj.constant(np.tile([large, 1.0, 1.0, 1.0], (3, 1)), dtype)
    whole = np.full((3, 1), large + 4).astype(dtype.np) * dtype.np.type(3)
    for way, (total, rest) in Lowered(f).results(x):
        if way != "the interpreter":  # which adds in another order
            np.testing.assert_array_equal(total, whole, err_msg=way)
            np.testing.assert_array_equal(rest, whole - np.asarray(x), err_msg=way)


@pytest.mark.parametrize("dtype", HALVES)
def test_products_of_halves_are_rounded_before_the_epilogue(dtype):
    def f(a, b, c):
        return (a @ b) * 3.0 - c

    a, b = half_values(dtype, (24, 16)), half_values(dtype, (16, 32), 1)
    product = np.asarray(tj.function(lambda a, b: a @ b)(a, b))
    c = tj.constant(product) * 3.0
    for way, (got,) in Lowered(f).results(a, b, c):
        if way != "the interpreter":  # which adds in another order
            assert np.all(got == 0), way


# --- empty arrays -----------------------------------------------------------------------------------------------------
EMPTY = [(0, 3), (3, 0), (0, 0), (0,), (2, 0, 3), (0, 1, 3), (2, 3, 0), (0, 2, 3)]


@pytest.mark.parametrize("shape", EMPTY)
def test_empty_arrays_and_their_transposes(shape):
    def f(x):
        v = tj.exp(x) * 3.0
        return tj.transpose(tj.exp(x)), v + v, v, tj.transpose(v) * 2.0, tj.nn.softmax(x)

    agree(f, tj.ones(shape))


@pytest.mark.parametrize("shape", EMPTY)
@pytest.mark.parametrize("reduction", [tj.reduce_sum, tj.reduce_prod, tj.reduce_max, tj.reduce_min])
def test_reductions_of_empty_arrays_beside_transposes(shape, reduction):
    def along(axis):
        def f(x):
            v = tj.exp(x) * 2.0
            return reduction(v, axis=axis), v + 1.0, tj.transpose(v), tj.transpose(v) * 2.0

        return f

    for axis, size in enumerate(shape):
        if size or reduction in (tj.reduce_sum, tj.reduce_prod):
            agree(along(axis), tj.ones(shape))


@pytest.mark.parametrize("shape", [s for s in EMPTY if len(s) == 2])
def test_products_and_running_sums_of_empty_arrays(shape):
    def f(x):
        t = tj.transpose(x)
        return t @ x * 2.0, tj.nn.relu(x @ t + 1.0), tj.cumsum(t + 1.0, axis=0), tj.cumsum(x, axis=1)

    agree(f, tj.ones(shape))


# --- many operations --------------------------------------------------------------------------------------------------
LONG = {
    "sin": lambda v, i: tj.sin(v) + 0.1 * i,
    "pow": lambda v, i: tj.abs(v) ** 1.3 + 0.1,
    "mod": lambda v, i: v % (1.5 + i) + 0.3,
    "floordiv": lambda v, i: v // 0.37 * 0.2 + v,
    "erfinv": lambda v, i: tj.math.erfinv(v * 0.5),
}


def chain(op, n):
    def f(x):
        for i in range(n):
            x = op(x, i)
        return x

    return f


def instructions(f, *args):
    """The lines of the LLVM IR for a function's kernels."""
    units = tj.function(f).get_concrete_function(*args).executable.program.units
    kernels = [u.instance.kernel for u in units if getattr(u, "instance", None) is not None]
    return compiler.llvm([compiler.of_kernel(k) for k in kernels]).count("\n")


@pytest.mark.parametrize("name", LONG)
def test_code_of_long_operations_is_shared_where_there_are_many(name):
    x = tj.constant(np.linspace(-0.9, 0.9, 21, dtype=np.float32))
    few, many = (instructions(chain(LONG[name], n), x) for n in (100, 200))
    assert many - few <= 100 * 3 * INLINE


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("dtype", [tj.float32, tj.float64, tj.float16, tj.bfloat16])
def test_called_operations_give_the_bits_of_those_in_place(name, dtype):
    """A crowded kernel against kernels of one operation."""
    x = tj.cast(tj.constant(np.linspace(-0.9, 0.9, 37)), dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        want = x
        for i in range(30):
            want = tj.function(LONG[name], reduce_retracing=False)(want, tj.constant(float(i), dtype))
        together = tj.function(lambda x, *n: chain(lambda v, i: LONG[name](v, n[i]), 30)(x))
        got = together(x, *[tj.constant(float(i), dtype) for i in range(30)])
    np.testing.assert_array_equal(np.asarray(got), np.asarray(want))


@pytest.mark.parametrize("dtype", [tj.int32, tj.uint8, tj.int64])
def test_integer_operations_in_a_crowded_kernel(dtype):
    x = tj.cast(tj.constant(np.arange(1, 40)), dtype)
    y = tj.cast(tj.constant(np.arange(40, 1, -1) % 7), dtype)

    def f(x, y):
        for i, k in itertools.product(range(10), range(1, 4)):
            x = (x // y + x % (y + k)) ** 2 + x // k + i
        return x

    agree(f, x, y)


def test_rows_in_a_crowded_kernel():
    def f(x):
        for _ in range(30):
            x = tj.tanh(x) + 0.5 * tj.sin(x)
        return x / tj.reduce_sum(x, axis=1, keepdims=True)

    x = tj.constant(np.random.default_rng(0).normal(size=(5, 37)).astype(np.float32))
    np.testing.assert_allclose(np.asarray(tj.function(f)(x)), np.asarray(f(x)), rtol=2e-5)
