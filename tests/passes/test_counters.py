"""Loops over ranges count: the same results as over the rows of an array, and no array of numbers is made."""

import numpy as np
import pytest

import tracejit as tj

RNG = np.random.default_rng(5)
RANGES = [(0, 7, 1), (3, 20, 4), (9, -4, -1), (30, 2, -7), (5, 5, 1), (4, 9, 1), (-3, 6, 1)]
DTYPES = ["int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"]


def optimized(f, *args):
    return str(f.graph(*args, stage="optimized"))


def positions(start, stop, step, dtype):
    """Of each number of a range its place in a sum that no other order gives."""

    def f(x):
        s, last = 0.0, tj.constant(0, dtype)
        for i in tj.range(start, stop, step, dtype=dtype):
            s = s * 1.5 + x[i]
            last = i
        return s, last

    return f


@pytest.mark.parametrize("span, dtype", [(r, d) for r in RANGES for d in DTYPES if d[0] != "u" or min(r) >= 0], ids=str)
def test_all_kinds_of_ranges(span, dtype):
    x = RNG.normal(size=40)
    want, last = 0.0, 0
    for i in range(*span):
        want, last = want * 1.5 + x[i], i
    f = tj.function(positions(*span, dtype))
    got, end = f(x)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert (int(end), end.dtype.name) == (last, dtype)
    assert "iota" not in optimized(f, x)


@pytest.mark.parametrize("start", [0, 3])
def test_a_start_that_is_a_tensor(start):
    @tj.function
    def f(x, a):
        s = 0.0
        for i in tj.range(10) + a:
            s = s * 1.5 + x[i]
        return s

    x = RNG.normal(size=20)
    want = 0.0
    for i in range(start, start + 10):
        want = want * 1.5 + x[i]
    np.testing.assert_allclose(f(x, tj.constant(start)), want, rtol=1e-12)
    assert "iota" not in optimized(f, x, tj.constant(start))


def test_numbers_wrap_around_as_those_of_the_array_do():
    @tj.function
    def f(x):
        s = tj.constant(0, tj.int64)
        for i in (tj.range(10, dtype=tj.int8) + tj.constant(120, tj.int8)) * tj.constant(3, tj.int8):
            s = s * 7 + tj.cast(i, tj.int64)
        return s + x

    want = 0
    for i in (np.arange(10, dtype=np.int8) + np.int8(120)) * np.int8(3):
        want = want * 7 + int(i)
    assert int(f(tj.constant(0, tj.int64))) == want
    assert "iota" not in optimized(f, tj.constant(0, tj.int64))


@pytest.mark.parametrize("reverse", [False, True])
def test_scans_in_both_directions(reverse):
    @tj.function
    def f(x):
        return tj.scan(lambda s, i: s * 1.25 + x[i], tj.range(2, 30, 3), tj.constant(0.0, tj.float64), reverse=reverse)

    x = RNG.normal(size=30)
    with tj.debug():
        want = f(x)
    np.testing.assert_allclose(f(x), want, rtol=1e-12)
    assert "iota" not in optimized(f, x)


def test_open_sizes():
    @tj.function(input_signature=[tj.TensorSpec([None, None], tj.float64)])
    def f(x):
        y = tj.zeros_like(x)
        for i in tj.range(x.shape[0]):
            for j in tj.range(1, x.shape[1]):
                y[i, j] = x[i, j] + 0.5 * y[i, j - 1]
        return y

    for shape in [(3, 4), (1, 1), (0, 3), (3, 0), (7, 2), (5, 9)]:
        x = RNG.normal(size=shape)
        want = np.zeros_like(x)
        for i in range(shape[0]):
            for j in range(1, shape[1]):
                want[i, j] = x[i, j] + 0.5 * want[i, j - 1]
        np.testing.assert_allclose(f(x), want, rtol=1e-12)


def test_gradients_through_nested_ranges():
    def f(x):
        s = 0.0
        for i in tj.range(6):
            for j in tj.range(i + 1):
                s = s * 0.5 + x[i, j] * x[j, i]
        return s

    def plain(x):
        s = 0.0
        for i in range(6):
            for j in range(i + 1):
                s = s * 0.5 + x[i, j] * x[j, i]
        return s

    x = RNG.normal(size=(6, 6))

    @tj.function
    def gradient(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return y, tape.gradient(y, x)

    y, g = gradient(tj.constant(x))
    np.testing.assert_allclose(y, plain(x), rtol=1e-12)
    want, h = np.zeros_like(x), 1e-6
    for k in np.ndindex(6, 6):
        d = np.zeros_like(x)
        d[k] = h
        want[k] = (plain(x + d) - plain(x - d)) / (2 * h)
    np.testing.assert_allclose(g, want, rtol=1e-6, atol=1e-8)


def test_positions_outside_are_found_where_they_are():
    @tj.function
    def f(x):
        s = 0.0
        for i in tj.range(5, 12):
            s = s + x[i]
        return s

    with pytest.raises(tj.errors.OutOfRangeError, match="index 10 is outside axis 0 of size 10"):
        f(np.ones(10))


def test_known_conditions_are_no_longer_asked():
    """Positions that are counted from the front are not moved, and none is checked that lies on its axis."""

    @tj.function
    def f(x):
        s = 0.0
        for i in tj.range(1, 40):
            s = s * 0.5 + x[i] - x[i - 1]
        return s

    x = RNG.normal(size=40)
    text = optimized(f, x)
    assert "check" not in text and "where" not in text
    want = 0.0
    for i in range(1, 40):
        want = want * 0.5 + x[i] - x[i - 1]
    np.testing.assert_allclose(f(x), want, rtol=1e-12)


def test_unrolled_steps_have_their_numbers():
    @tj.function
    def f(x):
        s = 0.0
        for i in tj.range(1, 4):
            s = s * 0.5 + x[i]
        return s

    x = RNG.normal(size=4)
    text = optimized(f, x)
    assert not [w for w in ("check", "iota", "gather", "where") if w in text]
    np.testing.assert_allclose(f(x), (x[1] * 0.5 + x[2]) * 0.5 + x[3], rtol=1e-12)
