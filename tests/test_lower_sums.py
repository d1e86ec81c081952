"""Reductions in native code against NumPy in float64: every axis, sizes around blocks of rows, halves, threads."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tracejit as tj

RNG = np.random.default_rng(8)
# how far a sum may be from the exact one, in units of the root of the sum of squares; halves are rounded at the end
CLOSE = {np.float64: 1e-14, np.float32: 1e-5, np.float16: 2e-3, ml_dtypes.bfloat16: 1.6e-2}
SHAPES = [(3, 5), (4, 1), (15, 40), (16, 3, 5), (67, 300), (1000, 37), (33, 4, 130), (5000, 2), (300, 7, 16)]


def axes_of(shape):
    return [None, *range(len(shape)), *([(0, 1)] if len(shape) > 2 else [])]


def check(got, x, axis, dtype):
    exact = x.astype(np.float64)
    size = np.sqrt(np.square(exact).sum(axis))
    assert got.dtype == x.dtype
    assert np.all(np.abs(got.numpy().astype(np.float64) - exact.sum(axis)) <= CLOSE[dtype] * (1 + size))


@pytest.mark.parametrize("dtype", CLOSE, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_of_floats(shape, dtype):
    x = RNG.normal(size=shape).astype(dtype)
    for axis in axes_of(shape):
        check(tj.function(lambda x, axis=axis: tj.reduce_sum(x, axis))(x), x, axis, dtype)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64], ids=lambda d: np.dtype(d).name)
def test_sums_and_extremes_of_integers(dtype):
    limits = np.iinfo(dtype)
    for shape in SHAPES:
        x = RNG.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
        for axis in axes_of(shape):
            f = tj.function(lambda x, axis=axis: (
                tj.reduce_sum(x, axis), tj.reduce_max(x, axis), tj.reduce_min(x, axis), tj.reduce_any(x > 3, axis)
            ))  # fmt: skip
            got = [t.numpy() for t in f(x)]
            want = x.sum(axis, dtype=dtype), x.max(axis), x.min(axis), (x > 3).any(axis)
            for g, w in zip(got, want, strict=True):
                np.testing.assert_array_equal(g, w)


@given(st.integers(1, 90), st.integers(1, 40), st.integers(1, 5))
@settings(max_examples=12, deadline=None)
def test_any_sizes(rows, columns, depth):
    x = RNG.normal(size=(rows, columns, depth)).astype(np.float32)
    for axis in axes_of(x.shape):
        check(tj.function(lambda x, axis=axis: tj.reduce_sum(x, axis))(x), x, axis, np.float32)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name)
def test_sums_of_many_halves_keep_their_digits(dtype):
    """A half cannot count: beyond some hundreds, adding 0.1 would change nothing."""
    one = dtype(0.1)
    for shape, axis in [((6000, 20), 0), ((20, 6000), 1), ((6000, 20), None), ((40, 150, 20), (0, 1)), ((90, 20), 0)]:
        x = np.full(shape, one)
        got = tj.function(lambda x, axis=axis: tj.reduce_sum(x, axis))(x).numpy()
        exact = x.astype(np.float64).sum(axis)
        np.testing.assert_array_equal(got, exact.astype(dtype) if np.ndim(got) else dtype(exact))


def test_columns_beside_other_work_of_the_same_loop():
    x, y = (RNG.normal(size=(203, 65)).astype(np.float32) for _ in range(2))

    @tj.function
    def f(x, y):
        z = x * y + 1.0
        return tj.reduce_sum(z, 0), tj.reduce_max(x - y, 0), z, tj.reduce_sum(tj.exp(x) * y, 0), tj.reduce_sum(x, 1)

    z = x.astype(np.float64) * y + 1.0
    want = z.sum(0), (x - y).max(0), z, (np.exp(x.astype(np.float64)) * y).sum(0), x.sum(1)
    for g, w in zip(f(x, y), want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("axis", [0, 1, None])
def test_the_number_of_threads_changes_no_bit(axis):
    x = RNG.normal(size=(777, 600)).astype(np.float32)
    had = tj.get_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            tj.set_threads(threads)
            results.append(tj.function(lambda x: tj.reduce_sum(tj.square(x) * 0.1, axis))(x).numpy())
    finally:
        tj.set_threads(had)
    assert all(np.array_equal(results[0], r) for r in results)
