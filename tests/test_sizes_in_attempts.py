"""Slices at a loop's position that are used after it: loops that cannot be one node leave nothing in the trace."""

import warnings

import numpy as np
import pytest
from helpers import outcome

import tracejit as tj
from tracejit.errors import ConversionWarning


def both_parts(x):
    for k in range(1, len(x)):
        a, b = x[:k], x[k:]
        if tj.reduce_sum(a) >= tj.reduce_sum(b):
            break
    return tj.reduce_sum(a), tj.reduce_sum(b), k


def in_a_dict(x):
    d = {}
    for i in range(len(x)):
        d["last"] = x[i : i + 1]
        if x[i] > 4:
            break
    return d["last"]


def batches(x, n):
    for i in range(0, len(x), n):
        yield x[i : i + n]


def a_batch(x):
    s = tj.reduce_sum(x) * 0
    for b in batches(x, 2):
        s += tj.reduce_sum(b)
        if s > 12:
            break
    return s, tj.reduce_sum(b)


VALUES = [[1.0, 2, 3, 4, 5, 6], [0.0, 0, 0, 0, 0, 0], [10.0, 9, 8, 7, 6, 5]]


@pytest.mark.parametrize("f", [both_parts, in_a_dict, a_batch])
def test_slices_at_the_position_of_a_loop(f):
    traced = tj.function(f, strict=True)
    for v in VALUES:
        assert outcome(traced, tj.constant(v)) == outcome(f, tj.constant(v))


@pytest.mark.parametrize("f", [both_parts, a_batch])
def test_slices_of_several_sizes(f):
    traced = tj.function(f)
    for v in [[1.0, 2, 3, 4, 5], [9.0, 1, 1], [0.0, 0, 0, 0, 0, 0, 1]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConversionWarning)
            assert outcome(traced, tj.constant(v)) == outcome(f, tj.constant(v))


def test_a_given_up_attempt_leaves_no_checks():
    def window(x):
        for i in range(len(x) - 2):
            w = x[i : i + 3]
            if tj.reduce_sum(w) > 8:
                break
        return w

    f = tj.function(window, strict=True)
    text = str(f.get_concrete_function(tj.TensorSpec((6,))).graph)
    assert "found_" not in text
    np.testing.assert_array_equal(f(tj.constant(VALUES[0])), [2.0, 3.0, 4.0])
