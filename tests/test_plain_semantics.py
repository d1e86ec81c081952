"""Small things of the language that mean in traced functions what they mean in Python."""

import contextlib
import statistics
import unittest
import warnings

import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning

SEEN, CASE = [], unittest.TestCase()


def seen(v):
    SEEN.append(v)
    return v > 1


# --- these compile ----------------------------------------------------------------------------------------------------
def any_ends_early(x):
    r = any(seen(v) for v in [1, 2, 3])
    return x * r + len(SEEN)


def all_ends_early(x):
    r = all(seen(v) for v in [2, 1, 3])
    return x * r + len(SEEN)


def any_of_tensors(x):
    return x + any(x * v > 4 for v in [1, 2, 3]) + all(x > v for v in [-1, 0.25, 0]) + any([x > 1, True])


def the_last_of_any(x):
    found = any((last := v) > 1 for v in [1, 2, 3])
    return x * last * found


def annotated_in_branches(x):
    if x > 0:
        y: float = x * 2
    else:
        y: float = x
    return y


def annotated_in_loops(x):
    y: float
    for i in range(3):
        z: tj.Tensor = x * i
        for _ in tj.range(2):
            w: float = z + 1
            x = x + w
        if x > w:
            w: float = w + 1
            x = x + w
    y = x
    return y


def numbers_in_bytes(x):
    t = 0
    for b in range(1, 128):
        if b in b"abc\n":
            continue
        if chr(b) in "xyz":
            t += 1
        t += 1
    return x * t


# --- these run as plain Python ----------------------------------------------------------------------------------------
def any_that_a_tensor_ends(x):
    r = any(seen(v) and v > x for v in [1, 2, 3])
    return x * r + len(SEEN)


def errors_that_a_library_catches(x):
    with CASE.assertRaises(TypeError):
        statistics.quantiles()
    return x


FUNCTIONS = [f for f in list(globals().values()) if getattr(f, "__code__", None) and f.__module__ == __name__]
FUNCTIONS.remove(seen)
FIRST = FUNCTIONS.index(any_that_a_tensor_ends)


def outcomes(f):
    SEEN.clear()
    return [(float(f(tj.constant(v))), list(SEEN)) for v in (2.0, -0.5, 5.0)]


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_as_in_plain_python(f):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert outcomes(tj.function(f)) == outcomes(f)
    assert [w.category for w in said] == [ConversionWarning] * (FUNCTIONS.index(f) >= FIRST)


class Counted(contextlib.ContextDecorator):
    def __enter__(self):
        SEEN.append("in")

    def __exit__(self, *error):
        SEEN.append("out")


@contextlib.contextmanager
def counted():
    SEEN.append("begin")
    yield
    SEEN.append("end")


@Counted()
def doubled(x):
    return x * 2 if x > 0 else x


@counted()
def tripled(x):
    return x * 3 if x > 0 else x


class Added:
    def __init__(self, v):
        self.v = v

    def __radd__(self, other):
        return self.v + len(other)

    def __rmul__(self, other):
        return self.v * len(other)

    def __eq__(self, other):
        SEEN.append("==")
        return NotImplemented

    __hash__ = None


def added(x):
    return [x] + Added(x) + "ab" * Added(x) + (Added(x) == 1) + (Added(x) != 1)


@pytest.mark.parametrize("f", [lambda x: doubled(x) + len(SEEN), lambda x: tripled(x) + len(SEEN), added])
def test_calls_of_special_methods(f):
    assert outcomes(tj.function(f, strict=True)) == outcomes(f)
