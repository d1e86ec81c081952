"""What programs written for TensorFlow ask of their surroundings: nests, scopes, static values, assertions."""

import collections

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError, DTypeError, ShapeError

Pair = collections.namedtuple("Pair", "first second")
NEST = {"b": [1, (2, 3)], "a": Pair(4, {"x": 5})}


# --- nests ------------------------------------------------------------------------------------------------------------
def test_flat_and_back():
    leaves = tj.nest.flatten(NEST)
    assert leaves == [4, 5, 1, 2, 3]
    assert tj.nest.pack_sequence_as(NEST, leaves) == NEST
    assert tj.nest.map_structure(lambda x, y: x + 10 * y, NEST, NEST)["a"] == Pair(44, {"x": 55})
    assert tj.nest.flatten(7) == [7]
    assert tj.nest.pack_sequence_as(7, [8]) == 8
    assert all(map(tj.nest.is_nested, ([], (), {}, Pair(1, 2))))
    assert not any(map(tj.nest.is_nested, (1, "ab", None, tj.ones(2), np.ones(2))))


def test_nests_of_tensors_in_compiled_functions():
    @tj.function
    def f(nest):
        return tj.nest.map_structure(lambda x: x * 2.0, nest)

    y = f({"a": tj.constant(1.0), "b": (tj.constant([2.0]),)})
    assert (float(y["a"]), y["b"][0].numpy().tolist()) == (2.0, [4.0])


def test_nests_that_differ():
    with pytest.raises(ValueError, match="5 leaves, the flat sequence 2"):
        tj.nest.pack_sequence_as(NEST, [1, 2])
    for a, b in (([1], [1, 2]), ([1], 1), ([1], [[1]]), ({"a": 1}, {"b": 1})):
        with pytest.raises(ValueError):
            tj.nest.assert_same_structure(a, b)
    with pytest.raises(TypeError):
        tj.nest.assert_same_structure([1], (1,))
    tj.nest.assert_same_structure([1, Pair(2, 3)], (4, (5, 6)), check_types=False)
    tj.nest.assert_same_structure({"a": 1}, collections.OrderedDict(a=2))
    with pytest.raises(ValueError):
        tj.nest.map_structure(max, [1, 2], [1])


# --- scopes and groups ------------------------------------------------------------------------------------------------
def test_scopes_change_nothing():
    def f(x):
        with tj.name_scope("layer") as scope, tj.device("/CPU:0"):
            y = x * 2.0
        with tj.control_dependencies([y]):
            tj.no_op()
            z = y + 1.0
        tj.group(y, z)
        assert scope == "layer/"
        return tj.tuple([y, z])

    for g in (f, tj.function(f, strict=True)):
        assert [float(t) for t in g(tj.constant(1.0))] == [2.0, 3.0]


@pytest.mark.parametrize("name", ["CPU:0", "/device:CPU:0", "/job:localhost/device:cpu:0", "cpu", None])
def test_the_cpu_by_its_names(name):
    with tj.device(name):
        pass


def test_there_are_no_other_devices():
    with pytest.raises(ArgumentError, match="GPU:0"), tj.device("/GPU:0"):
        pass


def test_whether_a_trace_is_under_way():
    seen = []

    @tj.function
    def f(x):
        seen.append((tj.executing_eagerly(), tj.inside_function(), tj.is_symbolic_tensor(x)))
        return x

    x = tj.constant(1.0)
    f(x)
    assert seen[0] == (False, True, True)
    assert tj.executing_eagerly()
    assert not tj.inside_function()
    assert not tj.is_symbolic_tensor(x)
    assert not tj.is_symbolic_tensor(1.0)


def test_values_that_are_known_already():
    assert tj.get_static_value(tj.constant([1, 2])).tolist() == [1, 2]

    @tj.function
    def f(x):
        assert tj.get_static_value(x) is None
        assert tj.get_static_value(tj.reduce_sum(x)) is None
        assert tj.get_static_value(tj.shape(x) * 2).tolist() == [6]
        return x

    f(tj.constant([1, 2, 3]))


def test_gradients_passed_through():
    x = tj.constant([0.4, 1.6])
    w = tj.Variable(3.0)
    for run in (lambda f: f, tj.function):

        @run
        def slope(x):
            with tj.GradientTape() as tape:
                tape.watch(x)
                y = tj.grad_pass_through(lambda t: tj.round(t) * w)(x) * 2.0
            return y, tape.gradient(y, x)

        y, g = slope(x)
        np.testing.assert_allclose(y, [0.0, 12.0])
        np.testing.assert_allclose(g, [2.0, 2.0])


# --- assertions -------------------------------------------------------------------------------------------------------
X = tj.ones((2, 3))


@pytest.mark.parametrize(
    ("check", "error"),
    [
        (lambda: tj.debugging.assert_rank_at_least(X, 3), ShapeError),
        (lambda: tj.debugging.assert_rank_in(X, (0, 1)), ShapeError),
        (lambda: tj.assert_rank(X, 1), ShapeError),
        (lambda: tj.debugging.assert_integer(X, message="counts"), DTypeError),
        (lambda: tj.debugging.assert_same_float_dtype([X, tj.constant([1.0], tj.float64)]), DTypeError),
        (lambda: tj.debugging.assert_same_float_dtype([tj.constant(1)]), DTypeError),
        (lambda: tj.debugging.assert_same_float_dtype([X], tj.float16), DTypeError),
        (lambda: tj.debugging.assert_proper_iterable(X), DTypeError),
        (lambda: tj.debugging.assert_proper_iterable("ab"), DTypeError),
        (lambda: tj.debugging.assert_proper_iterable(3), DTypeError),
        (lambda: tj.assert_equal(X, 2.0), ArgumentError),
        (lambda: tj.assert_less(X, 1.0), ArgumentError),
        (lambda: tj.assert_greater(X, 1.0), ArgumentError),
        (lambda: tj.Assert(tj.reduce_all(X > 1.0), [X]), ArgumentError),
    ],
)
def test_what_does_not_hold(check, error):
    with pytest.raises(error):
        check()


def test_what_holds():
    tj.debugging.assert_rank_at_least(X, 2)
    tj.debugging.assert_rank_in(X, (1, 2))
    tj.debugging.assert_integer(tj.constant([1], tj.uint8))
    tj.debugging.assert_proper_iterable([X])
    assert tj.debugging.assert_same_float_dtype([X, None]) is tj.float32
    assert tj.debugging.assert_same_float_dtype() is tj.float32
    assert [tj.debugging.is_numeric_tensor(t) for t in (X, X > 0, 1.0)] == [True, False, False]
