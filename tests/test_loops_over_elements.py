"""Textbook programs on the elements of arrays: each is one native loop nest, whatever its bounds are made of."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.lower import compiler, registers

RNG = np.random.default_rng(17)


def gauss_seidel(span, zeros, u, g):
    n, m = u.shape
    for _ in span(6):
        for i in span(1, n - 1):
            for j in span(1, m - 1):
                u[i, j] = 0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - g[i, j])
    return u


def edit_distance(span, zeros, a, b):
    n, m = a.shape[0], b.shape[0]
    d = zeros((n + 1, m + 1), "int32")
    for i in span(n + 1):
        d[i, 0] = i
    for j in span(m + 1):
        d[0, j] = j
    for i in span(1, n + 1):
        for j in span(1, m + 1):
            c = 0 if a[i - 1] == b[j - 1] else 1
            d[i, j] = min(min(d[i - 1, j] + 1, d[i, j - 1] + 1), d[i - 1, j - 1] + c)
    return d[n, m]


def product(span, zeros, a, b):
    c = zeros((a.shape[0], b.shape[1]), "float64")
    for i in span(a.shape[0]):
        for j in span(b.shape[1]):
            s = 0.0
            for k in span(a.shape[1]):
                s += a[i, k] * b[k, j]
            c[i, j] = s
    return c


def longest_rise(span, zeros, x):
    n = x.shape[0]
    best = zeros(n, "int32")
    most = 0
    for i in span(n):
        here = 1
        for j in span(i):
            if x[j] < x[i] and best[j] + 1 > here:
                here = best[j] + 1
        best[i] = here
        if here > most:
            most = here
    return most


def bubbles(span, zeros, x):
    n = x.shape[0]
    for i in span(n):
        for j in span(n - 1 - i):
            if x[j] > x[j + 1]:
                t = x[j]
                x[j] = x[j + 1]
                x[j + 1] = t
    return x


def primes(span, zeros, n):
    composite = zeros(200, "bool")
    i = 2
    while i * i < n:
        if not composite[i]:
            j = i * i
            while j < n:
                composite[j] = True
                j += i
        i += 1
    return composite


def histogram(span, zeros, x):
    h = zeros(8, "int64")
    for i in span(x.shape[0]):
        h[int(x[i] * 8.0)] += 1
    return h


def knapsack(span, zeros, sizes, values):
    best = zeros(31, "float64")
    for k in span(sizes.shape[0]):
        for room in span(30, 0, -1):
            if sizes[k] <= room:
                other = best[room - sizes[k]] + values[k]
                if other > best[room]:
                    best[room] = other
    return best


def square(n):
    return RNG.normal(size=(n, n))


PROGRAMS = {
    gauss_seidel: [(square(9), square(9)), (square(12), square(12))],
    edit_distance: [tuple(RNG.integers(0, 3, (2, n)).astype(np.int32)) for n in (7, 11)],
    product: [(square(6), square(6)), (square(7), square(7))],
    longest_rise: [(RNG.normal(size=n),) for n in (20, 33)],
    bubbles: [(RNG.normal(size=n),) for n in (15, 16)],
    primes: [(np.int32(n),) for n in (200, 50)],
    histogram: [(RNG.random(n),) for n in (100, 101)],
    knapsack: [(RNG.integers(1, 9, n).astype(np.int32), RNG.random(n)) for n in (6, 9)],
}


def traced(program):
    def f(*args):
        return program(tj.range, lambda shape, dtype: tj.zeros(shape, dtype), *args)

    return tj.function(f)


def units(f, *args):
    text = f.explain(*(tj.constant(a) for a in args))
    return [line for line in text[text.index("\nkernels:") :].splitlines() if " in registers  " in line]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_programs(program):
    """Known sizes at the first call, open ones at the second."""
    f = traced(program)
    for args in [*PROGRAMS[program], PROGRAMS[program][0]]:
        want = program(range, np.zeros, *[np.array(a) if a.ndim else a for a in args])
        got = f(*[tj.constant(a) for a in args])
        np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_one_function_each(program):
    f = traced(program)
    args = PROGRAMS[program][0]
    f(*[tj.constant(a) for a in args])
    assert len(units(f, *args)) == {edit_distance: 3}.get(program, 1)


def test_the_pipeline_that_pays(monkeypatch):
    """Loops over arrays go through LLVM's passes; a branch among numbers does not."""
    levels = []
    monkeypatch.setattr(compiler, "_known", {})
    real = registers.pipeline_level
    monkeypatch.setattr(registers, "pipeline_level", lambda n: levels.append(real(n)) or levels[-1])
    traced(gauss_seidel)(*[tj.constant(a) for a in PROGRAMS[gauss_seidel][0]])
    assert max(levels) == 1
    levels.clear()

    @tj.function
    def f(x):
        if x > 0:
            y = tj.math.lgamma(x) * tj.sin(x) + tj.cos(x) * tj.math.erf(x) - tj.exp(x) * tj.math.lgamma(x + 1.0)
        else:
            y = tj.sinh(x) * tj.math.lgamma(x * x) + tj.tan(x) * tj.atan(x) - tj.math.lgamma(tj.exp(x)) * tj.acosh(x)
        return y

    f(tj.constant(2.0))
    assert max(levels, default=0) == 0
