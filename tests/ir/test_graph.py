"""Builders number values, constants know when they repeat one element, and the interpreter runs graphs."""

import numpy as np
import pytest

from tracejit.backends.reference import bind, run
from tracejit.errors import ArgumentError, ShapeError
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Builder, Const, freeze
from tracejit.ir.op import OPS
from tracejit.ir.types import ALL, TensorType, float32, float64, int32
from tracejit.ops import elementwise as E
from tracejit.ops import reduce, shape
from tracejit.tracing import trace_graph

n, m = Dim.symbol("n", 4), Dim.symbol("m", 3)
f32 = lambda *s: TensorType(float32, s)  # noqa: E731


def test_equal_nodes_are_one():
    b = Builder()
    x, y = b.param(f32(3)), b.param(f32(3))
    assert b.emit(E.mul, (x, y)) is b.emit(E.mul, (x, y))
    assert b.emit(E.mul, (x, y)) is not b.emit(E.mul, (y, x))
    s0, s1 = (b.emit(reduce.reduce_sum, (x,), freeze({"axis": a})) for a in ((0,), ()))
    assert s0 is not s1 and len(b.merged) == 2 and len(b.nodes) == 4


def test_dead_nodes_are_left_out_and_effects_stay():
    b = Builder()
    x = b.param(f32(3))
    b.emit(E.exp, (x,))
    (y,) = b.emit(E.neg, (x,))
    g = b.finish("g", [y])
    assert [k.op.name for k in g.nodes] == ["neg"] and g.params == (x,) and g.nodes[0].attrs == ()
    with pytest.raises(KeyError):
        g.nodes[0].attr("axis")


def test_a_hook_may_replace_a_node():
    b = Builder(lambda b, op, inputs, attrs: inputs if op is E.identity else None)
    x = b.param(f32(3))
    assert b.emit(E.identity, (x,)) == (x,) and not b.nodes


@pytest.mark.parametrize("d", ALL, ids=str)
def test_constants_of_one_repeated_element_are_that_element(d):
    c = Const(np.full((3, 4), 1, d.np))
    assert (
        c.array is None
        and c.shape == (3, 4)
        and c == Const(None, 1, (3, 4), d)
        and hash(c) == hash(Const(None, 1, (3, 4), d))
    )
    np.testing.assert_array_equal(c.numpy(), np.full((3, 4), 1, d.np))
    other = Const(np.arange(12).astype(d.np).reshape(3, 4))
    assert (other.splat is None) and other != c


def test_constants_tell_zeros_apart_and_know_symbols():
    assert Const(None, 0.0, (), float32) != Const(None, -0.0, (), float32)
    assert Const(None, 1.0, (), float32) != Const(None, 1.0, (), float64)
    assert Const(np.array([0.0, -0.0])).array is not None
    assert Const(None, 2, (n, 2), int32).numpy({"n": 3}).shape == (3, 2)
    big = np.arange(1000.0)
    assert Const(big) == Const(big) and Const(big) != Const(big.copy())


def test_the_interpreter_binds_symbols_from_shapes():
    def f(x, y):
        z = shape.reshape(x, shape=(n * m,))
        return z, reduce.reduce_sum(x, axis=(0,)) / E.cast(OPS["dim"](size=n), dtype=float32), y

    g = trace_graph(f, [f32(n, m), f32(2 * m + 1)])
    for a, b in ((4, 3), (1, 7), (5, 0)):
        x = np.arange(a * b, dtype=np.float32).reshape(a, b)
        z, mean, _ = run(g, [x, np.zeros(2 * b + 1)])
        assert z.shape == (a * b,) and mean.dtype == np.float32
        np.testing.assert_allclose(mean, x.sum(0) / a)
    assert bind(g, [np.zeros((2, 5)), np.zeros(11)]) == {"n": 2, "m": 5}


def test_the_interpreter_refuses_arguments_that_do_not_fit():
    g = trace_graph(lambda x, y: (x, y), [f32(n, 3), f32(n)])
    with pytest.raises(ShapeError, match=r"argument 0 of graph graph has shape \(2, 4\), it takes f32\[n,3\]"):
        run(g, [np.zeros((2, 4)), np.zeros(2)])
    with pytest.raises(ShapeError, match="argument 1"):
        run(g, [np.zeros((2, 3)), np.zeros(3)])
    with pytest.raises(ArgumentError, match="takes 2 arrays, 1 were given"):
        run(g, [np.zeros((2, 3))])


def test_sizes_may_be_given():
    g = trace_graph(lambda x: shape.broadcast_to(x, shape=(n, 2)), [f32()])
    assert run(g, [np.ones(())], {"n": 3})[0].shape == (3, 2)
    with pytest.raises(ArgumentError, match="no parameter's shape tells the size n"):
        run(g, [np.ones(())])


def test_the_interpreter_computes_in_the_graphs_dtypes():
    g = trace_graph(lambda x: (x + 1, reduce.reduce_sum(x, axis=(0,))), [TensorType(ALL[1], (2,))])
    y, s = run(g, [np.array([127, 127])])
    assert y.dtype == np.int8 and y.tolist() == [-128, -128] and s == -2
