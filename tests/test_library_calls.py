"""Iterators, generators and exit stacks of Python's own in traced functions: what they do, they do in each call."""

import contextlib
import itertools
import warnings

import pytest
from helpers import eager_and_traced

import tracejit as tj

KEPT = []


def counting():
    i = 0
    while True:
        yield i
        i += 1


@pytest.mark.filterwarnings("ignore:.*runs as plain Python")
@pytest.mark.parametrize(
    "make",
    [
        itertools.count, lambda: iter([0, 1, 2, 3, 4]), lambda: iter(range(9)),
        lambda: enumerate(iter("abcdef")),
        lambda: zip(itertools.count(), iter([5, 6, 7, 8, 9])),
    ],
)  # fmt: skip
def test_attempt_at_a_trace_moves_no_iterator_on(make):
    seen = []
    for _ in eager_and_traced():
        rows, kept = make(), []

        @tj.function
        def f(x):
            i = next(rows)
            if x > 0:
                kept.append(next(rows))
            return i

        seen.append(([f(tj.constant(x)) for x in (1.0, -1.0, 2.0)], kept))
    assert seen[0] == seen[1]


def test_iterators_are_moved_on_once_in_each_call():
    numbers, pairs = itertools.count(), enumerate(iter([5.0, 6.0, 7.0, 8.0]))

    @tj.function
    def f(x):
        i, row = next(pairs)
        return x + next(numbers), x + next(numbers), i, row

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(3):
            assert [float(y) for y in f(tj.constant(1.0))] == [1.0 + 2 * k, 2.0 + 2 * k, k, 5.0 + k]
    assert next(numbers) == 6


def test_generator_that_an_attempt_has_moved_on_is_an_error():
    rows = counting()

    @tj.function
    def f(x):
        i = next(rows)
        return next(rows) if x > 0 else i

    for _ in range(2):
        with pytest.raises(tj.errors.ConversionError, match="it has moved a generator on"):
            f(tj.constant(1.0))


def test_generators_that_values_are_sent_to():
    def summing():
        t = 0.0
        while True:
            v = yield t
            t = t + v

    totals = summing()
    next(totals)

    @tj.function
    def f(x):
        return totals.send(1.0) + x

    assert [float(f(tj.constant(0.5))) for _ in range(3)] == [1.5, 2.5, 3.5]
    assert f._tracing_count == 1


class Manager:
    def __enter__(self):
        KEPT.append("in")
        return 3.0

    def __exit__(self, *_):
        KEPT.append("out")


@contextlib.contextmanager
def managed(x):
    KEPT.append("begins")
    yield x * 2
    KEPT.append("ends")


def keep(v):
    KEPT.append(v)


def callbacks(x):
    with contextlib.ExitStack() as s:
        s.callback(KEPT.append, "a")
        s.callback(keep, "b")
        s.callback(keep, x)
        if x > 0:
            KEPT.append(x)
    return x


def managers(x):
    with contextlib.ExitStack() as s:
        y, z = s.enter_context(Manager()), s.enter_context(managed(x))
        s.push(Manager())
        if x > 0:
            x = x + y
            KEPT.append("positive")
        s.push(lambda *_: KEPT.append("pushed"))
        KEPT.append(z)
    return x + z


def callback_in_branch(x):
    with contextlib.ExitStack() as s:
        if x > 0:
            s.callback(keep, "b")
    return x


@pytest.mark.filterwarnings("ignore:callback_in_branch runs as plain Python")
@pytest.mark.parametrize("f", [callbacks, managers, callback_in_branch])
def test_exit_stacks(f):
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if f is callback_in_branch else "error")
        for _ in eager_and_traced():
            KEPT.clear()
            g = tj.function(f)
            seen.append([(str(g(tj.constant(x))), str(KEPT)) for x in (2.0, -1.0, 3.0)])
    assert seen[0] == seen[1]
    assert g._tracing_count == (f is not callback_in_branch)


def test_method_that_adds_is_no_read():
    KEPT.clear()

    @tj.function
    def f(x):
        add = KEPT.append
        add(x)
        if x > 0:
            add(x * 2)
        return x

    for x in (2.0, -1.0, 3.0):
        f(tj.constant(x))
    assert [float(x) for x in KEPT] == [2.0, 4.0, -1.0, 3.0, 6.0]
    assert f._tracing_count == 1


def tried(x):
    try:
        y = x + 1
        if x > 0:
            KEPT.append("positive")
    except ValueError:
        KEPT.append("failed")
    else:
        KEPT.append("else")
        y = y * 2
    finally:
        KEPT.append("finally")
    return y


def left_early(x):
    for i in range(3):
        try:
            if x > i:
                continue
            if x < -1:
                return x
            KEPT.append(i)
        finally:
            KEPT.append("finally")
    return x * 2


@contextlib.contextmanager
def closing(x):
    KEPT.append("begins")
    try:
        yield x + 1
    finally:
        KEPT.append("ends")


def closed(x):
    with closing(x) as y:
        if y > 0:
            KEPT.append(y)
        else:
            y = y - 1
    return y


def removed(x):
    try:
        if x > 0:
            KEPT.remove("there")
    except ValueError:
        x = x + 5
    return x


@pytest.mark.parametrize("f", [tried, left_early, closed, removed])
def test_what_a_branch_gives_a_list_is_no_error_to_be_caught(f):
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if f is removed else "error")
        for _ in eager_and_traced():
            KEPT[:] = ["there"]
            g = tj.function(f)
            seen.append([(str(g(tj.constant(x))), str(KEPT)) for x in (-1.0, 1.0, 5.0, -2.0)])
    assert seen[0] == seen[1]
