"""Sums of float32: their errors grow no faster than pairwise summation's, and no number of threads changes them."""

import math

import numpy as np
import pytest

import tracejit as tj

EPS = 2.0**-24
# Terms of one sign, whose sums lose digits when they are added one after another: rounding goes one way for equal
# numbers, small ones vanish beside a large sum, and errors add up at random.
TERMS = {
    "equal": lambda n: np.full(n, 0.1, np.float32),
    "falling": lambda n: (1 / np.arange(1, n + 1)).astype(np.float32),
    "one large": lambda n: np.where(np.arange(n) == 0, 1e4, 1e-3).astype(np.float32),
    "random": lambda n: np.random.default_rng(n).uniform(0, 1, n).astype(np.float32),
}
SIZES = (1000, 10_001, 100_000, 1_000_003)


def bound(n):
    """In units of 2⁻²⁴ what pairwise summation of NumPy's kind may be off by: 16 terms in each of 8 places are added
    one after another, then 8 results, then everything as a balanced tree."""
    return 16 + 3 + math.log2(max(n, 128) / 128)


def error(found, exact, size=None):
    """Relative to the sum of the terms' sizes, in units of 2⁻²⁴."""
    size = np.abs(exact) if size is None else size
    return float(np.max(np.abs(np.asarray(found, np.float64) - exact) / size)) / EPS


def exact(a, axis):
    return np.sum(a.astype(np.longdouble), axis=axis).astype(np.float64)


FUSED = {
    "sum": (lambda x: tj.reduce_sum(x), lambda s, n: s),
    "mean": (lambda x: tj.reduce_mean(x), lambda s, n: s / n),
    "dot": (lambda x: tj.tensordot(x, tj.ones_like(x), 1), lambda s, n: s),
    "fused": (lambda x: tj.reduce_sum(tj.sqrt(x * x)), lambda s, n: s),
    "several": (lambda x: tj.reduce_sum(x) + 0.0 * tj.reduce_max(x) + tj.reduce_sum(x * 0.5), lambda s, n: 1.5 * s),
}


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("name", FUSED)
def test_sums_of_all_elements(name, terms):
    f, of_sum = FUSED[name]
    traced = tj.function(f)
    for n in SIZES:
        a = TERMS[terms](n)
        want = of_sum(exact(a, None), n)
        assert error(traced(tj.constant(a)), want) <= bound(n), n
        if name != "dot":  # eager products are the BLAS's
            assert error(f(tj.constant(a)), want) <= bound(n), n


SHAPES = [
    ((1000, 1000), 0), ((1000, 1000), 1), ((4, 250_000), 1), ((37, 20_000), 1), ((20, 5000, 30), (0, 2)),
    ((100, 100, 100), (0, 1)), ((3, 4, 50_000), (0, 2)), ((5000, 3, 40), 0), ((300_000, 3), 1),
]  # fmt: skip


@pytest.mark.parametrize("terms", ["equal", "random"])
@pytest.mark.parametrize("shape, axis", SHAPES)
def test_sums_along_axes(shape, axis, terms):
    a = TERMS[terms](math.prod(shape)).reshape(shape)
    n = math.prod(np.take(shape, axis).tolist() if isinstance(axis, tuple) else [shape[axis]])
    want = exact(a, axis)
    for f in (lambda x: tj.reduce_sum(x, axis), lambda x: tj.reduce_sum(tj.sqrt(x * x), axis)):
        assert error(tj.function(f)(tj.constant(a)), want) <= bound(n)


def test_sums_of_transposed_and_sliced_arrays():
    a = TERMS["equal"](400 * 601).reshape(400, 601)
    for f in (
        lambda x: tj.reduce_sum(tj.transpose(x)),
        lambda x: tj.reduce_sum(tj.transpose(x), 0),
        lambda x: tj.reduce_sum(x[:, ::2]),
        lambda x: tj.reduce_sum(x[1:, 1:]),
    ):
        exactly = np.asarray(f(tj.constant(a, tj.float64)))
        assert error(tj.function(f)(tj.constant(a)), exactly) <= bound(a.size)


def test_sums_down_long_columns_are_better_than_one_after_another():
    a = TERMS["equal"](1_000_000).reshape(250_000, 4)
    plain = error(np.sum(a, axis=0), exact(a, 0))
    assert error(tj.function(lambda x: tj.reduce_sum(x, 0))(tj.constant(a)), exact(a, 0)) < plain / 10


