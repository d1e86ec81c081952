"""Faults once found in fusion: products of integers with a loop behind them, sums over axes of one element."""

import numpy as np
import pytest

import tracejit as tj


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
def test_products_of_integers_with_elementwise_work_behind_them(dtype):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 9, (17, 33)).astype(dtype)
    b = rng.integers(0, 9, (33, 21)).astype(dtype)
    want = a @ b
    f = tj.function(lambda a, b: (-(a @ b), (a @ b) + 1, (a @ b) >= 3, tj.cast(a @ b, tj.float32) / 2.0))
    neg, plus, least, half = f(a, b)
    np.testing.assert_array_equal(neg, -want)
    np.testing.assert_array_equal(plus, want + np.array(1, dtype))
    np.testing.assert_array_equal(least, want >= 3)
    np.testing.assert_allclose(half, want / 2.0)


@pytest.mark.parametrize("numerics", ["exact", "finite", "fast"])
def test_reductions_over_axes_of_one_element(numerics):
    def f(x):
        y = x * 2.0
        return tj.reduce_sum(x, axis=1), tj.reduce_sum(y, axis=1), tj.reduce_mean(y, axis=1), tj.reduce_prod(y, axis=1)

    x = tj.constant([[1.0], [2.0], [-0.0]])
    for got, want in zip(tj.function(f, numerics=numerics)(x), f(x), strict=True):
        np.testing.assert_array_equal(got, want)
        if numerics == "exact":
            np.testing.assert_array_equal(np.signbit(got), np.signbit(want))
