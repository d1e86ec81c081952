"""Functions of `functools.lru_cache` that traced functions call: what they have kept, and when they keep another."""

import functools
import warnings

import numpy as np
import pytest
from changing import X, check, scenes_of

import tracejit as tj
from tracejit.errors import ConversionWarning

CASES = {}
scene = scenes_of(CASES)


@pytest.mark.parametrize("name", CASES)
def test_changes_are_seen(name):
    make, options = CASES[name]
    check(make, **options)


def setting(k):
    """What sets an item of a list to each of these."""
    return lambda value: lambda: k.__setitem__(0, value)


@scene()
def what_it_reads_changes_nothing_until_it_is_cleared():
    k = [1.0]
    put = setting(k)

    @functools.lru_cache
    def f(n):
        return n * k[0]

    return lambda x: x * f(3), put(2.0), f.cache_clear, put(1.0), f.cache_clear


@scene()
def without_bounds():
    k = [1.0]
    put = setting(k)

    @functools.cache
    def f(n, *, m=1):
        return n * m * k[0]

    return lambda x: x * f(3) + f(3, m=2), put(2.0), f.cache_clear, put(1.0), f.cache_clear


@scene()
def with_types():
    k = [1.0]
    put = setting(k)

    @functools.lru_cache(typed=True)
    def f(a, b=1, *, c=2):
        return a * b * c * k[0]

    return lambda x: x * f(3, c=1) + f(2.0, 1), put(5.0), f.cache_clear


@scene()
def results_that_make_way_for_others():
    made = []

    @functools.lru_cache(maxsize=1)
    def f(n):
        made.append(n)
        return float(len(made))

    return lambda x: x * f(3), lambda: f(4), lambda: None, lambda: f(5)


@scene()
def methods():
    class C:
        k = 1.0

        @functools.lru_cache
        def method(self, n):
            return self.k * n

        @staticmethod
        @functools.cache
        def static(n):
            return n * C.k

        @classmethod
        @functools.cache
        def of_class(cls, n):
            return n * cls.k

        @property
        @functools.cache
        def value(self):
            return self.k

    c = C()
    return (
        lambda x: x * c.method(2) * c.static(3) * C.of_class(1) * c.value, lambda: setattr(C, "k", 2.0),
        C.method.cache_clear, C.static.cache_clear, C.of_class.__func__.cache_clear, C.value.fget.cache_clear,
    )  # fmt: skip


@scene()
def called_by_others():
    k = [1.0]
    put = setting(k)

    @functools.cache
    def f(n):
        return n * k[0]

    def helper(n):
        return f(n) + 1.0

    return lambda x: x * helper(2) + sum(map(f, [1, 2])), put(2.0), f.cache_clear, put(1.0), f.cache_clear


@scene()
def lists_that_it_keeps():
    @functools.cache
    def f(n):
        return [n]

    return lambda x: x * sum(f(2.0)), lambda: f(2.0).append(5.0), f.cache_clear


@scene()
def tensors_that_it_makes():
    k = [1.0]
    put = setting(k)

    @functools.lru_cache
    def f(n):
        return tj.ones((n,)) * k[0]

    return lambda x: x * f(3) + f(3), put(3.0), f.cache_clear, put(1.0), f.cache_clear


@scene()
def that_keeps_nothing():
    k = [1.0]
    put = setting(k)

    @functools.lru_cache(maxsize=0)
    def f(n):
        return n * k[0]

    return lambda x: x * f(3), put(2.0), put(1.0)


@scene()
def the_function_behind_it():
    k = [1.0]
    put = setting(k)

    @functools.cache
    def f(n):
        return n * k[0]

    return lambda x: x * f.__wrapped__(3), put(2.0), put(1.0)


@scene(falls_back=True)
def cleared_in_the_function():
    k = [1.0]
    put = setting(k)

    @functools.cache
    def f(n):
        return n * k[0]

    def cleared(x):
        f.cache_clear()
        return x * f(2)

    return cleared, put(2.0), put(1.0)


def test_it_is_called_once_for_each_key():
    made = []

    @functools.lru_cache
    def f(n):
        made.append(n)
        return n * 2.0

    g = tj.function(lambda x: x * f(3) + f(4))
    for _ in range(4):
        np.testing.assert_array_equal(g(X), X * f(3) + f(4))
    assert made == [3, 4]
    for k in range(10):  # others are kept meanwhile
        f(100 + k)
        g(X)
    assert g.experimental_get_tracing_count() == 1


def test_what_it_keeps_is_no_part_of_a_trace():
    @functools.lru_cache
    def mask(n):
        return tj.ones((n,)) * 2.0

    g = tj.function(lambda x: x * mask(3))
    g(X)
    np.testing.assert_array_equal(mask(3).numpy(), [2.0, 2.0, 2.0])


def test_numbers_that_are_inputs_are_asked_for():
    made = []

    @functools.cache
    def f(n):
        made.append(n)
        return n * 2

    g = tj.function(lambda x, n: x * f(n), strict=True)
    assert [float(g(X, n)) for n in (1, 2, 1, 2, 3)] == [4.0, 8.0, 4.0, 8.0, 12.0]
    assert made == [1, 2, 3] and all(type(n) is int for n in made)


@pytest.mark.parametrize("how", ["tensor", "info"])
def test_what_cannot_be_kept_runs_as_plain_python(how):
    @functools.lru_cache
    def f(n):
        return n * 2.0

    uses = {"tensor": lambda x: f(x) + 1.0, "info": lambda x: x * f(3) + f.cache_info().maxsize}
    g = tj.function(uses[how])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            np.testing.assert_array_equal(g(X), uses[how](X))
    assert [w.category for w in seen] == [ConversionWarning]
