"""Work that branches share with each other or with what is around them, and work that leaves loops within loops."""

import numpy as np
import pytest

import tracejit as tj

RNG = np.random.default_rng(3)
X = RNG.normal(size=(5, 5))


def count(f, what, *args):
    return str(f.graph(*args, stage="optimized")).count(f" = {what}(")


def both(x, c):
    if c > 0:
        y = tj.exp(x @ x) + 1.0
    else:
        y = tj.exp(x @ x) * 2.0
    return y


def one_and_after(x, c):
    if c > 0:
        y = x @ x
    else:
        y = x
    return y, x @ x


def before_and_one(x, c):
    z = tj.sin(x)
    if c > 0:
        y = tj.sin(x) @ x
    else:
        y = x @ x
    return y, z


def nested(x, c):
    if c > 0:
        y = x @ x
        if c > 1:
            y = y + (x @ x) @ x
    elif c < -1:
        y = tj.tanh(x @ x)
    else:
        y = x @ x
    return y


def in_a_loop(x, c):
    s = x
    for _ in tj.range(6):
        if c > 0:
            s = s * 0.5 + tj.exp(x @ x)
        else:
            s = s * 0.25 - tj.exp(x @ x)
    return s


def after_a_check(x, c):
    """Each branch looks up its own place: the checks stay with them."""
    i = tj.cast(c, tj.int32)
    if c > 0:
        y = x[i] + tj.exp(x[0])
    else:
        y = x[-1] * tj.exp(x[0])
    return y


PROGRAMS = [(both, "matmul", 1), (both, "exp", 1), (one_and_after, "matmul", 1), (before_and_one, "sin", 1),
            (nested, "matmul", 2), (in_a_loop, "matmul", 1), (after_a_check, "exp", 1)]  # fmt: skip


@pytest.mark.parametrize("f, what, times", PROGRAMS, ids=lambda p: getattr(p, "__name__", str(p)))
def test_work_is_done_once(f, what, times):
    g = tj.function(f)
    for c in (2.0, 0.5, -0.5, -2.0):
        with tj.debug():
            want = g(X, tj.constant(c))
        got = g(X, tj.constant(c))
        for a, b in zip(tj.nest.flatten(got), tj.nest.flatten(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    assert count(g, what, X, tj.constant(1.0)) == times


@pytest.mark.parametrize("f", sorted({p[0] for p in PROGRAMS}, key=lambda f: f.__name__))
def test_gradients(f):
    def gradient(x, c):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x, c)
        return tape.gradient(y, x)

    g = tj.function(gradient)
    for c in (2.0, 0.5, -0.5, -2.0):
        want = gradient(tj.constant(X), tj.constant(c))
        np.testing.assert_allclose(g(tj.constant(X), tj.constant(c)), want, rtol=1e-10, atol=1e-12)


def test_work_leaves_all_loops():
    @tj.function
    def f(x, n):
        s = x * 0.0
        for _ in tj.range(n):
            for _ in tj.range(n):
                s = s * tj.exp(-x * x) + tj.cumsum(x) + tj.sort(x)
        return s

    text = str(f.graph(X[0], tj.constant(4), stage="optimized"))
    before = text[: text.index("@0")]
    for what in ("exp", "cumsum", "sort"):
        assert f" = {what}(" in before and text.count(f" = {what}(") == 1
    s = np.zeros(5)
    for _ in range(16):
        s = s * np.exp(-X[0] * X[0]) + np.cumsum(X[0]) + np.sort(X[0])
    np.testing.assert_allclose(f(X[0], tj.constant(4)), s, rtol=1e-12)


def test_what_may_fail_stays_in_a_loop_that_may_not_run():
    @tj.function
    def f(x, n):
        s = x * 0.0
        for _ in tj.range(n):
            s = s + tj.linalg.cholesky(x)
        return s

    np.testing.assert_array_equal(f(-np.eye(3), tj.constant(0)), np.zeros((3, 3)))
    np.testing.assert_allclose(f(4 * np.eye(3), tj.constant(2)), 4 * np.eye(3))

    @tj.function
    def g(x):
        s = x * 0.0
        for _ in tj.range(9):
            s = s + tj.linalg.cholesky(x)
        return s

    text = str(g.graph(np.eye(3), stage="optimized"))
    assert " = cholesky(" in text[: text.index("@0")]
    np.testing.assert_allclose(g(4 * np.eye(3)), 18 * np.eye(3))


def test_random_numbers_are_not_shared():
    @tj.function
    def f(c):
        if c > 0:
            y = tj.random.normal((4,))
        else:
            y = tj.random.normal((4,)) * 1.0
        return y, tj.random.normal((4,))

    tj.random.set_seed(3)
    a, b = f(tj.constant(1.0))
    assert not np.array_equal(a, b)
