"""Variables: values, assignment, what fits and what does not, use in operations and in traces."""

import copy
import pickle

import numpy as np
import pytest

import tracejit as tj
from tracejit import tracing


def test_creation():
    v = tj.Variable([1.0, 2.0], name="weights")
    assert (v.shape, v.dtype, v.trainable, v.name) == ((2,), tj.float32, True, "weights:0")
    assert tj.Variable(1).dtype is tj.int32
    assert tj.Variable(lambda: tj.ones((2,))).numpy().tolist() == [1, 1]
    assert tj.Variable([1, 2], dtype=tj.float64).dtype is tj.float64
    assert tj.Variable(1.0, trainable=False).trainable is False
    assert tj.Variable(initial_value=tj.Variable(3.0)).numpy() == 3.0
    with pytest.raises(tj.errors.ArgumentError):
        tj.Variable()
    with pytest.raises(tj.errors.ShapeError):
        tj.Variable([1.0], shape=(2,))


def test_repr():
    assert repr(tj.Variable(3.0)) == "<tj.Variable 'Variable:0' shape=() dtype=float32, numpy=array(3., dtype=float32)>"


def test_a_variable_owns_its_memory():
    a = np.array([1.0, 2.0])
    v = tj.Variable(a)
    a[0] = 9.0
    assert v.numpy().tolist() == [1.0, 2.0]
    n = v.numpy()
    n[0] = 9.0
    assert v.numpy().tolist() == [1.0, 2.0]


def test_assignments():
    v = tj.Variable([1.0, 2.0])
    assert v.assign([3.0, 4.0]) is v
    assert v.assign_add([1.0, 1.0]) is v
    assert v.assign_sub(0.5) is v
    assert v.numpy().tolist() == [3.5, 4.5]
    v.assign(tj.constant([1, 2], tj.int8))
    assert v.dtype is tj.float32
    v.assign(v * 2)
    assert v.numpy().tolist() == [2.0, 4.0]
    v.assign(tj.reverse(v, [0]))
    assert v.numpy().tolist() == [4.0, 2.0]


def test_values_read_before_an_assignment_stay():
    v = tj.Variable([1.0, 2.0])
    before, row, doubled = v.read_value(), v[0], tj.reshape(v, (2, 1))
    v.assign([5.0, 6.0])
    assert before.numpy().tolist() == [1.0, 2.0]
    assert float(row) == 1.0
    assert doubled.numpy().tolist() == [[1.0], [2.0]]
    assert v.value().numpy().tolist() == [5.0, 6.0]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([1.0, 2.0, 3.0], tj.errors.ShapeError),
        (1.0, tj.errors.ShapeError),
        (np.zeros((2, 1), np.float32), tj.errors.ShapeError),
        (tj.constant([1.0, 2.0], tj.float64), tj.errors.DTypeError),
        (tj.constant([1j, 2j]), tj.errors.DTypeError),
        ("text", tj.errors.DTypeError),
    ],
)
def test_what_does_not_fit_changes_nothing(value, error):
    v = tj.Variable([1.0, 2.0], name="w")
    with pytest.raises(error):
        v.assign(value)
    with pytest.raises(error):
        v.assign_add(value if not isinstance(value, float) else [1.0] * 3)
    assert v.numpy().tolist() == [1.0, 2.0]


def test_integer_variables_take_no_floats():
    v = tj.Variable([1, 2])
    with pytest.raises(tj.errors.DTypeError):
        v.assign([1.5, 2.5])
    with pytest.raises(tj.errors.DTypeError):
        v.assign_add(tj.constant([0.5, 0.5]))
    v.assign_add([1, 1])
    assert v.numpy().tolist() == [2, 3]


def test_in_operations():
    v = tj.Variable([[1.0, 2.0], [3.0, 4.0]])
    assert (v + 1).numpy().tolist() == [[2, 3], [4, 5]]
    assert (1 - v).numpy().tolist() == [[0, -1], [-2, -3]]
    assert (v @ v).numpy().tolist() == [[7, 10], [15, 22]]
    assert (np.ones((2, 2), np.float32) @ v).numpy().tolist() == [[4, 6], [4, 6]]
    assert float(tj.reduce_sum(v)) == 10
    assert v.T.numpy().tolist() == [[1, 3], [2, 4]]
    assert np.exp(v).shape == (2, 2)
    assert [r.numpy().tolist() for r in v] == [[1, 2], [3, 4]]
    assert float(tj.Variable(2.0)) == 2.0
    assert f"{tj.Variable(2.0):.1f}" == "2.0"
    assert len(v) == 2


def test_copies_and_pickles():
    v = tj.Variable([1.0], name="w", trainable=False)
    for c in (copy.deepcopy(v), pickle.loads(pickle.dumps(v))):
        assert c is not v
        c.assign([2.0])
        assert v.numpy().tolist() == [1.0]
        assert (c.name, c.trainable) == ("w:0", False)


def test_reads_and_writes_of_a_trace():
    v = tj.Variable([1.0, 2.0])
    trace = tracing.Trace()

    def body():
        a = v * 1.0
        v.assign_add([1.0, 1.0])
        b = v * 1.0
        v.assign(3.0 * tj.ones_like(v))
        return a, b, v * 1.0

    outs = tracing.run(trace, body, ())
    graph = trace.builder.finish("body", [o._a for o in outs] + [trace.env[id(v)]._a])
    results = tracing.replay(graph, [tj.constant([10.0, 20.0])])
    assert [r.numpy().tolist() for r in results] == [[10, 20], [11, 21], [3, 3], [3, 3]]
    assert v.numpy().tolist() == [1.0, 2.0]
    assert trace.written() == [v]


def test_the_value_is_not_known_in_a_trace():
    v = tj.Variable(1.0)
    for f in (lambda: v.numpy(), lambda: float(v), lambda: bool(v > 0)):
        with pytest.raises(tj.errors.TracedValueError):
            tracing.run(tracing.Trace(), f, ())
