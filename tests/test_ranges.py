"""`tj.range` with bounds that the program computes: as long as the eager one, and of its dtype."""

import numpy as np
import pytest

import tracejit as tj

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "bfloat16", "float32", "float64"]
CALLS = {
    "limit": (tj.range, (5,)),
    "empty": (tj.range, (5, 3)),
    "three": (tj.range, (1, 9, 3)),
    "as float": (lambda n: tj.range(n, dtype=tj.float32), (4,)),
    "as int16": (lambda n: tj.range(n, dtype=tj.int16), (4,)),
    "one tensor": (lambda n: tj.range(1, n, 2), (8,)),
}


def traced(f, autograph=False):
    return tj.function(lambda *xs: f(*xs), autograph=autograph)


def assert_alike(f, *xs):
    eager = f(*xs)
    for autograph in (False, True):
        found = traced(f, autograph)(*xs)
        assert (found.dtype, found.shape) == (eager.dtype, eager.shape)
        np.testing.assert_array_equal(np.asarray(found, np.float64), np.asarray(eager, np.float64))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_bounds_of_any_dtype(dtype, name):
    f, bounds = CALLS[name]
    assert_alike(f, *[tj.constant(b, dtype) for b in bounds])


@pytest.mark.parametrize("dtype", ["int8", "int64", *FLOATS])
def test_downwards(dtype):
    assert_alike(lambda n: tj.range(n, 0, -2), tj.constant(7, dtype))


def test_fractions():
    assert_alike(lambda n: tj.range(0.5, n, 0.25), tj.constant(2.1))
    assert_alike(tj.range, tj.constant(2), tj.constant(5.5))


def test_bounds_of_several_dtypes():
    assert_alike(lambda a, b: tj.range(a, b, 2), tj.constant(2, tj.int8), tj.constant(9, tj.int16))


@pytest.mark.parametrize("bounds", [(2**63 + 5, 2**63 + 9), (2**64 - 1, 0)])
def test_bounds_that_no_signed_integer_holds(bounds):
    assert_alike(tj.range, *[tj.constant(b, tj.uint64) for b in bounds])


@pytest.mark.parametrize(
    ("bounds", "said"),
    [((0, 5, 0), "a delta that is not 0"), ((0.0, 5.0, 0.0), "a delta that is not 0"), ((0.0, np.inf, 1.0), "finite"),
     ((0.0, np.nan, 1.0), "finite")],
)  # fmt: skip
def test_what_is_no_range(bounds, said):
    xs = [tj.constant(b) for b in bounds]
    for f in (tj.range, traced(tj.range)):
        with pytest.raises(tj.errors.ArgumentError, match=said):
            f(*xs)


def test_a_bound_is_a_single_number():
    for f in (tj.range, traced(tj.range)):
        with pytest.raises(tj.errors.ShapeError, match="single numbers"):
            f(tj.constant(1), tj.constant([9]))
