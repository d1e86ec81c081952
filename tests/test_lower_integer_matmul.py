"""Products of integer matrices in native code, and products with batches that are repeated unevenly."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.lower.program import HostUnit
from tracejit.ops import contract as C

RNG = np.random.default_rng(5)
SHAPES = [((3, 4), (4, 5)), ((17, 33), (33, 70)), ((8, 100), (100, 32)), ((2, 9, 10), (2, 10, 11)),
          ((2, 1, 9, 10), (3, 10, 40)), ((5, 0), (0, 3)), ((0, 5), (5, 3)), ((9, 20), (20, 1)), ((1, 20), (20, 9)),
          ((2, 1, 9, 10), (1, 3, 10, 4)), ((300, 290), (290, 250))]  # fmt: skip


def native(f):
    return not any(type(u) is HostUnit for u in f.concrete_functions[-1].executable.program.units)


def integers(shape, dtype):
    ends = np.iinfo(dtype)
    return RNG.integers(ends.min, ends.max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("tb", [False, True], ids=["", "right transposed"])
@pytest.mark.parametrize("ta", [False, True], ids=["", "left transposed"])
@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64], ids=lambda d: d.__name__
)
def test_every_type_and_shape(dtype, ta, tb):
    for left, right in SHAPES:
        a, b = integers(left, dtype), integers(right, dtype)
        f = tj.function(lambda x, y: C.matmul(x, y, ta=ta, tb=tb))
        x = np.ascontiguousarray(np.swapaxes(a, -1, -2)) if ta else a
        y = np.ascontiguousarray(np.swapaxes(b, -1, -2)) if tb else b
        np.testing.assert_array_equal(np.asarray(f(x, y)), a @ b, strict=True)
        assert native(f)


def test_views():
    a, b = integers((20, 30), np.int32), integers((40, 60), np.int32)
    f = tj.function(lambda a, b: a[::2, ::-1] @ tj.transpose(b)[::2, 5:30])
    np.testing.assert_array_equal(f(a, b), a[::2, ::-1] @ b.T[::2, 5:30])
    assert native(f)


def test_sizes_may_change():
    f = tj.function(lambda a, b: a @ b + 1)
    for m, k, n in ((3, 4, 5), (9, 30, 17), (20, 20, 20), (1, 50, 33)):
        a, b = integers((m, k), np.int64), integers((k, n), np.int64)
        np.testing.assert_array_equal(f(a, b), a @ b + 1)


@pytest.mark.parametrize(
    "left,right", [((2, 1, 9, 10), (1, 3, 10, 4)), ((2, 1, 3, 1, 9, 10), (2, 5, 1, 4, 10, 4))], ids=str
)
def test_uneven_batches_of_floats(left, right):
    a, b = RNG.normal(size=left), RNG.normal(size=right)
    f = tj.function(lambda a, b: a @ b)
    np.testing.assert_allclose(f(a, b), a @ b)
    assert native(f)
