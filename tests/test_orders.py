"""Python's order of tensors: `sorted`, `list.sort`, `min`, `max` and `in` where only the program knows the values."""

import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning


class Held:
    value = tj.constant(0.3)


ITEMS = {"p": tj.constant(0.1)}
LIST = [1.0]


def captured_maximum(a):
    return max(2.0, ITEMS["p"]) + a, max(Held.value, 0.0), min(Held.value, ITEMS["p"])


def captured_decides(a):
    if max(Held.value, 2.0) > a:
        return a
    return -a


def captured_in(a):
    return (Held.value in [1.0, 2.0]) * a, Held.value not in (ITEMS["p"], Held.value)


def captured_sorted(a):
    return sorted([Held.value, ITEMS["p"]])[0] + a


def sorted_by_key(a):
    return sorted([Held.value, a, 0.5 * a], key=lambda q: -q)


def sorted_back(a):
    return sorted([Held.value, a, 0.5 * a], reverse=True)


def sorted_pairs(a):
    found = sorted([(a, 1), (Held.value, 2), (a * 0 + 0.3, 3)], key=lambda q: -q[0])
    return [p for p, _ in found], [i for _, i in found]


def best_by_key(a):
    every = [Held.value, a, ITEMS["p"]]
    return min(every, key=lambda q: -q), max(every, key=lambda q: -q), max(a, Held.value, key=lambda q: q * q)


def sort_in_place(a):
    x = [a, Held.value, ITEMS["p"]]
    x.sort(key=lambda v: -v)
    y = [a, Held.value]
    y.sort()
    return x, y


def numbers_by_key(a):
    return sorted([3, 1, 2], key=lambda v: -v)[0] + a, max([1, 2], key=lambda v: 0), min([], key=abs, default=7)


def plain(x):
    if isinstance(x, (tuple, list)):
        return [type(x).__name__, *map(plain, x)]
    return np.asarray(x).tolist()


FUNCTIONS = [
    captured_maximum, captured_decides, captured_in, captured_sorted, sorted_by_key, sorted_back, sorted_pairs,
    best_by_key, sort_in_place, numbers_by_key,
]  # fmt: skip


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_orders_are_those_of_python(f):
    traced = tj.function(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConversionWarning)
        for v in (1.0, -1.0, 0.3):
            assert plain(traced(tj.constant(v))) == plain(f(tj.constant(v)))


def test_a_list_from_outside_is_sorted_in_each_call():
    log = []

    @tj.function
    def f(x):
        log.append(x)
        log.sort(key=lambda v: -v)
        return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConversionWarning)
        for v in (1.0, 3.0, 2.0):
            f(tj.constant(v))
    assert list(map(float, log)) == [3.0, 2.0, 1.0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_the_least_and_greatest_of_python_numbers_are_python_numbers(dtype):
    def f(x):
        n = 10
        while n > 3 and tj.reduce_sum(x) < 100:
            n = n - 1
        return x * max(n, 1), x + min(n, 3), x - max([n, 2, 5]), max(2**40, n) - 2**40, min(n, 7) / 2

    x = tj.constant([1, 2], dtype)
    for got, want in zip(tj.function(f)(x), f(x), strict=True):
        assert getattr(got, "dtype", float) == getattr(want, "dtype", float) or not hasattr(want, "dtype")
        np.testing.assert_allclose(got, want)
