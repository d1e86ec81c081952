"""Python's and NumPy's own generators of random numbers in traced functions: the numbers that plain Python draws."""

import random
import warnings

import numpy as np
import pytest

import tracejit as tj

OUTSIDE = np.random.default_rng(5)
PYTHON = random.Random(4)


def seeded(x):
    random.seed(3)
    return x + random.random()


def seeded_before_branch(x):
    random.seed(3)
    if x > 0:
        x = x + random.random()
    return x + random.randint(0, 5)


def seeded_numpy(x):
    np.random.seed(0)
    return x + np.random.randn(2)


def made_here(x):
    return x * tj.constant(np.random.default_rng(0).uniform(-1, 1, (3,)).astype("float64"))


def made_here_of_state(x):
    r = np.random.RandomState(3)
    return x + tj.constant(r.rand(3).reshape(3, 1).T.sum())


def made_in_loop(x):
    n = 0
    while n < x:
        x = x - 1.5 * np.random.default_rng(0).uniform()
        n = n + 1
    return x


def array_methods(x):
    w = OUTSIDE.uniform(-1, 1, size=(2, 3))
    v = (w * 2 - 1).astype("float32").reshape(3, 2)
    return x + w.T @ w.mean(axis=1), w.std(), w.copy().ravel()[1], v.sum(axis=0), w.flatten().max(), w.transpose(1, 0)


def permuted(x):
    p = np.random.permutation(3)
    return x + p[0] + p.max()


def drawn(x):
    return x + float(PYTHON.gauss(0, 1)), int(PYTHON.randint(0, 9))


def shuffled(x):
    rows = [1.0, 2.0, 3.0]
    random.shuffle(rows)
    return x + rows[0]


def kept_state(x):
    s = random.getstate()
    y = random.random()
    random.setstate(s)
    return x + y + random.random()


def made_before_branch(x):
    r = random.Random(3)
    if x > 0:
        x = x + r.random()
    return x + r.random()


def as_list(x):
    return x + OUTSIDE.normal(size=3).tolist()[1], OUTSIDE.normal(size=3).item(1)


COMPILED = [
    seeded, seeded_before_branch, seeded_numpy, made_here, made_here_of_state, made_in_loop, array_methods, permuted,
    drawn,
]  # fmt: skip
PLAIN = [shuffled, kept_state, made_before_branch, as_list]


def called(f, eagerly):
    random.seed(1)
    np.random.seed(1)
    PYTHON.seed(4)
    OUTSIDE.bit_generator.state = np.random.default_rng(5).bit_generator.state
    tj.config.run_functions_eagerly(eagerly)
    try:
        traced = tj.function(f)
        return [tj.nest.flatten(traced(tj.constant(v, tj.float64))) for v in (2.0, -1.0, 3.0)]
    finally:
        tj.config.run_functions_eagerly(False)


@pytest.mark.parametrize("f", COMPILED + PLAIN)
def test_draws_are_those_of_plain_python(f):
    with warnings.catch_warnings():
        warnings.simplefilter("error" if f in COMPILED else "ignore")
        for got, want in zip(called(f, False), called(f, True), strict=True):
            for a, b in zip(got, want, strict=True):
                np.testing.assert_allclose(np.asarray(a), np.asarray(b), 1e-6)
