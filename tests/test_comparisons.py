"""Comparisons of integers of different types are exact, whichever way they are computed."""

import operator

import numpy as np
import pytest

import tracejit as tj

ORDERS = {
    "less": operator.lt, "less_equal": operator.le, "greater": operator.gt, "greater_equal": operator.ge,
    "equal": operator.eq, "not_equal": operator.ne,
}  # fmt: skip
BEYOND = 2**53  # from which on float64 has no odd integers
UNSIGNED = np.array([0, 1, BEYOND, BEYOND + 1, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)
SIGNED = {
    np.int64: [0, -1, 1, BEYOND, BEYOND + 1, 2**63 - 1, -(2**63)],
    np.int32: [0, -1, 1, 2**31 - 1, -(2**31)],
    np.int8: [0, -1, 1, 127, -128],
}


def want(op, xs, ys):
    return [[op(x, y) for y in ys.tolist()] for x in xs.tolist()]


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("dtype", SIGNED)
def test_signed_with_uint64(name, dtype):
    op, public = ORDERS[name], getattr(tj, name)
    signed = np.array(SIGNED[dtype], dtype)
    for xs, ys in ((signed, UNSIGNED), (UNSIGNED, signed)):
        a, b = tj.constant(xs[:, None]), tj.constant(ys)
        exact = want(op, xs, ys)
        assert public(a, b).numpy().tolist() == exact
        assert op(a, b).numpy().tolist() == exact
        assert getattr(np, name)(a, ys).numpy().tolist() == exact
        assert tj.function(public)(a, b).numpy().tolist() == exact


def test_signed_with_uint64_in_a_loop_of_single_numbers():
    @tj.function
    def count(limit, i):
        k = 0
        while i < limit and k < 10:
            i = i + 1
            k = k + 1
        return k

    def steps(limit, i):
        return int(count(tj.constant(np.uint64(limit)), tj.constant(np.int64(i))))

    assert steps(BEYOND + 1, BEYOND) == 1
    assert steps(2**63 - 1, 2**63 - 4) == 3
    assert steps(2**63 + 5, -1) == 10
    assert steps(3, -2) == 5


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("n", [2**40, -(2**40), 2**20, -3, 7, 100])
def test_python_integers_are_not_narrowed(dtype, n):
    def f(n, t):
        return n < t, t <= n, n == t, n * n > t, t != n * n

    t = np.array([1, 7, 100], dtype)
    exact = [[bool(x) for x in r] for r in f(n, t.astype(object))]
    assert [r.numpy().tolist() for r in f(n, tj.constant(t))] == exact
    if abs(n) <= 2**20:  # the square of a larger one is refused
        assert [r.numpy().tolist() for r in tj.function(f)(n, tj.constant(t))] == exact
    assert (tj.constant(t) < n).numpy().tolist() == [x < n for x in t.tolist()]
    assert tj.function(lambda n, t: n < t)(n, tj.constant(t)).numpy().tolist() == [n < x for x in t.tolist()]


def test_gradients_go_past_exact_comparisons():
    def f(x, i, u):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.where(i < u, x * x, -x)
        return tape.gradient(y, x)

    x, i = tj.constant([3.0, 4.0]), tj.constant(np.array([-1, BEYOND + 1]))
    u = tj.constant(np.array([0, BEYOND], np.uint64))
    for g in (f, tj.function(f)):
        assert g(x, i, u).numpy().tolist() == [6.0, -1.0]
