"""Sums and writes at positions in native code: for every type and shape, in order, whatever the number of threads."""

import ml_dtypes
import numpy as np
import pytest

import tracejit as tj
from tracejit.backends import numba_source
from tracejit.ir.op import OPS
from tracejit.lower.program import HostUnit
from tracejit.ops import index as I

RNG = np.random.default_rng(2)
TYPES = [np.int8, np.uint16, np.int32, np.uint64, np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
SHAPES = [((9,), 0, (40,)), ((5, 7), 0, (3, 2)), ((5, 33), 1, (40,)), ((2, 6, 70), 1, (30,)), ((4, 3), 1, (0,)),
          ((0, 3), 1, (2,)), ((3, 0), 0, (4,)), ((3, 1, 2), 1, (5, 1)), ((6, 4), 0, ()),
          ((400, 65), 0, (2000,))]  # fmt: skip
LAYOUTS = {"plain": (lambda x: x, lambda x: x), "transposed": (np.transpose, tj.transpose)}


def units(f):
    return f.concrete_functions[-1].executable.program.units


def native(f):
    return not any(type(u) is HostUnit for u in units(f))


def values(shape, dtype):
    return RNG.integers(0, 5, shape).astype(dtype)


def positions(shape, n, dtype):
    return RNG.integers(0 if np.dtype(dtype).kind == "u" else -n, n, shape).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("index", [np.int32, np.int64, np.uint8], ids=lambda d: d.__name__)
@pytest.mark.parametrize("dtype", TYPES, ids=lambda d: np.dtype(d).name)
def test_sums(dtype, index, layout):
    before, view = LAYOUTS[layout]
    for shape, axis, at in SHAPES if index is np.int64 else SHAPES[:4]:
        i = positions(at, shape[axis], index)
        g = values(shape[:axis] + at + shape[axis + 1 :], dtype)
        f = tj.function(lambda g, i, axis=axis, n=shape[axis]: I.scatter_sum(view(g), i, size=n, axis=axis))
        got = np.asarray(f(np.ascontiguousarray(before(g)), i))
        np.testing.assert_array_equal(got, I._scatter(g, i, size=shape[axis], axis=axis), strict=True)
        assert native(f)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.bool_, *TYPES], ids=lambda d: np.dtype(d).name)
def test_the_last_of_equal_positions_is_kept(dtype, layout):
    before, view = LAYOUTS[layout]
    for shape, axis, at in SHAPES:
        x, i = values(shape, dtype), positions(at, shape[axis], np.int64)
        g = values(shape[:axis] + at + shape[axis + 1 :], dtype)
        f = tj.function(lambda x, i, g, axis=axis: I.put(x, i, view(g), axis=axis))
        got = np.asarray(f(x, i, np.ascontiguousarray(before(g))))
        np.testing.assert_array_equal(got, I._put(x, i, g, axis=axis), strict=True)
        assert native(f)


@pytest.mark.parametrize("name", I.COMBINED)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TYPES, ids=lambda d: np.dtype(d).name)
def test_combined_with_what_is_there(dtype, layout, name):
    op = OPS[name]
    before, view = LAYOUTS[layout]
    for shape, axis, at in SHAPES:
        x, i = values(shape, dtype), positions(at, shape[axis], np.int64)
        g = values(shape[:axis] + at + shape[axis + 1 :], dtype)
        f = tj.function(lambda x, i, g, axis=axis: op(x, i, view(g), axis=axis))
        got = np.asarray(f(x, i, np.ascontiguousarray(before(g))))
        with np.errstate(all="ignore"):
            want = op.numpy(x, i, g, axis=axis)
        np.testing.assert_array_equal(got, want, strict=True)
        assert native(f)


def test_counting_reads_one_element_for_all():
    i = positions(200_000, 100, np.int64)
    f = tj.function(lambda i: tj.math.unsorted_segment_sum(tj.ones(i.shape, tj.int32), i % 100, 100))
    for n in (200_000, 1000, 3):
        np.testing.assert_array_equal(f(i[:n]), np.bincount(i[:n] % 100, minlength=100))
    assert native(f)


