"""Options of functions mean eagerly what they mean in traced functions."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError, DTypeError, GradientError, ShapeError

MODES = pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])


@MODES
def test_weights_and_dtype_of_a_confusion_matrix(wrap):
    labels, found = tj.constant([0, 1, 2, 1]), tj.constant([0, 2, 2, 1])
    weights = tj.constant([0.5, 1.5, 2.0, 3.0])

    def weighted(a, p, w):
        return tj.math.confusion_matrix(a, p, num_classes=4, weights=w, dtype=tj.float64)

    y = wrap(weighted)(labels, found, weights)
    assert y.dtype is tj.float64
    assert y.numpy().tolist() == [[0.5, 0, 0, 0], [0, 3, 1.5, 0], [0, 0, 2, 0], [0, 0, 0, 0]]
    y = wrap(lambda a, p: tj.math.confusion_matrix(a, p, dtype=tj.float32))(labels, found)
    assert y.dtype is tj.float32 and y.numpy().tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]


@MODES
@pytest.mark.parametrize("make", [tj.zeros, tj.ones])
def test_dtypes_of_filled_tensors(make, wrap):
    for given, wanted in [
        (float, tj.float32), (int, tj.int32), (complex, tj.complex64), (bool, tj.bool), ("int16", tj.int16),
        (np.float64, tj.float64), (">f4", tj.float32),
    ]:  # fmt: skip
        if isinstance(given, str) and given.startswith(">"):
            given = np.dtype(given)
        assert wrap(lambda given=given: make([2], given))().dtype is wanted
    for given in ("S3", object, "M8[s]"):
        with pytest.raises(DTypeError):
            wrap(lambda given=given: make([2], given))()


@MODES
def test_negative_batch_dims_of_gather(wrap):
    x, i = np.arange(20.0).reshape(4, 5), np.array([[0, 1, 4], [2, 2, 2], [1, 0, 3], [4, 4, 0]])
    y = wrap(lambda x, i: tj.gather(x, i, axis=1, batch_dims=-1))(x, i)
    np.testing.assert_array_equal(y, np.take_along_axis(x, i, 1))
    assert wrap(lambda x, i: tj.gather(x, i, axis=1, batch_dims=-2))(x, i).shape == (4, 4, 3)
    with pytest.raises(ShapeError, match="batch_dims -3"):
        wrap(lambda x, i: tj.gather(x, i, axis=1, batch_dims=-3))(x, i)
    with pytest.raises(ArgumentError, match="batch_dims is 0 … 2 here, not -1"):
        wrap(lambda x, i: tj.gather_nd(x, i, batch_dims=-1))(x, i)


@MODES
def test_moments_of_complex_numbers(wrap):
    x = np.array([1 + 1j, 2 - 1j, 0j])
    mean, variance = wrap(lambda x: tj.nn.moments(x, [0]))(x)
    np.testing.assert_allclose(mean, x.mean())
    np.testing.assert_allclose(variance, x.var())
    assert variance.dtype is tj.complex128


def test_functions_that_take_functions_refuse_other_things():
    for make in tj.custom_gradient, tj.recompute_grad:
        with pytest.raises(ArgumentError, match="takes a function, not int"):
            make(3)
    with pytest.raises(DTypeError, match="branch_index is an integer, not f32"):
        tj.switch_case(tj.ones([]), [lambda: 1, lambda: 2])


@MODES
def test_a_gradient_function_that_does_not_take_variables_is_explained(wrap):
    w, x = tj.Variable(2.0, name="scale"), tj.constant(3.0)
    f = tj.custom_gradient(lambda a: (a * w, lambda g: g))

    def run(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x)

    with pytest.raises(GradientError, match="reads 'scale:0', but its gradient function does not take `variables`"):
        wrap(run)(x)


@pytest.mark.parametrize("axis", [None, 0, ()])
def test_complex_numbers_have_no_largest(axis):
    for f in tj.reduce_max, tj.reduce_min:
        with pytest.raises(DTypeError, match="complex"):
            f(tj.constant([1j, 2.0]), axis=axis)
