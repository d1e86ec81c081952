"""Item assignment in rarer forms: truth values as keys, `__setitem__`, targets of loops, negative steps, all op=."""

import copy

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import AliasError, ShapeError, TracejitError

LINE = np.arange(6.0, dtype=np.float32)
TABLE = np.arange(12.0, dtype=np.float32).reshape(3, 4)
YES, NO = np.bool_(True), np.bool_(False)


def numbers_as_flags(x):
    x[True] = 3.0
    x[False] = 4.0
    x[True] += 1.0
    return x


def flag(x, b, v):
    x[b] = v
    x[b] += 3.0
    x[b,] **= 2.0
    return x


def called_by_name(x, i):
    x.__setitem__(0, 5.0)
    x.__setitem__(slice(1, 3), x[i] * 2.0)
    if x[i] > 3.0:
        x.__setitem__(i, -1.0)
    return x


def targets_of_loops(x, n):
    for x[0] in range(3):
        x[1] += x[0]
    for i, x[i] in enumerate(x * 2.0 + 1.0):
        pass
    for _ in range(n):
        for x[2] in x[3:5] + x[2]:
            x[5] -= x[2]
    return x


def every_operator(x, i):
    x[i] **= 2.0
    x[i] -= 1.0
    x[i] /= 4.0
    x[i] //= 0.5
    x[i] %= 3.0
    x[1:4] **= 2.0
    x[x > 3.0] /= 2.0
    return x


def integer_operators(x, i):
    x[i] <<= 2
    x[i] |= 1
    x[i + 1] ^= x[i]
    x[:2] &= 6
    x[i] >>= 1
    x[i] //= -2
    x[-1] %= -3
    x[i] **= 2
    return x


def backwards(x, n):
    x[::-1] = x * 2.0
    x[n::-1] = -1.0
    x[4:1:-2] += x[:2]
    x[:n:-1] *= 2.0
    return x


def rows_backwards(m, i, n):
    m[i, ::-1] = m[0] * 1.0
    m[::-2, n] = 5.0
    m[::-1, 1:n] *= m[1:2, 1:n]
    return m


def several_indices(m, i):
    m[[0, 2], [1, 3]] = [9.0, 8.0]
    m[[2, 0], i] += 1.0
    m[i, [0, 1, 1]] = np.float32(3.0)
    m[[[0], [2]], [0, 3]] -= m[:2, :2]
    m[m > 5.0] = 0.0
    m[m[:, 0] > 0.0, 1] = 7.0
    m[i:, [True, False, True, False]] *= 2.0
    return m


def by_two_keys(m, i, j):
    m[i][j] = 3.0
    m[i : j + 1][0] = 2.0
    m[:, i][j] = 9.0
    m[None, i, ..., j] -= 1.0
    m[i], m[j] = m[j] * 1.0, m[i] * 1.0
    return m


CASES = [
    (numbers_as_flags, (LINE,)),
    *[(flag, (x, b, v)) for b in (YES, NO) for x, v in ((LINE, LINE * 3), (TABLE, TABLE[None]), (TABLE, TABLE[0]))],
    *[(f, (LINE, np.int32(k))) for f in (called_by_name, every_operator) for k in (0, 2)],
    *[(integer_operators, (np.arange(6, dtype=np.int32) * 5, np.int32(k))) for k in (0, 2)],
    *[(targets_of_loops, (LINE, np.int32(k))) for k in (0, 2)],
    *[(backwards, (LINE, np.int32(k))) for k in (0, 2, 5, -1, -7)],
    *[(rows_backwards, (TABLE, np.int32(1), np.int32(k))) for k in (1, 3)],
    *[(several_indices, (TABLE, np.int32(k))) for k in (0, 1)],
    *[(by_two_keys, (TABLE, np.int32(1), np.int32(2)))],
]


