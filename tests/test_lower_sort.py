"""Orders of elements in native code: every type, in both directions, stable, NaN where NumPy has it."""

import ml_dtypes
import numpy as np
import pytest

import tracejit as tj
from tracejit.lower import sort
from tracejit.lower.program import HostUnit
from tracejit.ops import reduce as R

RNG = np.random.default_rng(4)
TYPES = [np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64,
         np.float16, ml_dtypes.bfloat16, np.float32, np.float64]  # fmt: skip
SHAPES = [((5,), 0), ((1,), 0), ((0,), 0), ((3, 41), 1), ((2, 40), 1), ((3, 300), 1), ((200, 3), 0), ((2, 30, 4), 1),
          ((4, 0, 2), 1), ((2000,), 0)]  # fmt: skip


def native(f):
    return not any(type(u) is HostUnit for u in f.concrete_functions[-1].executable.program.units)


def values(shape, dtype, few):
    d = np.dtype(dtype)
    if d.kind == "b" or (few and d.kind in "iu"):
        return RNG.integers(0, 2 if d.kind == "b" else 5, shape).astype(d)
    if d.kind in "iu":
        return RNG.integers(np.iinfo(d).min, np.iinfo(d).max, shape, dtype=d, endpoint=True)
    x = (RNG.integers(-3, 3, shape) if few else RNG.normal(size=shape)).astype(d)
    special = [np.nan, -np.inf, -0.0, 0.0, np.inf, -np.nan]
    for k, s in enumerate(special if x.size > 8 else ()):
        x.reshape(-1)[k :: 7 + k] = s
    return x


@pytest.mark.parametrize("few", [False, True], ids=["different", "many equal"])
@pytest.mark.parametrize("descending", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("dtype", TYPES, ids=lambda d: np.dtype(d).name)
def test_every_type_and_shape(dtype, descending, few):
    for k, (shape, axis) in enumerate(SHAPES):
        x, turned, how = values(shape, dtype, few), k % 2 == 1, {"axis": axis, "descending": descending}
        f = tj.function(lambda x, turned=turned, how=how: R.argsort(tj.transpose(x) if turned else x, **how))
        got = np.asarray(f(np.ascontiguousarray(x.T) if turned else x))
        known = x.astype(np.float32) if x.dtype == ml_dtypes.bfloat16 else x
        np.testing.assert_array_equal(got, R.argsort.numpy(known, **how), strict=True)
        assert native(f)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_positions_with_64_bits(dtype, monkeypatch):
    monkeypatch.setattr(sort, "LONG", 10)
    for n in (11, 500):
        x = values((2, n), dtype, True)
        np.testing.assert_array_equal(tj.function(lambda x: R.argsort(x, axis=1, descending=False))(x),
                                      np.argsort(x, 1, kind="stable"))  # fmt: skip


def test_sizes_may_change():
    f = tj.function(lambda x: tj.sort(x, axis=0))
    for n in (3, 100, 40, 41, 7):
        x = RNG.normal(size=(n, 4))
        np.testing.assert_array_equal(f(x), np.sort(x, 0))
    assert native(f)


def test_the_number_of_threads_changes_nothing():
    x = RNG.integers(0, 50, (100, 400))
    had = tj.get_threads()
    try:
        for threads in (1, 2, 7):
            tj.set_threads(threads)
            np.testing.assert_array_equal(tj.function(lambda x: tj.argsort(x))(x), np.argsort(x, kind="stable"))
    finally:
        tj.set_threads(had)


def test_gradients_of_sorted_values():
    x, w = RNG.normal(size=(5, 60)), RNG.normal(size=(5, 60))

    def f(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.reduce_sum(tj.sort(x, -1) * w)
        return tape.gradient(y, x)

    want = np.zeros_like(x)
    np.put_along_axis(want, np.argsort(x, -1), w, -1)
    np.testing.assert_array_equal(tj.function(f)(x), want)