@pytest.mark.parametrize("terms", ["equal", "falling", "random"])
def test_running_sums(terms):
    a = TERMS[terms](300_000)
    want = np.cumsum(a.astype(np.longdouble)).astype(np.float64)
    found = error(tj.function(tj.cumsum)(tj.constant(a)), want)
    assert found <= error(np.cumsum(a), want)


@pytest.mark.parametrize("terms", ["falling", "random"])
def test_variances(terms):
    for n in SIZES:
        a = TERMS[terms](n)
        want = float(np.var(a.astype(np.float64)))
        for f in (tj.math.reduce_variance, tj.function(tj.math.reduce_variance)):
            # what the mean is off by counts with its square
            assert error(f(tj.constant(a)), want) <= 2 * bound(n)


def test_gradients_of_what_is_broadcast():
    x = TERMS["equal"](500_000)

    @tj.function
    def slope(w, x):
        with tj.GradientTape() as tape:
            tape.watch(w)
            loss = tj.reduce_sum(w * x)
        return tape.gradient(loss, w)

    assert error(slope(tj.constant(2.0), tj.constant(x)), exact(x, None)) <= bound(x.size)


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 63, 65, 2047, 2048, 2049, 4096, 4097, 6144, 100_000, 131_072, 131_073])
def test_every_term_counts_once(n):
    """Blocks, their tree and what is left over, at sizes around those of blocks."""
    f = tj.function(lambda x: (tj.reduce_sum(x), tj.reduce_sum(x, keepdims=True), tj.reduce_max(x, 0) if n else x))
    a = np.random.default_rng(n).integers(-8, 9, n).astype(np.float32)
    assert float(f(tj.constant(a))[0]) == float(np.sum(a.astype(np.int64)))
    rows = np.tile(a, (3, 1))
    assert tj.function(lambda x: tj.reduce_sum(x, 1))(tj.constant(rows)).numpy().tolist() == [float(a.sum())] * 3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "complex64"])
def test_other_types(dtype):
    rng = np.random.default_rng(3)
    a = tj.cast(rng.integers(-4, 5, 70_001).astype(np.float64), dtype)
    want = np.sum(np.asarray(a).astype(np.complex128))
    assert complex(tj.function(tj.reduce_sum)(a)) == want


def test_no_number_of_threads_changes_a_bit():
    rng = np.random.default_rng(0)
    xs = [tj.constant(rng.standard_normal(s).astype(np.float32)) for s in ((1_000_003,), (1001, 701), (40, 30, 500))]
    functions = [
        tj.function(f)
        for f in (
            lambda x: tj.reduce_sum(x),
            lambda x: tj.reduce_sum(x, 0),
            lambda x: tj.reduce_mean(tj.exp(x), -1),
            lambda x: tj.math.reduce_variance(x),
            lambda x: tj.reduce_sum(x, tuple(range(len(x.shape)))[::2]),
            lambda x: tj.cumsum(x),
            lambda x: tj.nn.softmax(x),
        )
    ]
    results = []
    for count in (1, 2, 3, 7):
        with tj.threads(count):
            results.append([f(x).numpy() for f in functions for x in xs])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("shape", "segments", "axes"), [((300_000,), 1, 1), ((100_000, 3), 2, 1), ((400, 500), 3, 2)])
def test_sums_of_large_segments_are_rounded_once(shape, segments, axes, dtype):
    rng = np.random.default_rng(3)
    x = (rng.random(shape) * (1 if dtype == "float32" else 1e-2)).astype(dtype)
    ids = rng.integers(0, segments, shape[:axes])
    want = np.zeros((segments, *shape[axes:]))
    np.add.at(want, ids, x.astype(np.float64))
    ways = [lambda a, i: tj.math.unsorted_segment_sum(a, i, segments)]
    ways.append(tj.function(ways[0]))
    specs = [tj.TensorSpec([None] * len(shape), dtype), tj.TensorSpec([None] * axes, tj.int64)]
    ways.append(tj.function(ways[0], input_signature=specs))
    for f in ways:
        got = f(tj.constant(x), tj.constant(ids)).numpy()
        assert got.dtype == x.dtype
        np.testing.assert_array_equal(got, want.astype(dtype))
