"""Indexing: NumPy's results eagerly, under a tape and in a graph, with symbolic sizes, and slices of Variables."""

import numpy as np
import pytest
from helpers import gradients, graph_of, numeric_gradients, run_graph

import tracejit as tj
from tracejit import tracing
from tracejit.ir.dim import Dim
from tracejit.ir.types import TensorType

X = np.arange(2 * 3 * 4, dtype=np.float64).reshape(2, 3, 4)
I, J = np.array([1, 0, -1]), np.array([[2], [0]])
BASIC = [
    0, -1, slice(None), slice(1, None), slice(None, -1), slice(None, None, -1), slice(5, 0, -2), slice(10), slice(3, 1),
    (0, 1, 2), (slice(None), 0), (slice(None), slice(1, 3), -1), None, Ellipsis, (..., 0), (0, ...), (None, 0, None),
    (slice(None), None, slice(None, None, 2)), (..., slice(None, None, -1)), (1, ..., None), (), np.int64(1),
    (slice(-2, None), slice(None, None, 3)), (slice(None), slice(2, 0, -1), slice(-100, 100)),
]  # fmt: skip
ADVANCED = [
    I, [0, 1], (slice(None), I), (slice(None), I, I), (I, I), (0, I), (I[:, None] % 2, I), (I, slice(None), I),
    (0, slice(None), I), (slice(None), 0, I), (slice(None), I, 0), (None, I), (I, None, I), (..., I), (J % 2, J),
    (J % 2, slice(None), J), (J % 2, 0, J), np.array([], dtype=np.int64), (slice(0, 1), I),
    (slice(None, None, -1), slice(1, 3), I % 2),
    X > 5, np.array([True, False]), (slice(None), np.array([True, False, True])),
    (0, np.array([True, False, True]), I[:2]),
    (slice(None), J), np.array(1),
]  # fmt: skip


def name(key):
    return repr(key).replace("\n", "")[:60]


@pytest.mark.parametrize("key", BASIC + ADVANCED, ids=name)
def test_eager(key):
    y = tj.constant(X)[key]
    assert isinstance(y, tj.Tensor)
    np.testing.assert_array_equal(y.numpy(), X[key])
    assert y.shape == X[key].shape


@pytest.mark.parametrize("key", BASIC + ADVANCED, ids=name)
def test_keys_may_hold_tensors(key):
    def convert(k):
        return tj.constant(k) if isinstance(k, (np.ndarray, np.generic)) and np.asarray(k).size else k

    k = tuple(convert(p) for p in key) if isinstance(key, tuple) else convert(key)
    np.testing.assert_array_equal(tj.constant(X)[k].numpy(), X[key])


@pytest.mark.parametrize("key", BASIC + ADVANCED, ids=name)
def test_graph(key):
    graph, captured = graph_of(lambda t: t[key], TensorType(tj.float64, X.shape))
    assert graph.results[0].shape == X[key].shape
    np.testing.assert_array_equal(run_graph(graph, [X, *captured])[0], X[key])


@pytest.mark.parametrize("key", BASIC + ADVANCED, ids=name)
def test_gradient(key):
    seed = np.random.default_rng(0).normal(size=X[key].shape)
    g = gradients(lambda t: t[key], [X], seed)[0]
    expected = np.zeros_like(X)
    np.add.at(expected, key, seed)
    np.testing.assert_allclose(g, expected)


@pytest.mark.parametrize("key", [(slice(None), 0), I, (I, I), (0, slice(None, None, -1))], ids=name)
def test_second_order(key):
    x = np.random.default_rng(1).normal(size=X.shape)
    seed = np.ones(X[key].shape)

    def f(t):
        with tj.GradientTape() as tape:
            tape.watch(t)
            y = t[key] ** 3
        return tape.gradient(y, t)[key]

    np.testing.assert_allclose(gradients(f, [x], seed)[0], numeric_gradients(f, [x], seed)[0], atol=1e-6)


N, M = Dim.symbol("n", 5), Dim.symbol("m", 7)
SYMBOLIC = [
    (slice(None), 0), slice(1, None), slice(None, -1), 0, -1, (slice(None), slice(None, None, -1)), (..., None),
    slice(None, None, 2), (slice(2, 4), slice(-3, None)), (slice(1, -1), slice(1, -1)), [0, 2], (slice(None), [1, 1]),
]  # fmt: skip


@pytest.mark.parametrize("key", SYMBOLIC, ids=name)
def test_symbolic_sizes(key):
    x = np.arange(35.0).reshape(5, 7)
    graph, captured = graph_of(lambda t: t[key], TensorType(tj.float64, (N, M)))
    for a in (x, np.arange(66.0).reshape(6, 11)):
        sizes = {"n": a.shape[0], "m": a.shape[1]}
        np.testing.assert_array_equal(run_graph(graph, [a, *captured], sizes)[0], a[key])


