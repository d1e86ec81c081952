"""The two halves of a gradient compute what the whole computes, and hand over little."""

import numpy as np
import pytest

from tracejit.autodiff.graph import vjp_graph
from tracejit.backends.reference import run
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS, Op
from tracejit.ir.text import verify
from tracejit.ir.types import TensorType, float32, float64, int32
from tracejit.ops import contract, index, reduce, shape
from tracejit.ops import elementwise as E
from tracejit.passes.partition import partition
from tracejit.passes.pipeline import optimize
from tracejit.tracing import trace_graph

n = Dim.symbol("n", 64)
f64 = lambda *s: TensorType(float64, s)  # noqa: E731


def split(f, types, wanted):
    raw = trace_graph(f, types, "f")
    joint = optimize(vjp_graph(raw, wanted), differentiated=False)
    parts = partition(joint, len(types), len(raw.results))
    verify(parts.forward)
    verify(parts.backward)
    return raw, joint, parts


def halves(parts, args, cotangents, results):
    """What the two halves compute one after the other."""
    ahead = run(parts.forward, args)
    kept = [args[i] if where == "param" else ahead[i] for where, i in parts.kept]
    return [*ahead[:results], *run(parts.backward, [*kept, *cotangents])]


def extra(parts, results):
    """The operations whose results are kept beyond the forward's own results."""
    return [r.op.name for r in parts.forward.results[results:]]


def dense(x, w, b):
    h = E.tanh(contract.matmul(x, w) + b)
    return reduce.reduce_sum(E.square(h * 2.0 + 1.0), axis=(0, 1)), h


def attention(q, k, v):
    s = contract.matmul(q, k, tb=True) * 0.125
    s = s - shape.reshape(E.stop_gradient(reduce.reduce_max(s, axis=(1,))), shape=(n, 1))
    e = E.exp(s)
    p = e / shape.reshape(reduce.reduce_sum(e, axis=(1,)), shape=(n, 1))
    return contract.matmul(p, v)


def lookup(table, i):
    return reduce.reduce_sum(E.exp(index.gather(table, i, axis=0)), axis=(1,))


PROGRAMS = {
    "dense": (dense, [f64(n, 7), f64(7, 5), f64(5)], [0, 1, 2]),
    "attention": (attention, [f64(n, 8), f64(n, 8), f64(n, 3)], [0, 1, 2]),
    "lookup": (lookup, [f64(9, 4), TensorType(int32, (n,))], [0]),
    "linear": (lambda x, y: x - y, [f64(n), f64(n)], [0, 1]),
    "unconnected": (lambda x, y: (x * 2.0, E.cast(y, dtype=int32)), [f64(n), f64(n)], [0, 1]),
    "a parameter returned": (lambda x: (x, x * x), [f64(n)], [0]),
    "one value twice": (lambda x: (E.exp(x), E.exp(x)), [f64(n)], [0]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_halves_compute_what_the_whole_does(name):
    f, types, wanted = PROGRAMS[name]
    raw, joint, parts = split(f, types, wanted)
    rng = np.random.default_rng(0)
    for size in (5, 64):

        def draw(t):
            s = [size if isinstance(d, Dim) else d for d in t.shape]
            return rng.integers(0, 4, s) if t.dtype.kind == "i" else rng.normal(size=s)

        args = [draw(t) for t in types]
        cotangents = [draw(r.type) for r in raw.results if r.dtype.kind == "f"]
        whole = run(joint, [*args, *cotangents])
        both = halves(parts, args, cotangents, len(raw.results))
        for x, y in zip(whole, both, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["dense", "attention", "lookup"])
def test_gradients_equal_central_differences(name):
    f, types, wanted = PROGRAMS[name]
    raw, _, parts = split(f, types, wanted)
    rng = np.random.default_rng(1)
    shapes = [[5 if isinstance(d, Dim) else d for d in t.shape] for t in types]
    args = [rng.integers(0, 4, s) if t.dtype.kind == "i" else rng.normal(size=s) for s, t in zip(shapes, types)]
    seeds = [rng.normal(size=y.shape) for y in run(raw, args)]
    grads = halves(parts, args, seeds, len(raw.results))[len(raw.results) :]
    for i, g in zip(wanted, grads, strict=True):
        direction = rng.normal(size=args[i].shape)
        ends = []
        for step in (1e-6, -1e-6):
            moved = [a + step * direction if k == i else a for k, a in enumerate(args)]
            ends.append(sum((s * y).sum() for s, y in zip(seeds, run(raw, moved))))
        np.testing.assert_allclose((g * direction).sum(), (ends[0] - ends[1]) / 2e-6, rtol=1e-5)


def test_cheap_values_are_computed_again_and_costly_ones_kept():
    _, _, parts = split(dense, [f64(n, 7), f64(7, 5), f64(5)], [0, 1, 2])
    assert extra(parts, 2) == [] and parts.kept == (("param", 0), ("param", 1), ("result", 1))
    chain = lambda x: E.square(E.relu(x * 3.0 + 1.0)) * 0.5  # noqa: E731
    _, _, parts = split(chain, [f64(n)], [0])
    assert parts.kept == (("param", 0),)
    assert {k.op.name for k in parts.backward.nodes} & {"exp", "matmul", "reduce_sum"} == set()


def test_products_and_reductions_are_not_repeated():
    _, _, parts = split(attention, [f64(n, 8), f64(n, 8), f64(n, 3)], [0, 1, 2])
    again = [k.op.name for k in parts.backward.nodes]
    assert "exp" not in again and "reduce_max" not in again and again.count("matmul") == 4


def test_a_mask_is_kept_rather_than_the_number_that_it_came_from():
    """One byte for each element instead of eight."""

    def f(x, w):
        return reduce.reduce_sum(E.relu(contract.matmul(x, w)), axis=(0, 1))

    _, _, parts = split(f, [f64(n, 7), f64(7, 500)], [1])
    assert extra(parts, 1) == ["greater"]


def test_nothing_is_kept_for_a_linear_function():
    _, _, parts = split(lambda x, y: x - y, [f64(n), f64(n)], [0, 1])
    assert parts.kept == () and len(parts.forward.results) == 1


def test_the_backward_half_knows_its_sizes():
    _, _, parts = split(lambda x: reduce.reduce_sum(x, axis=(0, 1)), [f64(n, 3)], [0])
    assert parts.kept == (("param", 0),)
    _, g = halves(parts, [np.ones((7, 3))], [np.float64(2.0)], 1)
    assert g.shape == (7, 3) and (g == 2).all()


def test_effects_happen_once_in_the_forward_half():
    seen = []
    effect = Op(
        "tested_print", "opaque", lambda x: x, lambda x: (seen.append(x), x)[1], pure=False, vjp=lambda g, y, x: (g,)
    )
    try:
        _, _, parts = split(lambda x: effect(E.exp(x)) * x, [f64(3)], [0])
        halves(parts, [np.ones(3)], [np.ones(3)], 1)
        assert len(seen) == 1 and "tested_print" not in [k.op.name for k in parts.backward.nodes]
    finally:
        del OPS["tested_print"]


def test_second_gradients_respect_stop_gradient():
    """The backward half of a graph that was optimized for differentiation still knows where gradients stop."""
    x = TensorType(float32, (3,))
    _, _, parts = split(lambda x: x * E.stop_gradient(x), [x], [0])
    assert "stop_gradient" in [k.op.name for k in parts.backward.nodes]
    second = vjp_graph(parts.backward, [0])
    args = [np.full(3, 2.0)] * len(second.params)
    assert (run(second, args)[-1] == 0).all()
