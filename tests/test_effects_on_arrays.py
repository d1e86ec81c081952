"""NumPy arrays from outside that a traced function writes to: each call writes what plain Python would."""

import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning

FLOATS = np.zeros(4)
SQUARE = np.zeros((2, 2))
WHOLES = np.zeros(3, np.int64)


def items(x):
    for i in range(3):
        FLOATS[i] = float(x) * i
    SQUARE[0, 1] = int(x)
    WHOLES[int(x)] = 7
    return x * 2


def tensors(x):
    FLOATS[0] = x
    SQUARE[1] = tj.stack([x, x * 2])
    return x


def in_place(x):
    global FLOATS
    FLOATS += float(x)
    FLOATS *= 2
    return x


def in_branches(x):
    if x > 1:
        FLOATS[0] = float(x)
    else:
        FLOATS[1] = 5.0
    return x


def in_loops(x):
    i = 0
    while x < 10:
        FLOATS[i] = float(x)
        i += 1
        x = x * 3
    return x


def from_own_arrays(x):
    t = np.array([1.0, 2.0, 3.0, 4.0])
    FLOATS[[0, 2]] = t[:2]
    t[0] = 9.0
    return x * t[0]


def read_by_an_operation_before(x):
    y = tj.reduce_sum(x * FLOATS)
    FLOATS[0] = float(x) + 1
    return y


def returned(x):
    FLOATS[0] = float(x)
    return FLOATS


def outside_its_bounds(x):
    FLOATS[5] = 1.0
    return x


def read_before(x):
    y = x * FLOATS[0]
    FLOATS[0] = 3.0
    return y


def read_after(x):
    FLOATS[0] = float(x) + 1
    return x * FLOATS[0]


def read_after_by_an_operation(x):
    FLOATS[0] = float(x) + 1
    return tj.reduce_sum(x * FLOATS)


def counted(x):
    WHOLES[int(x)] += 1
    return x


def slices(x):
    FLOATS[1:3] = float(x)
    return x


def own_in_a_branch(x):
    own = np.zeros(3)
    if x > 1:
        own[0] = 1.0
    return x * own[0]


CONVERTED = [
    items, tensors, in_place, in_branches, in_loops, from_own_arrays, read_by_an_operation_before, returned,
    outside_its_bounds, counted, slices, own_in_a_branch,
]  # fmt: skip
FALLING_BACK = [read_before, read_after, read_after_by_an_operation]


def seen(f):
    out = []
    for a in (FLOATS, SQUARE, WHOLES):
        a[:] = 1
    for v in (1.0, 2.0, 1.5, 1.0):
        try:
            y = repr(f(tj.constant(v)))
        except IndexError:
            y = "IndexError"
        out.append([y, FLOATS.tolist(), SQUARE.tolist(), WHOLES.tolist()])
    return out


@pytest.mark.parametrize("f", CONVERTED, ids=lambda f: f.__name__)
def test_written_after_each_call(f):
    traced = tj.function(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConversionWarning)
        assert seen(traced) == seen(f)
    assert len(traced.traces) == 1


@pytest.mark.parametrize("f", FALLING_BACK, ids=lambda f: f.__name__)
def test_what_is_read_too_falls_back(f):
    with pytest.warns(ConversionWarning, match="plain Python"):
        assert seen(tj.function(f)) == seen(f)
