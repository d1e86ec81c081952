"""Positions, blocks and sizes beyond what a program finds out are errors, before anything is read or written."""

import contextlib

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError, ConversionWarning, OutOfRangeError, ShapeError

LINE = np.arange(6.0)


def written(at, size=()):
    def f(x, n):
        y = tj.zeros([n, *size], x.dtype)
        y[at] = 7.0
        return y

    return f


def counted(at):
    def f(x, n):
        s = x[0] * 0.0
        for t in at(x, n):
            s = s * 2.0 + t
        return s

    return f


def first_above(at):
    def f(x, n):
        for i, t in enumerate(at(x, n)):
            if t > 3.0:
                return t * i
        return x[0] - 1.0

    return f


def slices_of_a_size_with_two_factors(x, n):
    v, s = tj.tile(x, [n]), tj.constant(0.0, tj.float64)
    for q in range(n):
        s = s + tj.reduce_sum(v[q:n])
    return s


OUTSIDE, SHAPE, ARGUMENT = OutOfRangeError, ShapeError, ArgumentError
# a function, the numbers it is right for, those it is not, and the error
CASES = {
    "x[:n][1]": (lambda x, n: x[:n][1], (2, 6), (1, 0, -6), OUTSIDE),
    "x[:n][-2]": (lambda x, n: x[:n][-2], (2, 6), (1, 0), OUTSIDE),
    "x[n:][0]": (lambda x, n: x[n:][0], (0, 2, 5), (6, 8), OUTSIDE),
    "x[n:][-1]": (lambda x, n: x[n:][-1], (0, 5), (6,), OUTSIDE),
    "x[-n:][1]": (lambda x, n: x[-n:][1], (2, 6), (1,), OUTSIDE),
    "x[n:n + 2][1]": (lambda x, n: x[n : n + 2][1], (0, 4), (5, 8), OUTSIDE),
    "of a result": (lambda x, n: tj.cumsum(x[n:] * 2.0)[-1], (0, 5), (6,), OUTSIDE),
    "of zeros": (lambda x, n: tj.zeros([n])[3], (4, 9), (3, 0), OUTSIDE),
    "of a row of ones": (lambda x, n: tj.ones([n, 2])[1], (2, 4), (1, 0), OUTSIDE),
    "far": (lambda x, n: tj.ones([n])[100_000_000], (), (3, 0), OUTSIDE),
    "of a repetition": (lambda x, n: tj.repeat(x, n)[7], (2, 3), (1, 0), OUTSIDE),
    "of copies": (lambda x, n: tj.tile(x, [n])[7], (2, 3), (1, 0), OUTSIDE),
    "of a range": (lambda x, n: tj.range(n)[5], (6,), (3, 0), OUTSIDE),
    "joined": (lambda x, n: tj.concat([x[:n], x[:1]], 0)[2], (2, 4), (1, 0), OUTSIDE),
    "turned": (lambda x, n: tj.transpose(x[:n][:, None])[0, 2], (3, 4), (2, 0), OUTSIDE),
    "slice": (lambda x, n: tj.slice(x[:n], [1], [2]), (3, 6), (2, 1, 0), SHAPE),
    "slice to the end": (lambda x, n: tj.slice(x[n:], [1], [-1]), (0, 2, 5), (6,), SHAPE),
    "slice by a size": (lambda x, n: (tj.zeros([n]), tj.slice(x, [n], [2])), (0, 4), (5, 100, -1), SHAPE),
    "slice by two sizes": (lambda x, n: (tj.slice(x, [0], [n]), tj.slice(x, [n], [n])), (0, 3), (4, 50), SHAPE),
    "slice to a size": (lambda x, n: (tj.ones([n]), tj.slice(x, [0], [n])), (0, 6), (7, 10**6), SHAPE),
    "slice by a piece": (lambda x, n: (tj.split(x, [n, 6 - n]), tj.slice(x, [n], [2])), (0, 4), (5, 6), SHAPE),
    "top_k": (lambda x, n: tj.math.top_k(x[:n], 2)[0], (2, 6), (1, 0), SHAPE),
    "negative": (lambda x, n: tj.zeros([n, n - 1]), (1, 3), (0,), SHAPE),
    "copies, negative": (lambda x, n: tj.tile(x, [n]), (0, 2), (-1,), ARGUMENT),
    "pad": (lambda x, n: tj.pad(x, [[n, 3 - n]]), (0, 3), (4, 6, -1), ARGUMENT),
    "convolution": (
        lambda x, n: tj.nn.conv1d(tj.reshape(x[:n], [1, -1, 1]), tj.ones([2, 1, 1], x.dtype), 1, "VALID"),
        (1, 2, 6), (), None,
    ),
    "convolution in steps": (
        lambda x, n: tj.nn.conv1d(tj.reshape(x[:n], [1, -1, 1]), tj.ones([3, 1, 1], x.dtype), 2, "SAME"),
        (1, 2, 5, 6), (), None,
    ),
    "squeeze": (lambda x, n: tj.squeeze(x[:n], 0), (1,), (0, 2), SHAPE),
    "reshape": (lambda x, n: tj.reshape(x[:n], [2, 2]), (4,), (3, 6, 0), SHAPE),
    "two sizes": (lambda x, n: x[:n] + x[1:4], (3,), (2, 5), SHAPE),
    "product": (lambda x, n: tj.matmul(x[:n][None], tj.ones([3, 1], x.dtype)), (3,), (2, 5), SHAPE),
    "a begin of two": (lambda x, n: tj.slice(x, [tj.stack([n, n])], [1]), (), (2,), SHAPE),
    "roll": (lambda x, n: tj.roll(x[:n], 1, 0), (0, 1, 2, 6), (), None),
    "windows": (lambda x, n: x[n:][1:] - x[n:][:-1], (0, 2, 5, 6), (), None),
    "rows": (counted(lambda x, n: x[n:]), (0, 2, 6), (), None),
    "the first": (first_above(lambda x, n: x[n:]), (0, 3, 6), (), None),
    "the first of the first": (first_above(lambda x, n: x[:n]), (0, 3, 6), (), None),
    "of two factors": (slices_of_a_size_with_two_factors, (0, 2, 3), (), None),
}  # fmt: skip
OPEN = [tj.TensorSpec([None], tj.float64), tj.TensorSpec([], tj.int32)]


