"""Small promises of the interface: what is printed, what is refused, and what stays as it was."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import DTypeError, OutOfRangeError

A = np.arange(60.0).reshape(3, 4, 5)


def test_single_elements_print_in_their_own_precision():
    third = tj.constant(0.23272451758384705)
    assert repr(third) == "tj.Tensor(0.23272452, shape=(), dtype=float32)"
    assert str(tj.cast(third, tj.float64)).startswith("tj.Tensor(0.2327245175")


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(np.array([300]), "int8"), (np.array([-1]), "uint8"), (np.array([1.7]), "int32"), (np.array([1j]), "float32"),
     (1j, "float64"), (np.int64(2**40), "int32")],
)  # fmt: skip
def test_values_that_do_not_fit_the_asked_dtype_are_refused(value, dtype):
    with pytest.raises(DTypeError):
        tj.constant(value, dtype=dtype)
    with pytest.raises(DTypeError):
        tj.Variable(tj.zeros(np.shape(value), dtype)).assign(value)


def test_values_that_fit_the_asked_dtype_are_taken():
    assert tj.constant(np.array([100]), dtype=tj.int8).numpy().tolist() == [100]
    assert tj.constant(np.array([1.5]), dtype=tj.float16).dtype is tj.float16
    assert tj.cast(np.array([300.7]), tj.int32).numpy().tolist() == [300]


def test_memory_handed_out_by_dlpack_is_read_only():
    t = tj.constant([1, 2])
    a = np.from_dlpack(t)
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        with pytest.raises(ValueError, match="read-only"):
            a[0] = 5
    assert t.numpy().tolist() == [1, 2]


def test_the_sign_plus_reads_a_variable():
    v = tj.Variable([1.0])
    before, also = +v, np.positive(v)
    v.assign([2.0])
    assert (before.numpy().tolist(), also.numpy().tolist()) == ([1.0], [1.0])


def test_a_variable_made_inside_a_trace_is_new_in_each_call():
    f = tj.function(lambda x: tj.Variable(1.0).assign_add(x) * 1.0)
    assert [float(f(tj.ones(()))) for _ in range(3)] == [2.0] * 3


def scores(x, w):
    return tj.nn.softmax(x @ w - tj.reduce_mean(x, axis=1, keepdims=True))


@pytest.mark.parametrize("sizes", [(4, 0, 7), (0, 4), (4, 1, 0, 5)])
def test_a_signature_takes_empty_batches(sizes):
    f = tj.function(scores, input_signature=[tj.TensorSpec([None, 5]), tj.TensorSpec([5, 7])])
    w = tj.random.normal((5, 7))
    for n in sizes:
        x = tj.random.normal((n, 5))
        np.testing.assert_allclose(f(x, w), scores(x, w), rtol=1e-5, atol=1e-6)
    assert f.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("called_before", [False, True])
def test_a_concrete_function_is_open_where_its_specs_are(called_before):
    f = tj.function(scores)
    w = tj.random.normal((5, 7))
    if called_before:
        f(tj.ones((2, 5)), w)
    c = f.get_concrete_function(tj.TensorSpec([None, 5]), tj.TensorSpec([5, 7]))
    count = f.experimental_get_tracing_count()
    for n in (2, 3, 64):
        x = tj.random.normal((n, 5))
        np.testing.assert_allclose(c(x, w), scores(x, w), rtol=1e-5, atol=1e-6)
    assert f.experimental_get_tracing_count() == count
    assert f.get_concrete_function(tj.TensorSpec([None, 5]), tj.TensorSpec([5, 7])) is c


def test_specs_of_open_sizes_that_must_agree():
    f = tj.function(lambda x, y: x + y)
    f.get_concrete_function(tj.TensorSpec([None]), tj.TensorSpec([None]))
    assert f(tj.ones((3,)), tj.ones((3,))).shape == (3,)
    assert f.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("strided", [A[:, 0, 0], A[0, ::-2, 1], A.T[2, 1]], ids=["column", "backwards", "transposed"])
def test_captured_arrays_need_not_be_contiguous(strided):
    got = tj.function(lambda x: x + strided)(tj.constant(1.0))
    np.testing.assert_array_equal(got, strided + 1.0)


@pytest.mark.parametrize("wrap", [lambda k: k, tj.convert_to_tensor], ids=["array", "tensor"])
@pytest.mark.parametrize(
    "key", [A[:, :, 0] > 20, A > 30, np.array([True, False, True]), np.zeros(0, np.int64)],
    ids=["2d mask", "3d mask", "1d mask", "no index"],
)  # fmt: skip
def test_masks_and_indices_that_a_function_closes_over(key, wrap):
    k = wrap(key)
    np.testing.assert_array_equal(tj.function(lambda x: x[k])(tj.constant(A)), A[key])


def test_a_list_of_bools_is_a_mask_in_a_trace_too():
    for f in (lambda x: x[[True, False, True]], lambda x: x[..., [True, False, False, True, True]], lambda x: x[[]]):
        np.testing.assert_array_equal(tj.function(f)(tj.constant(A)), f(A.astype(float)) if f(A).size else A[:0])


@pytest.mark.parametrize("wrapper", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize(
    "key", [np.array([True, False]), (slice(None), np.array([True, False])), (..., np.ones((3, 5), bool))]
)
def test_masks_of_the_wrong_size_are_refused(wrapper, key):
    with pytest.raises(OutOfRangeError):
        wrapper(lambda x: x[key])(tj.constant(A))


@pytest.mark.parametrize("wrapper", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_an_index_out_of_range_names_the_line(wrapper):
    v = tj.Variable([1.0, 2.0, 3.0])

    def f(i):
        v.assign_add([1.0, 1.0, 1.0])
        return tj.gather(v, i) * 2.0  # the line at fault

    with pytest.raises(OutOfRangeError, match="the line at fault") as caught:
        wrapper(f)(tj.constant([0, 7]))
    assert "index 7" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 12
    if wrapper is tj.function:
        assert v.numpy().tolist() == [1.0, 2.0, 3.0]
