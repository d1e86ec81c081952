"""Running sums and products in native code: along every axis, in both directions, lines in pieces."""

import ml_dtypes
import numpy as np
import pytest

import tracejit as tj
from tracejit.lower.program import HostUnit
from tracejit.ops import reduce as R

RNG = np.random.default_rng(3)
TYPES = [np.int8, np.int64, np.uint32, np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
SHAPES = [((5,), 0), ((3, 50), 1), ((3, 33), 0), ((2, 7, 150), 1), ((4, 0), 1), ((0, 4), 1), ((0, 4), 0),
          ((20, 3, 1), 1), ((1, 1), 0), ((17, 16), 1)]  # fmt: skip


def native(f):
    (concrete,) = f.concrete_functions
    return not any(type(u) is HostUnit for u in concrete.executable.program.units)


def wide(x):
    return x if x.dtype.kind in "iu" else x.astype(np.float64)


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
@pytest.mark.parametrize("dtype", TYPES, ids=lambda d: np.dtype(d).name)
def test_every_type_and_shape(dtype, name, exclusive, reverse):
    op = getattr(R, name)
    for k, (shape, axis) in enumerate(SHAPES):
        x = RNG.integers(0, 4, shape).astype(dtype)
        if name == "cumprod" and x.dtype.kind not in "iu":
            x = np.where(x > 1, 0.5, 2).astype(dtype)
        how = {"axis": axis, "exclusive": exclusive, "reverse": reverse}
        turned = k % 2 == 1
        f = tj.function(lambda x, how=how, turned=turned, op=op: op(tj.transpose(x) if turned else x, **how))
        got = np.asarray(f(np.ascontiguousarray(x.T) if turned else x))
        assert got.dtype == x.dtype
        want = op.numpy(wide(x), **how)
        rough = {"rtol": 4e-3 if x.dtype == np.float16 else 2e-2 if x.dtype == ml_dtypes.bfloat16 else 1e-6}
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(wide(got), want.astype(x.dtype).astype(want.dtype), **rough)
        assert native(f)


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("shape", [(40_000,), (2, 33_001), (32_768,), (100_003,)], ids=str)
def test_long_lines(shape, exclusive, reverse):
    x = RNG.integers(-50, 50, shape)
    how = {"axis": len(shape) - 1, "exclusive": exclusive, "reverse": reverse}
    f = tj.function(lambda x: R.cumsum(x, **how))
    np.testing.assert_array_equal(f(x), R.cumsum.numpy(x, **how))
    got = np.asarray(f(x.astype(np.float32)))
    np.testing.assert_array_equal(got, R.cumsum.numpy(x, **how))


def test_long_lines_of_symbolic_size_and_every_other_element():
    f = tj.function(lambda x: tj.cumsum(x[::2]))
    for n in (10, 70_000, 33, 140_001):
        x = RNG.integers(-50, 50, n)
        np.testing.assert_array_equal(f(x), np.cumsum(x[::2]))


def test_the_number_of_threads_changes_nothing():
    x = RNG.normal(size=200_000).astype(np.float32)
    had, found = tj.get_threads(), []
    try:
        for threads in (1, 2, 5):
            tj.set_threads(threads)
            found.append(np.asarray(tj.function(lambda x: tj.cumsum(x))(x)))
    finally:
        tj.set_threads(had)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("shape", [(300_000,), (3000, 40)], ids=str)
def test_errors_do_not_grow_faster_than_numpy(shape):
    x = RNG.uniform(size=shape).astype(np.float32)
    exact = np.cumsum(x.astype(np.float64), 0)

    def worst(y):
        return np.max(np.abs(np.asarray(y, np.float64) - exact) / exact)

    assert worst(tj.function(lambda x: tj.cumsum(x))(x)) <= worst(np.cumsum(x, 0)) * 1.5 + 1e-7


def test_what_is_infinite_or_nan_spreads_forwards_only():
    x = np.ones(40_000, np.float32)
    x[20_000], x[30_000] = np.inf, np.nan
    got = np.asarray(tj.function(lambda x: tj.cumsum(x))(x))
    np.testing.assert_array_equal(got, np.cumsum(x))


def test_gradients():
    x = RNG.uniform(0.5, 1.5, size=(6, 9))
    x[2, 3] = x[4, 3] = x[1, 1] = 0.0

    def f(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.reduce_sum(tj.cumsum(x, 0, exclusive=True) * tj.math.cumprod(x, 1, reverse=True))
        return tape.gradient(y, x)

    np.testing.assert_allclose(tj.function(f)(x), f(tj.constant(x)), rtol=1e-9)
