"""`sum` of the user's objects: what it starts from is added to, whatever it is equal to."""

import numpy as np
import pytest

import tracejit as tj


class Alike:
    def __init__(self, v):
        self.v = v

    def __add__(self, other):
        return type(self)(self.v + getattr(other, "v", other))

    def __radd__(self, other):
        return type(self)(getattr(other, "v", other) + self.v * 10)

    def __eq__(self, other):
        return True

    __hash__ = None


class Rows(Alike):
    def __eq__(self, other):
        return tj.constant([True, False])

    __hash__ = None


class Zero(Alike):
    def __eq__(self, other):
        return isinstance(other, int) and other == 0

    def __radd__(self, other):
        return Zero(self.v + (1.0 if other == 0 else other.v))

    __hash__ = None


def grown(x, start):
    found = []
    for _ in tj.range(3):
        found.append(x * 2)
    return sum(found, start)


SUMS = {
    "two": lambda x, kind: sum([kind(x), kind(x * 2)], kind(x + 5.0)).v,
    "generated": lambda x, kind: sum((kind(x * k) for k in range(3)), kind(x + 5.0)).v,
    "by name": lambda x, kind: sum([kind(x)], start=kind(x + 5.0)).v,
    "from 0": lambda x, kind: sum([kind(x), kind(x * 2)]).v,
    "nothing": lambda x, kind: sum([], kind(x + 5.0)).v,
    "tensors": lambda x, kind: sum([x, x], tj.constant([0.0, 0.0])),
    "array": lambda x, kind: sum([x, x], np.zeros(2, np.float32)),
    "minus 0": lambda x, kind: sum([-0.0 * x], -0.0),
    "grown": lambda x, kind: grown(x, kind(x)).v,
    "grown from tensor": lambda x, kind: grown(x, tj.constant([0.0, 0.0])),
}


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("kind", [Alike, Rows, Zero])
def test_the_start_of_a_sum(kind, name):
    traced = tj.function(SUMS[name], strict=True)
    for v in (2.0, 3.0):
        x = tj.constant(v)
        made, want = traced(x, kind), SUMS[name](x, kind)
        assert made.dtype == want.dtype
        np.testing.assert_array_equal(made, want)
        np.testing.assert_array_equal(np.signbit(made), np.signbit(want))