@pytest.mark.parametrize("bins", [10, 1000, 150_000])
@pytest.mark.parametrize("width", [(), (3,), (64,), (200,)], ids=str)
def test_the_number_of_threads_changes_nothing(bins, width):
    count = 300_000 if not width else 3000
    g, i = RNG.normal(size=(count, *width)).astype(np.float32), positions(count, bins, np.int64)
    if width and bins > 1000:
        bins, i = 1000, i % 1000
    had, found = tj.get_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            tj.set_threads(threads)
            found.append(np.asarray(tj.function(lambda g, i: I.scatter_sum(g, i, size=bins, axis=0))(g, i)))
    finally:
        tj.set_threads(had)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    want = I._scatter(g.astype(np.float64), i, size=bins, axis=0)
    np.testing.assert_allclose(found[0], want, rtol=1e-4, atol=1e-2)


def test_rows_are_summed_in_order():
    g = np.array([[1e8], [1.0], [-1e8]], np.float32) * np.ones(5, np.float32)
    f = tj.function(lambda g, i: I.scatter_sum(g, i, size=2, axis=0))
    np.testing.assert_array_equal(f(g, np.zeros(3, np.int32))[0], np.zeros(5))
    np.testing.assert_array_equal(f(g[[0, 2, 1]], np.zeros(3, np.int32))[0], np.ones(5))


def test_positions_outside_never_reach_memory():
    """The kernel alone, without the check in front: what lies outside is passed over."""
    i = np.array([0, 3, -4, 2**62, -(2**63), 2])
    for g in (np.ones(6, np.float32), np.ones((6, 40), np.float32)):
        got = np.asarray(tj.function(lambda g, i: I.scatter_sum(g, i, size=3, axis=0))(g, i))
        np.testing.assert_array_equal(got.reshape(3, -1)[:, 0], [1, 0, 1])


def test_the_gradient_of_an_embedding():
    table, i = RNG.normal(size=(30, 20)), positions((4, 6), 30, np.int64)

    def f(table, i):
        with tj.GradientTape() as tape:
            tape.watch(table)
            y = tj.reduce_sum(tj.gather(table, i) ** 3)
        return tape.gradient(y, table)

    g = tj.function(f)
    np.testing.assert_allclose(g(table, i), f(tj.constant(table), tj.constant(i)))
    want = np.zeros_like(table)
    np.add.at(want, i, 3 * table[i] ** 2)
    np.testing.assert_allclose(g(table, i), want)
    assert native(g)


def test_gradients_of_sums_at_positions():
    g, i, w = RNG.normal(size=(7, 5)), positions(7, 4, np.int64) % 4, RNG.normal(size=(4, 5))

    def f(g, i, w):
        with tj.GradientTape() as tape:
            tape.watch(g)
            y = tj.reduce_sum(tj.math.unsorted_segment_sum(g, i, 4) * w)
        return tape.gradient(y, g)

    np.testing.assert_allclose(tj.function(f)(g, i, w), w[i])


def test_numba_source_does_the_same():
    x, i, g = RNG.normal(size=(2, 9, 4)), positions(7, 9, np.int64), RNG.normal(size=(2, 7, 4))
    f = tj.function(
        lambda x, i, g: (I.put(x, i, g, axis=1) * 2.0, I.scatter_sum(g, i, size=9, axis=1) + x, tj.cumsum(x, 1),
                         I.scatter_sum(tj.ones((7,)), i, size=9, axis=0))
    )  # fmt: skip
    main = numba_source.load(f.source(x, i, g), compiled=False)["main"]
    for a, b in zip(main(x, i, g), f(x, i, g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_variable_is_put_into_in_place():
    v = tj.Variable(np.zeros((50, 8)))

    def f(i, x):
        v.assign(I.put(v.value() if hasattr(v, "value") else v, i, x, axis=0))

    g = tj.function(f)
    i = RNG.permutation(50)[:5]
    g(i, RNG.normal(size=(5, 8)))
    x = RNG.normal(size=(5, 8))
    g(i, x)
    np.testing.assert_array_equal(v.numpy()[i], x)
    assert np.count_nonzero(v.numpy()) == x.size
    assert not g.concrete_functions[0].executable.program.copied


def test_a_variable_that_is_read_by_the_values_is_copied():
    v = tj.Variable(np.arange(12.0).reshape(6, 2))
    start, i = v.numpy().copy(), np.array([5, 4, 3])
    tj.function(lambda i: v.assign(I.put(v, i, tj.gather(v, i[::-1]) + 1.0, axis=0)))(i)
    start[i] = start[i[::-1]] + 1
    np.testing.assert_array_equal(v.numpy(), start)
