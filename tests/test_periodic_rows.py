"""Loops over rows that end early once the states of all rows of a vector repeat: the same bits as step by step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowerings import Lowered, compiled, flat

import tracejit as tj
from tracejit.lower import laneperiods

EARLY = "while by rows, ends early when its state repeats"


def step_by_step(f, *args):
    """A traced function whose loops take every step."""
    known = laneperiods.of
    laneperiods.of = lambda n, mask: None
    try:
        g = compiled(f)
        g(*args)
        assert "while by rows" in g.explain(*args) and EARLY not in g.explain(*args)
    finally:
        laneperiods.of = known
    return g


def bits(results):
    return [(a.dtype.name, a.shape, a.tobytes()) for a in flat(results)]


class Both:
    """A function of rows whose loop ends early, and the same one without that."""

    def __init__(self, one, *example):
        def f(*args):
            return tj.vectorized_map(lambda row: one(*row), args)

        args = [tj.constant(a) for a in example]
        self.f, self.slow, self.fast = f, step_by_step(f, *args), compiled(f)
        self.fast(*args)
        assert EARLY in self.fast.explain(*args)

    def check(self, *args):
        args = [tj.constant(a) for a in args]
        assert bits(self.fast(*args)) == bits(self.slow(*args)), [a.numpy() for a in args]


def quadratic(c, n):
    """z² + c: most rows come to a point or a circle of a few, others leave or never repeat."""
    z, i = 0.0 * c, 0
    while i < n and z <= 2.0:
        z = z * z + c
        i += 1
    return z, i


def rest(x, i, n):
    """Counters begin and end anywhere, and go down in threes; what some steps add is summed."""
    low, total = 0 * x, 0 * x
    while i > n and x != 5:
        x = (x * x + 3) % 11
        if x > 4:
            total += x - 7
        low = x - 2
        i = i - 3
    return x, i, low, total


def root(x, a, n):
    steps = 0
    while steps <= n:
        x = 0.5 * (x + a / x)
        steps += 1
    return x, steps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_come_to_a_point_or_a_circle(dtype):
    both = Both(quadratic, np.zeros(300, dtype), np.zeros(300, np.int64))
    c = np.linspace(-2.2, 0.5, 300).astype(dtype)
    for n in (0, 1, 31, 32, 33, 64, 200, 1000, 5001):
        both.check(c, np.full(300, n))
        both.check(c, np.arange(300) * n // 7)


def test_all_lowerings_agree():
    def f(c, n):
        return tj.vectorized_map(lambda row: quadratic(*row), (c, n))

    args = tj.constant(np.linspace(-2.0, 0.4, 70)), tj.constant(np.full(70, 400))
    want = bits(step_by_step(f, *args)(*args))
    for way, got in Lowered(f).results(*args):
        assert bits(got) == want, way


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_integers_of_any_rows(dtype):
    rng = np.random.default_rng(5)
    both = Both(rest, *[np.arange(64, dtype=dtype)] * 3)
    for rows in (1, 15, 64, 1003):
        for spread in (1, 50, 3000):
            x, i, n = rng.integers(0, 11, rows), rng.integers(-spread, spread, rows), rng.integers(-spread, 1, rows)
            both.check(*[a.astype(dtype) for a in (x, i, n)])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_random_rows(roots, data):
    rows = data.draw(st.integers(1, 40))
    number = st.one_of(st.floats(-4, 4), st.sampled_from([0.0, -0.0, np.nan, np.inf, 1.0]))
    x, a = (np.array(data.draw(st.lists(number, min_size=rows, max_size=rows))) for _ in range(2))
    n = np.array(data.draw(st.lists(st.integers(-3, 600), min_size=rows, max_size=rows)))
    with np.errstate(all="ignore"):
        roots.check(x, a, n)


@pytest.fixture(scope="module")
def roots():
    return Both(root, np.ones(40), np.ones(40), np.arange(40))


def test_long_loops_end():
    f = compiled(lambda x, a, n: tj.vectorized_map(lambda row: root(*row), (x, a, n)))
    x, a, n = np.ones(20), np.arange(1.0, 21.0), np.full(20, 2**31 - 2)
    got, steps = f(tj.constant(x), tj.constant(a), tj.constant(n))
    np.testing.assert_allclose(got, np.sqrt(a), rtol=1e-15)
    assert steps.numpy().tolist() == [2**31 - 1] * 20


def test_steps_that_read_their_number_are_taken():
    def one(x):
        i = 0
        while i < 500 and x < 100.0:
            x = x * 0.5 + 1.0 / (1.0 + tj.cast(i, tj.float64))
            i += 1
        return x

    f = compiled(lambda x: tj.vectorized_map(one, x))
    x = tj.constant(np.linspace(0.0, 200.0, 30))
    f(x)
    assert "while by rows" in f.explain(x) and EARLY not in f.explain(x)
