"""Assigning what is all of a tensor, its one item, row or slice: it gets memory of its own, as in NumPy."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import AliasError


def one_item(a):
    out = tj.zeros([1])
    for i in range(3):
        if a[i] > 0:
            out[0] = a[0]
    return out, a


def one_item_of_loop(a):
    out = tj.zeros([1])
    for _ in tj.range(3):
        out[0] = a[0]
    return out, a


def one_row(a):
    best = tj.zeros([1, 3])
    for i in tj.range(3):
        if a[i] > 1:
            best[0] = a
            best[0, i] = 7.0
    return best, a


def all_items(a):
    out, b = tj.zeros([3]), a * 2
    out[:] = b
    out[0] = 5.0
    return out, a, b


def the_argument(a):
    out = tj.zeros([3])
    out[:] = a
    out[0] = 5.0
    return out, a


def turned(a):
    out = tj.zeros([3])
    out[...] = a[::-1]
    out[0] += 5.0
    return out, a


def two_of_one(a):
    x, y = tj.zeros([1]), tj.zeros([1])
    x[0] = a[0]
    y[0] = a[0]
    x[0] += 1.0
    return x, y, a


FUNCTIONS = [one_item, one_item_of_loop, one_row, all_items, the_argument, turned, two_of_one]


@pytest.mark.parametrize("f", FUNCTIONS)
def test_what_is_assigned_is_a_copy(f):
    traced = tj.function(f, strict=True)
    for a in ([1.0, -2.0, 3.0], [-4.0, 5.0, 6.0]):
        with pytest.MonkeyPatch.context() as patch:  # NumPy says what is right
            patch.setattr(tj, "zeros", lambda shape: np.zeros(shape, np.float32))
            patch.setattr(tj, "range", range)
            want = f(np.array(a, np.float32))
        with tj.debug():
            plain = tj.function(f)(tj.constant(a))
        for made in (plain, traced(tj.constant(a))):
            for x, y in zip(made, want, strict=True):
                np.testing.assert_array_equal(x, y)


def test_a_view_is_one_still():
    @tj.function
    def f(a):
        out = tj.zeros([1])
        out[0] = a[0]
        view = a[0:1]
        view[0] = 3.0
        return out, a

    with pytest.raises(AliasError, match="items of 'view' are assigned, and 'a'"):
        f(tj.constant([1.0, 2.0]))
