"""Arrays that are not quite arrays, and copies that are not wanted."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError, GradientError, ShapeError


@pytest.mark.parametrize("make", [tj.constant, tj.Variable])
def test_a_copy_that_is_not_wanted(make):
    t = make([1, 2])
    assert np.asarray(t).dtype == np.int32 and np.asarray(t, np.float64).tolist() == [1.0, 2.0]
    if int(np.__version__.split(".")[0]) >= 2:
        assert np.array(t, copy=False).tolist() == [1, 2]
        with pytest.raises(ValueError, match="is a copy"):
            np.array(t, dtype=np.float64, copy=False)


@pytest.mark.parametrize("traced", [False, True])
def test_masked_arrays(traced):
    a = np.ma.array([1.0, 2.0], mask=[0, 1])
    for f in (tj.constant, tj.Variable, lambda x: tj.ones(2) + x, tj.reduce_sum):
        g = tj.function(lambda f=f: f(a) + 0.0) if traced else lambda f=f: f(a) + 0.0
        with pytest.raises(ArgumentError, match="masked elements"):
            g()
    assert tj.constant(np.ma.array([1.0, 2.0])).numpy().tolist() == [1.0, 2.0]
    assert tj.constant(a.filled(0.0)).numpy().tolist() == [1.0, 0.0]


@pytest.mark.parametrize("d", [tj.float16, tj.bfloat16])
@pytest.mark.parametrize("bins", [1, 4, 40])
@pytest.mark.parametrize("shape", [(37,), (37, 3)])
def test_narrow_sums_of_segments(d, bins, shape):
    rng = np.random.default_rng(0)
    x = tj.cast(tj.constant(rng.normal(size=shape) * 3.0), d)
    i = tj.constant(rng.integers(0, bins, 37))
    f = lambda x, i: tj.cast(tj.math.unsorted_segment_sum(x, i, bins), tj.float32)  # noqa: E731
    wide = np.zeros((bins, *shape[1:]), np.float32)
    np.add.at(wide, i.numpy(), tj.cast(x, tj.float32).numpy())
    want = tj.cast(tj.cast(tj.constant(wide), d), tj.float32).numpy()
    assert (f(x, i).numpy() == want).all()
    assert (tj.function(f)(x, i).numpy() == want).all()


def test_gradients_of_keywords_are_explained():
    @tj.custom_gradient
    def f(x, y):
        return x * y, lambda u: (u * y, u * x)

    x, y = tj.constant(2.0), tj.constant(3.0)
    with tj.GradientTape() as t:
        t.watch(x)
        z = f(x, y=y)
    with pytest.raises(GradientError, match="2 gradients for 1 tensors; arguments given by keyword have none"):
        t.gradient(z, x)


def test_variables_of_open_shape_are_refused():
    with pytest.raises(ShapeError, match="does not change"):
        tj.Variable([1.0, 2.0], shape=(None,))
