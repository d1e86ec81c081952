"""Sorted values and the largest elements in native code: every type, both directions, long lines in pieces."""

import ctypes

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lower_sort import SHAPES, TYPES, native, values

import tracejit as tj
from tracejit.lower import engine, quicksort, routineunits
from tracejit.lower.llvm import i64
from tracejit.ops import reduce as R

RNG = np.random.default_rng(14)
HALVES = (np.float16, ml_dtypes.bfloat16)


def known(x):
    """What NumPy can put in order."""
    return x.astype(np.float32) if x.dtype in HALVES else x


@pytest.mark.parametrize("few", [False, True], ids=["different", "many equal"])
@pytest.mark.parametrize("direction", ["ASCENDING", "DESCENDING"])
@pytest.mark.parametrize("dtype", TYPES, ids=lambda d: np.dtype(d).name)
def test_values_of_every_type_and_shape(dtype, direction, few):
    for k, (shape, axis) in enumerate(SHAPES):
        x, turned = values(shape, dtype, few), k % 2 == 1
        f = tj.function(lambda x, turned=turned, axis=axis: tj.sort(tj.transpose(x) if turned else x, axis, direction))
        got = f(np.ascontiguousarray(x.T) if turned else x).numpy()
        want = np.sort(known(x), axis)
        want = want if direction == "ASCENDING" else np.flip(want, axis)
        assert got.dtype == x.dtype and native(f)
        np.testing.assert_array_equal(known(got), want)
        np.testing.assert_array_equal(known(tj.sort(tj.constant(x), axis, direction).numpy()), want)


@pytest.mark.parametrize("dtype", TYPES, ids=lambda d: np.dtype(d).name)
def test_the_largest_of_every_type(dtype):
    for k, shape in enumerate([(5,), (0,), (3, 41), (2, 300), (4, 3, 70), (3000,), (0, 4)]):
        x, turned, n = values(shape, dtype, k % 2 == 0), k % 3 == 1, shape[-1]
        order = R.argsort.numpy(known(x), axis=x.ndim - 1, descending=True)
        for m in {n // 3, n} if k % 2 else {min(1, n)}:
            f = tj.function(lambda x, m=m, turned=turned: tj.math.top_k(tj.transpose(x) if turned else x, m))
            for got in (f(np.ascontiguousarray(x.T) if turned else x), tj.math.top_k(tj.constant(x), m)):
                np.testing.assert_array_equal(got[1], order[..., :m].astype(np.int32), strict=True)
                np.testing.assert_array_equal(known(got[0].numpy()), np.take_along_axis(known(x), order[..., :m], -1))
            assert native(f)


@pytest.mark.parametrize("x", [np.arange(5000.0), -np.arange(5000.0), np.ones(5000), np.full(900, -np.inf)],
                         ids=["rising", "falling", "equal", "least"])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_of_special_lines(x, dtype):
    x = x.astype(dtype)
    for k in (1, 10, 700):
        want = np.argsort(-x, kind="stable")[:k]
        np.testing.assert_array_equal(tj.function(lambda x, k=k: tj.math.top_k(x, k))(x)[1], want)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.float16])
def test_a_long_line_in_pieces(dtype, threads, monkeypatch):
    monkeypatch.setattr(routineunits, "SORT_PIECE", 50)
    had = tj.get_threads()
    try:
        tj.set_threads(threads)
        for n in (99, 100, 101, 257, 999, 5000):
            x = values((n,), dtype, n % 2 == 0)
            f = tj.function(lambda x: (tj.sort(x), tj.sort(x[::-1], 0, "DESCENDING")))
            up, down = f(x)
            want = np.sort(known(x))
            np.testing.assert_array_equal(known(up.numpy()), want)
            np.testing.assert_array_equal(known(down.numpy()), want[::-1])
            assert native(f)
    finally:
        tj.set_threads(had)


