"""No memory for a tensor: one class of error, eagerly and traced, that says which, and leaves everything as it was."""

import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError, CompileWarning, OutOfMemoryError

LONG = np.ones((8_000_000,), np.float32)


def outer(x):
    return x[:, None] * x[None, :] + 1.0


def filled(x):
    return tj.zeros((10**14,)) + 1.0


def sorted_outer(x):
    return tj.sort(tj.reshape(x[:, None] * x[None, :], (-1,)))


def by_a_tensor(x):
    n = tj.cast(x[0], tj.int64) * 2**40
    return tj.zeros((n, n))


@pytest.fixture(autouse=True)
def no_blame():
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompileWarning)
        yield


@pytest.mark.parametrize("f", [outer, filled, sorted_outer, by_a_tensor])
@pytest.mark.parametrize("compiled", [False, True])
def test_error(f, compiled):
    g = tj.function(f) if compiled else f
    for _ in range(2):
        with pytest.raises(OutOfMemoryError) as e:
            g(tj.constant(LONG))
        assert isinstance(e.value, MemoryError) and isinstance(e.value, ArgumentError)
        text = str(e.value)
        assert "test_out_of_memory.py" in text and f" in {f.__name__}" in text


def test_message_of_traced_code():
    with pytest.raises(MemoryError, match=r"f32\[8000000,8000000\], 256,000,000,000,000 bytes, of "):
        tj.function(outer)(tj.constant(LONG))


def test_a_plan_that_native_code_takes():
    f = tj.function(lambda x: x[:, None] * x[None, :] + 1.0)
    spec = tj.TensorSpec((None,), tj.float32)
    g = tj.function(lambda x: x[:, None] * x[None, :] + 1.0, input_signature=[spec])
    for h in (f, g):
        assert h(tj.ones((3,))).shape == (3, 3)
        for _ in range(3):
            with pytest.raises(OutOfMemoryError, match="bytes"):
                h(tj.constant(LONG))
        assert h(tj.ones((3,))).shape == (3, 3)


def test_variables_stay_as_they_were():
    w = tj.Variable([1.0, 2.0])

    @tj.function
    def f(x):
        w.assign_add([1.0, 1.0])
        return sorted_outer(x * w[0])

    with pytest.raises(MemoryError):
        f(tj.constant(LONG))
    assert w.numpy().tolist() == [1.0, 2.0]


def test_an_error_of_the_users_stays_what_it_is():
    def fails(x):
        raise MemoryError("mine")

    f = tj.function(lambda x: tj.py_function(fails, [x], tj.float32))
    with pytest.raises(MemoryError, match="mine") as e:
        f(tj.ones(()))
    assert type(e.value) is MemoryError