def test_index_by_a_traced_tensor():
    types = [TensorType(tj.float64, X.shape), TensorType(tj.int32, ())]
    graph = tracing.trace_graph(lambda t, i: t[:, i], types)
    for i in (0, 2, -1):
        np.testing.assert_array_equal(tracing.replay(graph, [tj.constant(X), tj.constant(i)])[0].numpy(), X[:, i])


def test_traced_mask_finds_its_size():
    graph = tracing.trace_graph(lambda t: t[t > 0], [TensorType(tj.float64, (3,))])
    for x in (X[0, 0], -np.abs(X[0, 0])):
        x = np.resize(x, 3)
        np.testing.assert_array_equal(graph.run([x])[0], x[x > 0])


@pytest.mark.parametrize("key", [5, -4, (0, 0, 0, 0), (slice(None), 3), [0, 7], ([0, 0], [0, 5])], ids=name)
def test_out_of_range(key):
    x = tj.zeros((2, 3, 4))
    if key == (slice(None), 3) or key == (0, 0, 0, 0) or isinstance(key, (int, list, tuple)):
        with pytest.raises(IndexError):
            x[key]
    with tj.GradientTape() as tape:
        tape.watch(x)
        with pytest.raises(IndexError):
            x[key]


def test_floats_are_no_index():
    with pytest.raises((TypeError, IndexError)):
        tj.zeros((3,))[1.0]


def test_iteration_and_unpacking():
    a, b = tj.constant([[1, 2], [3, 4]])
    assert a.numpy().tolist() == [1, 2]
    assert [int(v) for v in b] == [3, 4]
    with pytest.raises(TypeError):
        iter(tj.constant(1.0))


# --- Variables --------------------------------------------------------------------------------------------------------
ASSIGNED = [
    (0, 0, 0),
    0,
    (slice(None), 1),
    (..., -1),
    slice(None, None, -1),
    (1, slice(0, 3, 2)),
    (slice(None), None, 0),
    (),
]


@pytest.mark.parametrize("key", ASSIGNED + [I, (0, I), X > 5], ids=name)
def test_slice_assignment(key):
    v, x = tj.Variable(X), X.copy()
    assert v[key].assign(7.0) is v
    x[key] = 7.0
    np.testing.assert_array_equal(v.numpy(), x)
    v[key].assign_add(2.0 * tj.ones_like(v[key]))
    x[key] += 2.0
    np.testing.assert_array_equal(v.numpy(), x)
    v[key].assign_sub(1)
    x[key] -= 1
    np.testing.assert_array_equal(v.numpy(), x)


@pytest.mark.parametrize("key", ASSIGNED, ids=name)
def test_slice_assignment_in_a_trace(key):
    v = tj.Variable(X)
    trace = tracing.Trace()

    def body():
        v[key].assign(7.0)
        v[key].assign_add(tj.ones_like(v[key]))
        return tj.identity(v)

    y = tracing.run(trace, body, ())
    graph = trace.builder.finish("body", [y._a])
    x = X.copy()
    x[key] = 8.0
    np.testing.assert_array_equal(tracing.replay(graph, [tj.constant(X)])[0].numpy(), x)
    np.testing.assert_array_equal(v.numpy(), X)
    assert trace.written() == [v]


def test_slice_assignment_at_a_traced_position():
    v = tj.Variable(X)
    trace = tracing.Trace()
    i = trace.param(TensorType(tj.int32, ()))

    def body():
        v[i, 1:].assign(7.0)
        return tj.identity(v)

    graph = trace.builder.finish("body", [tracing.run(trace, body, ())._a])
    for k in (0, 1, -1):
        x = X.copy()
        x[k, 1:] = 7.0
        np.testing.assert_array_equal(tracing.replay(graph, [tj.constant(k), tj.constant(X)])[0].numpy(), x)


def test_a_slice_read_before_keeps_its_value():
    v = tj.Variable([1.0, 2.0])
    before = v[0]
    v[0].assign(5.0)
    assert float(before) == 1.0
    assert float(v[0]) == 5.0


def test_failed_slice_assignment_changes_nothing():
    v = tj.Variable([1.0, 2.0])
    for key, value in ((5, 1.0), (slice(None), [1.0, 2.0, 3.0]), (0, tj.constant(1.0, tj.float64))):
        with pytest.raises((IndexError, ValueError, TypeError)):
            v[key].assign(value)
    assert v.numpy().tolist() == [1.0, 2.0]


def test_only_slices_of_variables_can_be_assigned():
    with pytest.raises(AttributeError, match="Variable"):
        tj.ones((2,)).assign(1.0)
    with pytest.raises(TypeError, match="item assignment"):
        tj.ones((2,))[0] = 1.0
    with pytest.raises(TypeError, match=r"v\[key\]\.assign"):
        tj.Variable([1.0])[0] = 1.0
