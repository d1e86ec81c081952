"""Arguments of the explicit forms and of ranges that decide what is an error: the same eagerly and in a trace."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError, ControlFlowError

BOTH = pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])


@BOTH
def test_exclusive_cases_are_checked(wrap):
    @wrap
    def f(x):
        pairs = [(x > 5, lambda: x * 2.0), (x > 2, lambda: x**3)]
        return tj.case(pairs, default=lambda: -x, exclusive=True)

    assert [float(f(tj.constant(v))) for v in (3.0, 1.0)] == [27.0, -1.0]
    with pytest.raises(ControlFlowError, match="more than one"):
        f(tj.constant(7.0))


@BOTH
def test_vectorized_map_repeats_what_has_one_row(wrap):
    @wrap
    def f(x, y):
        return tj.vectorized_map(lambda row: row["a"] * row["b"], {"a": x, "b": y})

    x = tj.constant([1.0, 2.0, 3.0])
    assert f(x, tj.constant([2.0])).numpy().tolist() == [2.0, 4.0, 6.0]
    assert f(tj.ones([1, 2]), tj.ones([1, 2])).shape == (1, 2)
    assert f(tj.ones([0, 2]), tj.ones([1, 2])).shape == (0, 2)
    with pytest.raises(ValueError, match="leading axes"):
        f(x, tj.constant([2.0, 3.0]))


@BOTH
def test_tensor_arrays_take_lists_of_numbers(wrap):
    @wrap
    def f(v):
        a = tj.TensorArray(tj.float32, size=4).scatter([0, 3], v)
        b = tj.TensorArray(tj.float32, size=2).split(v, [1, 1])
        return a.stack(), b.read(1)

    a, b = f(tj.constant([1.0, 2.0]))
    assert a.numpy().tolist() == [1.0, 0.0, 0.0, 2.0]
    assert b.numpy().tolist() == [2.0]


@BOTH
def test_tensor_arrays_take_places_that_are_data(wrap):
    @wrap
    def f(places, v):
        return tj.TensorArray(tj.float32, size=4).scatter(places, v).stack()

    got = f(tj.constant([2, 0]), tj.constant([1.0, 2.0]))
    assert got.numpy().tolist() == [2.0, 0.0, 1.0, 0.0]


@BOTH
def test_a_step_of_zero_is_an_error(wrap):
    @wrap
    def f(start, stop, step):
        total = tj.constant(0)
        for i in range(start, stop, step):
            total = total + i
        return total

    numbers = [tj.constant(n) for n in (0, 5, 2)]
    assert int(f(*numbers)) == 6
    with pytest.raises(ValueError, match="zero"):
        f(numbers[0], numbers[1], tj.constant(0))
    with pytest.raises(ValueError, match="zero"):
        f(numbers[0], numbers[1], 0)


def test_the_step_of_a_traced_range_says_where_it_is():
    @tj.function
    def f(n, step):
        x = np.float32(0)
        for i in range(0, n, step):
            x = x + i
        return x

    with pytest.raises(ArgumentError, match=r"(?s)zero.*range\(0, n, step\)"):
        f(tj.constant(3), tj.constant(0))
