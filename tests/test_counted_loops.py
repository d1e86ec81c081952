"""Positions that grow with a loop's counter: checked once before the loop, with the errors of checks in every step."""

import numpy as np
import pytest
from control_flow_corpus import Plain
from lowerings import Lowered

import tracejit as tj
from tracejit.errors import OutOfRangeError

LINE = np.arange(10.0) + 1.0
TABLE = np.arange(20.0).reshape(4, 5)


def shifted(m, x, n, k):
    y = m.zeros(10, m.float64)
    for i in m.range(n):
        y[i] = x[i + k] * 2.0
    return y


def in_steps(m, x, n, k):
    s = x[0] * 0.0
    for i in m.range(k, n, 2):
        s = s * 0.5 + x[i] - x[i - k]
    return s


def affine(m, x, n, k):
    s = x[0] * 0.0
    for i in m.range(n):
        s = s * 0.5 + x[i * k - 3]
    return s


def from_behind(m, x, n, k):
    for i in m.range(n):
        x[-1 - i] += x[i - k]
    return x


def by_rows(m, a, n, k):
    for i in m.range(n):
        for j in m.range(k):
            a[i, j] = a[i - 1, j] + a[i, j - 1]
    return a


def guarded(m, x, n, k):
    for i in m.range(n):
        if i >= k:
            x[i] += x[i - k]
        else:
            x[i] = 0.0
    return x


def own_counter(m, x, n, k):
    i, s = k, x[0] * 0.0
    while i < n and s < 1e6:
        s = s + x[i]
        x[i - 1] = s
        i += 1
    return x, s, i


# functions, and (n, k) for which they are right, and for which a position is outside
LINES = {
    shifted: ([(10, 0), (7, 3), (0, 5), (9, -1), (10, -3), (5, -10)], [(10, 1), (8, 4), (3, -11), (1, 10)]),
    in_steps: ([(10, 0), (9, 3), (3, 9), (0, 0), (4, -4)], [(12, 0), (14, 3), (4, -12)]),
    affine: ([(5, 2), (0, 99), (1, 10**6), (7, 1), (3, -3)], [(8, 2), (2, 2**30), (3, 2**31 - 1), (9, -1)]),
    from_behind: ([(10, 0), (4, 10), (3, -7), (0, 50)], [(11, 0), (4, -7), (1, 11)]),
    guarded: ([(10, 3), (10, 0), (5, 99), (10, -0)], [(11, 3), (10, -1)]),
    own_counter: ([(10, 0), (10, 3), (2, 5), (5, -5)], [(11, 3), (5, -10), (12, 0)]),
}  # fmt: skip
TABLES = {by_rows: ([(4, 5), (0, 5), (4, 0), (2, 3)], [(5, 5), (4, 6)])}
ALL = [(f, LINE, *c) for f, c in LINES.items()] + [(f, TABLE, *c) for f, c in TABLES.items()]


def leaves(x):
    return [np.asarray(y) for y in x] if isinstance(x, tuple) else [np.asarray(x)]


def positions(e):
    """The part of an error's message that names the position."""
    return str(e).splitlines()[0].partition(" is out")[0]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("f, x, right, wrong", ALL, ids=lambda x: getattr(x, "__name__", ""))
def test_in_every_way(f, x, right, wrong, dtype):
    lowered = Lowered(lambda x, n, k: f(tj, x, n, k), strict=True)
    for n, k in (*right, *wrong, *right):
        args = dtype(n), dtype(k)
        if (n, k) in wrong:
            with pytest.raises(IndexError) as python:
                with np.errstate(all="ignore"):
                    f(Plain, x.copy(), *args)
            with pytest.raises(OutOfRangeError) as native:
                lowered.function(tj.constant(x), *map(tj.constant, args))
            if x.ndim == 1:
                assert positions(native.value) == positions(python.value)
            continue
        want = leaves(f(Plain, x.copy(), *args))
        for _, got in lowered.results(tj.constant(x), *map(tj.constant, args)):
            for a, b in zip(got, want, strict=True):
                np.testing.assert_allclose(a, b)


@pytest.mark.parametrize("dtype", [tj.int8, tj.uint8, tj.int16, tj.uint16])
def test_positions_of_narrow_types(dtype):
    """What a narrow type makes of a number that it does not hold is another position."""

    @tj.function(strict=True)
    def f(x, n, k):
        s = tj.constant(0.0, tj.float64)
        for i in tj.range(n):
            s = s * 0.5 + x[tj.cast(i + k, dtype)]
        return s

    x = np.arange(70_000.0)
    for n, k in ((3, 0), (3, 126), (3, 254), (3, 32_766), (3, 65_534), (300, 0)):
        want = 0.0
        for i in range(n):
            want = want * 0.5 + x[int(np.array(i + k).astype(dtype.as_numpy_dtype))]
        np.testing.assert_allclose(f(x, tj.constant(n), tj.constant(k)), want)


def test_numbers_that_leave_their_type():
    """32 bits wrap around: the position is what they make of it."""

    @tj.function(strict=True)
    def f(x, n, a, b):
        s = tj.constant(0.0, tj.float64)
        for i in tj.range(n):
            s = s * 0.5 + x[i * a + b]
        return s

    x = np.arange(10.0)
    for n, a, b in ((3, 2**31 - 1, 5), (4, 2**30, 3), (2, -(2**31), 1), (3, 1, 2)):
        places = [int(np.array(i * a + b).astype(np.int32)) for i in range(n)]
        args = tj.constant(n), tj.constant(a, tj.int32), tj.constant(b)
        bad = [p for p in places if not -10 <= p < 10]
        if bad:
            with pytest.raises(OutOfRangeError, match=f"index {bad[0]} "):
                f(x, *args)
            continue
        want = 0.0
        for p in places:
            want = want * 0.5 + x[p]
        np.testing.assert_allclose(f(x, *args), want)


def test_the_first_step_that_fails_is_named():
    @tj.function(strict=True)
    def f(x, y, n):
        for i in tj.range(n):
            y[i] = x[2 * i]
            x[i] = y[i + 1]
        return x, y

    x, y = tj.constant(LINE), tj.constant(LINE[:8])
    with pytest.raises(OutOfRangeError, match="index 10 is outside axis 0 of size 10"):
        f(x, y, tj.constant(20))
    with pytest.raises(OutOfRangeError, match="index 8 is outside axis 0 of size 8"):
        f(tj.constant(np.arange(30.0)), y, tj.constant(20))
    np.testing.assert_array_equal(x, LINE)


def test_open_sizes_and_empty_arrays():
    signature = [tj.TensorSpec([None], tj.float64), tj.TensorSpec([], tj.int32), tj.TensorSpec([], tj.int32)]
    f = tj.function(lambda x, n, k: guarded(tj, x, n, k), input_signature=signature, strict=True)
    for size, n, k in ((5, 5, 2), (0, 0, 1), (3, 2, 0)):
        x = np.arange(float(size))
        np.testing.assert_allclose(f(x, np.int32(n), np.int32(k)), guarded(Plain, x.copy(), n, k))
    for size, n in ((0, 1), (3, 4)):
        with pytest.raises(OutOfRangeError):
            f(np.arange(float(size)), np.int32(n), np.int32(1))