@pytest.mark.parametrize("f, args", CASES, ids=lambda x: getattr(x, "__name__", ""))
def test_as_numpy_does_it(f, args):
    want = f(*[copy.deepcopy(a) for a in args])
    traced = tj.function(f, strict=True)
    for _ in range(2):
        got = traced(*map(tj.constant, args))
        assert got.dtype.as_numpy_dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-6)
    with tj.debug():
        np.testing.assert_allclose(tj.function(f)(*map(tj.constant, args)), want, rtol=1e-6)


def test_gradients_behind_a_flag():
    @tj.function(strict=True)
    def f(x, b, v):
        with tj.GradientTape() as tape:
            tape.watch([x, v])
            y = x * 2.0
            y[b] = v * v
            z = tj.reduce_sum(y * y)
        return tape.gradient(z, [x, v], unconnected_gradients="zero")

    x, v = tj.constant(LINE), tj.constant(3.0)
    for b, wx, wv in ((False, 8.0 * LINE, 0.0), (True, 0.0 * LINE, 6 * 4 * 27.0)):
        gx, gv = f(x, tj.constant(b), v)
        np.testing.assert_allclose(gx, wx)
        np.testing.assert_allclose(gv, wv)


def test_a_value_that_does_not_fit_a_flag():
    with pytest.raises(ShapeError, match=r"cannot assign f32\[3,4\] to a slice of shape \(6,\)"):
        tj.function(flag)(tj.constant(LINE), tj.constant(True), tj.constant(TABLE))


def test_what_an_expression_assigns_is_an_error():
    for f in (lambda x: x.__setitem__(0, 1.0), lambda x: [x.__setitem__(i, 0.0) for i in range(2)]):
        with pytest.raises(TracejitError, match="does not support item assignment"):
            tj.function(f)(tj.constant(LINE))


# --- loops through what they change -----------------------------------------------------------------------------------
def each_doubled(x):
    for i, v in enumerate(x):
        x[i] = v * 2.0
    return x


def gathered_in_front(x):
    for v in x:
        x[0] += v
    return x


def gathered_elsewhere(x):
    y = x * 1.0
    for v in x:
        y[2] += v
    for v in y * 1.0:
        y[1] += v
    return y


def last_changed(x):
    for v in x:
        x[-1] += v
    return x


def next_changed(x):
    for i, v in enumerate(x):
        if i < 5:
            x[i + 1] += v
    return x


def all_changed(x):
    for v in x:
        x[:] = x * 0.5 + v
    return x


def changed_where(x):
    for v in x:
        x[x > v] = 0.0
    return x


def gone_through_from_behind(x):
    for i, (v, w) in enumerate(zip(x, x[::-1])):
        x[i] = v + w
    return x


LENGTHS = (3, 6, 40)  # copies of the steps, or a loop


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("f", [each_doubled, gathered_in_front, gathered_elsewhere], ids=lambda f: f.__name__)
def test_rows_that_a_loop_has_had_may_change(f, n):
    x = np.arange(1.0, n + 1.0)
    np.testing.assert_allclose(tj.function(f, strict=True)(tj.constant(x)), f(x.copy()))


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize(
    "f", [last_changed, next_changed, all_changed, changed_where, gone_through_from_behind], ids=lambda f: f.__name__
)
def test_rows_that_a_loop_has_yet_to_see_may_not(f, n):
    with pytest.raises(AliasError, match="assigned in a loop through its rows"):
        tj.function(f)(tj.constant(np.arange(1.0, n + 1.0)))


def test_changes_are_made_through_either_name():
    """Two names of one tensor: an error where the other is used later, which says so; none where it is not."""

    def used(x):
        y = x
        y[0] = 5.0
        return x

    def unused(x):
        y = x
        y[0] = 5.0
        x = y * 2.0
        x[1] = y[0]
        return x

    with pytest.raises(AliasError, match="'x', which is used later"):
        tj.function(used)(tj.constant(LINE))
    np.testing.assert_allclose(tj.function(unused, strict=True)(tj.constant(LINE)), unused(LINE.copy()))