@pytest.mark.parametrize("signature", [None, OPEN], ids=["shapes", "open"])
@pytest.mark.parametrize("name", CASES)
def test_sizes_that_fit_and_sizes_that_do_not(name, signature, recwarn):
    function, right, wrong, error = CASES[name]
    g = tj.function(function, input_signature=signature)
    x = tj.constant(LINE)
    for n in (*right, *wrong, *right):
        k = tj.constant(np.int32(n))
        if n in right:
            for a, b in zip(tj.nest.flatten(g(x, k)), tj.nest.flatten(function(x, k)), strict=True):
                assert a.shape == b.shape
                np.testing.assert_allclose(a.numpy(), b.numpy())
            continue
        with pytest.raises(error):
            g(x, k)
        with pytest.raises(error):
            function(x, k)
    assert not [w for w in recwarn if issubclass(w.category, ConversionWarning)]


@pytest.mark.parametrize("at", [200, 100_000_000, -2, slice(2, 4)])
def test_nothing_is_written_outside(at):
    g = tj.function(written(at))
    for n in (1, 0, 1, 0):
        with pytest.raises(OutOfRangeError) if type(at) is int else contextlib.nullcontext():
            assert not g(tj.constant(LINE), tj.constant(n)).numpy().any()


def test_what_is_written_inside():
    for at, size in ((3, ()), (-1, (2,)), ((2, 1), (2,))):
        g = tj.function(written(at, size))
        for n in (4, 5):
            want = np.zeros((n, *size))
            want[at] = 7.0
            np.testing.assert_array_equal(g(tj.constant(LINE), tj.constant(n)).numpy(), want)


@pytest.mark.parametrize("dtype", [tj.int8, tj.int16, tj.uint8, tj.int32])
def test_ranges_of_narrow_numbers_that_are_left_early(dtype):
    @tj.function
    def f(n):
        s = tj.constant(0)
        for i in tj.range(n):
            s = s + tj.cast(i, tj.int32)
            if s > 4:
                break
        return s

    for n, want in ((0, 0), (3, 3), (9, 6)):
        assert f(tj.constant(n, dtype)).numpy() == want


def test_gradients_where_sizes_have_two_factors():
    g = tj.function(slices_of_a_size_with_two_factors)
    for k in (5, 3):
        x = tj.constant(LINE[:k] + 1.0)
        made = []
        for f in (slices_of_a_size_with_two_factors, g):
            with tj.GradientTape() as tape:
                tape.watch(x)
                y = f(x, tj.constant(2))
            made.append(tape.gradient(y, x).numpy())
        np.testing.assert_array_equal(*made)


NARROW = [tj.int8, tj.int16, tj.uint8, tj.uint16, tj.uint32, tj.uint64]


@pytest.mark.parametrize("dtype", [*NARROW, tj.int32, tj.int64])
def test_each_row_counts_as_far_as_it_likes(dtype):
    def counted(n):
        s = n * 0
        for i in tj.range(n, n + n + n):
            s = s * 2 + i
        return s

    n = tj.constant([3, 1, 0, 2], dtype)
    got, want = tj.function(lambda n: tj.vectorized_map(counted, n), strict=True)(n), [counted(k) for k in n]
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", NARROW)
def test_ranges_that_end_where_their_type_does(dtype):
    most, least = dtype.max, dtype.max - 9

    @tj.function(strict=True)
    def f(first, last):
        s, k = tj.constant(0, tj.uint64), first
        for i in tj.range(first, last, tj.constant(4, dtype)):
            s, k = s * 2 + tj.cast(i, tj.uint64), i
        return s, k, tj.range(first, last, 4)

    s, k, line = f(tj.constant(least, dtype), tj.constant(most, dtype))
    assert (k.dtype, int(k)) == (dtype, least + 8)
    assert int(s) == (4 * least + 2 * (least + 4) + least + 8) % 2**64
    np.testing.assert_array_equal(line, np.array([least, least + 4, least + 8], dtype.as_numpy_dtype))
    assert int(f(tj.constant(most, dtype), tj.constant(least, dtype))[0]) == 0
