"""Generators whose branches and loops depend on tensors, gone through by loops: both become one compiled loop."""

import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning

V = tj.constant([1.0, -2.0, 3.0, 4.0, -5.0, 6.0])


def plain(x):
    if isinstance(x, (tuple, list)):
        return [type(x).__name__, *map(plain, x)]
    return np.asarray(x).tolist()


def positive(v):
    for a in v:
        if a > 0:
            yield a


def counted(n):
    i = 0
    while i < n:
        yield i
        i = i + 1


def fibonacci(x):
    a, b = x * 0, x * 0 + 1
    while True:
        if a > 20:
            return
        yield a, b
        a, b = b, a + b


def twice(v):
    yield from positive(v)
    yield v[0] * 100
    yield from positive(-v)


def with_an_end(v):
    try:
        yield from v
    finally:
        print("done")


class Rows:
    def __init__(self, v):
        self.v = v

    def __iter__(self):
        for a in self.v:
            if a > 0:
                yield a

    def pairs(self, least):
        for i in range(2):
            for a in self.v:
                if a > least:
                    yield i, a


def summed(v):
    total = 0.0
    for a in positive(v):
        total = total + a
    return total


def in_a_while(v):
    total = 0
    for i in counted(tj.cast(v[0], tj.int32) + 2):
        for k in counted(i):
            total = total + i * k
    return total


def with_exits(v):
    total = 0.0
    for a in twice(v):
        if a < 2:
            continue
        if a > 5:
            break
        total = total + a
    else:
        return -total
    return total


def returned_from(v):
    for a, b in fibonacci(v[0]):
        if b > 5:
            return a
    return v[1]


def of_objects(v):
    total, last = 0.0, None
    for a in Rows(v):
        total = total + a
    for i, a in Rows(v).pairs(1.0):
        last = a
        if a > 4:
            total = total + i
            break
    return total, last


def in_a_list(v):
    out = []
    for a in positive(v):
        out.append(a * 2)
    return out, [a + 1 for a in positive(v)]


def changing_a_cell(v):
    seen = [0, v[0]]

    def add(a):
        seen[0] += 1
        seen[1] = seen[1] + a

    for a in positive(v):
        add(a)
    return seen


FUNCTIONS = [summed, in_a_while, with_exits, returned_from, of_objects, in_a_list, changing_a_cell]


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_loops_over_generators(f):
    traced = tj.function(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConversionWarning)
        for v in (V, -V, V * 0.5):
            assert plain(traced(v)) == plain(f(v))


def test_a_generator_that_a_loop_leaves_does_what_is_left(capsys):
    def f(v):
        for a in with_an_end(v):
            if a > 2:
                return a
        return v[0]

    want = float(f(V)), capsys.readouterr().out
    assert (float(tj.function(f, strict=True)(V)), capsys.readouterr().out) == want


def test_gradients_through_a_generator():
    with tj.GradientTape() as tape:
        tape.watch(V)
        y = tj.function(summed)(V * V - 5.0)
    np.testing.assert_array_equal(tape.gradient(y, V), [0.0, 0.0, 6.0, 8.0, -10.0, 12.0])


def caught(v):
    try:
        yield v[0]
        if v[1] > 0:
            yield v[1]
    except ValueError:
        yield v[2]


def sent(v):
    got = yield v[0]
    if v[1] > 0:
        yield got


@pytest.mark.parametrize("g", [caught, sent])
def test_what_stays_a_generator_falls_back(g):
    def f(v):
        total = 0.0
        for a in g(v):
            total = total + (0.0 if a is None else a)
        return total

    with pytest.warns(ConversionWarning, match="is a generator"):
        assert plain(tj.function(f)(V)) == plain(f(V))


def test_a_generator_is_gone_through_once():
    def f(v):
        rows = counted(3)
        first = 0
        for a in rows:
            first = first + a
        for a in rows:
            first = first + 100
        return first + v[0]

    def begun(v):
        rows = counted(4)
        next(rows)
        total = v[0]
        for a in rows:
            total = total + a
        return total

    for g in (f, begun):
        assert plain(tj.function(g)(V)) == plain(g(V))

    def left(v):
        rows = counted(5)
        for a in rows:
            if v[a] < 0:
                break
        return next(rows)

    with pytest.warns(ConversionWarning, match="gone through again"):
        assert plain(tj.function(left)(V)) == plain(left(V))