def test_sizes_and_counts_may_change():
    f = tj.function(lambda x: tj.math.top_k(x, x.shape[0] // 2))
    for n in (4, 60, 1000, 31):
        x = RNG.integers(0, 40, n).astype(np.int16)
        np.testing.assert_array_equal(f(x)[1], np.argsort(-x, kind="stable")[: n // 2])


def test_derivatives_go_through_the_positions():
    x, w = RNG.normal(size=(5, 60)), RNG.normal(size=(5, 60))

    def gradient(x):
        with tj.GradientTape() as outer:
            outer.watch(x)
            with tj.GradientTape() as tape:
                tape.watch(x)
                y = tj.reduce_sum(tj.sort(x, -1, "DESCENDING") ** 2 * w) + tj.reduce_sum(tj.math.top_k(x, 3)[0])
            g = tape.gradient(y, x)
        return g, outer.gradient(g, x)

    order = np.argsort(-x, -1, kind="stable")
    first, second = np.zeros_like(x), np.zeros_like(x)
    np.put_along_axis(second, order, 2 * w, -1)
    top = np.zeros_like(x)
    np.put_along_axis(top, order[:, :3], 1.0, -1)
    first = second * x + top
    for f in (gradient, tj.function(gradient)):
        g, h = f(tj.constant(x))
        np.testing.assert_allclose(g, first, rtol=1e-12)
        np.testing.assert_allclose(h, second, rtol=1e-12)


def test_rows_of_a_batch():
    x = RNG.normal(size=(6, 9))
    v, i = tj.function(lambda x: tj.vectorized_map(lambda r: tj.math.top_k(r, 4), x))(x)
    np.testing.assert_array_equal(i, np.argsort(-x, -1)[:, :4])
    np.testing.assert_array_equal(v, -np.sort(-x, -1)[:, :4])
    np.testing.assert_array_equal(tj.vectorized_map(lambda r: tj.sort(r), tj.constant(x)), np.sort(x, -1))


# --- the function below it all ----------------------------------------------------------------------------------------
def library(bits):
    return engine.Library(engine.compile_ir(quicksort.library(bits)), [f"tj_sort_i{bits}"])


@pytest.fixture(scope="module", params=["usual", "no compression", "bad pivots"])
def sorters(request):
    """Functions for 32 and 64 bits: as on this machine, without its special instructions, and when pivots are bad."""
    with pytest.MonkeyPatch.context() as m:
        if request.param == "no compression":
            m.setattr(quicksort, "host", lambda: ("", ""))
        if request.param == "bad pivots":
            m.setattr(quicksort._Quicksort, "log2", lambda self, f, n: i64(-1))
        return {bits: library(bits) for bits in (32, 64)}


def ordered(lib, x):
    """`x` sorted by the native function, which must not touch what lies around it."""
    memory, spare = np.full(len(x) + 64, 7, x.dtype), np.empty(len(x) + 16, x.dtype)
    a = memory[32 : 32 + len(x)]
    a[:] = x
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(*lib.addresses.values())
    run(a.ctypes.data, spare.ctypes.data, len(x))
    assert (memory[:32] == 7).all() and (memory[32 + len(x) :] == 7).all()
    return a


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integers_in_memory(sorters, dtype):
    lib, limits = sorters[np.dtype(dtype).itemsize * 8], np.iinfo(dtype)
    for n in [*range(70), 127, 128, 129, 255, 256, 257, 511, 1000, 4099]:
        lines = [
            RNG.integers(limits.min, limits.max, n, dtype=dtype, endpoint=True), RNG.integers(0, 3, n).astype(dtype),
            np.full(n, limits.max, dtype), np.full(n, limits.min, dtype), np.arange(n, dtype=dtype),
            np.arange(n, dtype=dtype)[::-1], (np.arange(n) % 16).astype(dtype),
            np.where(RNG.random(n) < 0.1, RNG.integers(0, 9, n), limits.max).astype(dtype),
        ]  # fmt: skip
        for x in lines:
            np.testing.assert_array_equal(ordered(lib, x), np.sort(x))


@given(st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 2) | st.just(2**31 - 1), max_size=700))
@settings(max_examples=60, deadline=None)
def test_any_integers(sorters, xs):
    x = np.array(xs, np.int32)
    np.testing.assert_array_equal(ordered(sorters[32], x), np.sort(x))
