"""Loops whose steps do less: what leaves them, what one reads from another, and that the results stay the same."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.autodiff.graph import vjp_graph
from tracejit.backends.reference import run
from tracejit.ir.dim import Dim
from tracejit.ir.text import verify
from tracejit.ir.types import TensorType, float64
from tracejit.passes.hoist import hoist, sums
from tracejit.passes.keep import keep
from tracejit.passes.loops import share
from tracejit.passes.pipeline import optimize
from tracejit.passes.scans import trim
from tracejit.passes.simplify import rebuild
from tracejit.passes.turn import turn
from tracejit.tracing import trace_graph

t = Dim.symbol("t", 5)
f64 = lambda *s: TensorType(float64, s)  # noqa: E731
B, K, N = 3, 16, 4


def total(x):
    return tj.reduce_sum(x * tj.cos(x))


def rnn(xs, w, u, b):
    """A recurrent layer; the last state and all of them."""

    def step(h, x):
        return tj.tanh(x @ w + h @ u + b)

    return tj.scan(step, xs, tj.zeros((B, N), tj.float64))


def gated(xs, w, u, b):
    """A state of two parts whose gates are slices of one product."""

    def step(s, x):
        h, c = s
        i, g = tj.split(x @ w + tj.concat([h, h], 1) @ u + b, 2, axis=1)
        c = c * 0.5 + tj.sigmoid(i) * tj.tanh(g)
        return tj.tanh(c), c

    z = tj.zeros((B, N // 2), tj.float64)
    return tj.scan(step, xs, (z, z))[0]


def twice(xs, w, u, b):
    """One weight in two places of a step, and weights that do not change made anew in each."""

    def step(h, x):
        v = tj.sin(u)
        return tj.tanh(tj.tanh(x @ w + h @ v) @ v + b)

    return tj.scan(step, xs, tj.zeros((B, N), tj.float64))


def two_layers(xs, w, u, b):
    hs = rnn(xs, w, u, b)
    return tj.scan(lambda h, x: tj.sin(h @ u) * x, hs, tj.ones((B, N), tj.float64), reverse=True)


def nested(xs, w, u, b):
    """A loop in each step of a loop."""

    def step(h, x):
        return tj.foldl(lambda h, k: tj.tanh(h @ u + x @ w + b * k), tj.constant([0.5, 1.0], tj.float64), h)

    return tj.scan(step, xs, tj.zeros((B, N), tj.float64))


def accumulated(xs, w, u, b):
    """Sums that the user writes."""

    def step(s, x):
        h, outer, count, both = s
        h = tj.tanh(x @ w + h)
        mixed = tj.reshape(h, (N, B)) @ h + tj.sin(u) * count
        return h, outer + tj.matmul(x, h, transpose_a=True), count + 1.0, both + mixed

    start = tj.zeros((B, N)), tj.ones((K, N)), tj.zeros(()), tj.ones((N, N))
    return tj.foldl(step, xs, tuple(tj.cast(x, tj.float64) for x in start))


def mapped(xs, w, u, b):
    return tj.map_fn(lambda x: tj.tanh(x @ w) @ u + b, xs)


PROGRAMS = [rnn, gated, twice, two_layers, nested, accumulated, mapped]


def whole(f):
    """One number of all results."""

    def g(*args):
        ys = f(*args)
        return sum([tj.reduce_sum(y * tj.cos(y)) for y in (ys if isinstance(ys, tuple) else (ys,))])

    return g


def raw(f, length):
    return trace_graph(whole(f), [f64(length, B, K), f64(K, N), f64(N, N), f64(N)], "f")


def arguments(graph, length):
    rng = np.random.default_rng(4)
    sizes = [[length if isinstance(d, Dim) else d for d in p.shape] for p in graph.params]
    return [rng.normal(size=s) * 0.4 for s in sizes]


def close(xs, ys):
    for x, y in zip(xs, ys, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("length", [0, 1, 2, 5])
@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_results_and_gradients_stay(f, length):
    graph = vjp_graph(raw(f, t), [0, 1, 2, 3])
    made = optimize(graph)
    verify(made, graph)
    args = arguments(graph, length)
    close(run(made, args), run(graph, args))
    exact = optimize(graph, "exact")
    for x, y in zip(run(exact, args), run(rebuild(graph), args), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("length", [0, 1, 4])
@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_compiled_gradients(f, length):
    """In a program for this length and in one for any, with the tape inside and around."""
    args = [tj.constant(a) for a in arguments(raw(f, t), length)]

    def slopes(g, *args):
        with tj.GradientTape() as tape:
            tape.watch(list(args))
            y = g(*args)
        return y, *tape.gradient(y, list(args), unconnected_gradients="zero")

    graph = vjp_graph(raw(f, t), [0, 1, 2, 3])
    want = run(graph, [*[a.numpy() for a in args], np.ones(())])
    any_length = [tj.TensorSpec((None, B, K), tj.float64), *[tj.TensorSpec(a.shape, a.dtype) for a in args[1:]]]
    inside = lambda *args: slopes(whole(f), *args)  # noqa: E731
    for got in (
        tj.function(inside)(*args),
        tj.function(inside, input_signature=any_length)(*args),
        slopes(tj.function(whole(f)), *args),
    ):
        close([x.numpy() for x in got], want)


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_gradients_are_differences(f):
    args = arguments(raw(f, t), 3)
    g = tj.function(lambda *xs: whole(f)(*xs))
    with tj.GradientTape() as tape:
        given = [tj.constant(a) for a in args]
        tape.watch(given)
        y = g(*given)
    grads = tape.gradient(y, given, unconnected_gradients="zero")
    rng = np.random.default_rng(0)
    for i, (a, d) in enumerate(zip(args, grads)):
        v, e = rng.normal(size=a.shape), 1e-5
        ends = [float(g(*[tj.constant(x + s * e * v if k == i else x) for k, x in enumerate(args)])) for s in (1, -1)]
        assert float(np.sum(d.numpy() * v)) == pytest.approx((ends[0] - ends[1]) / (2 * e), rel=1e-5, abs=1e-8)


# --- what the loops look like -----------------------------------------------------------------------------------------
def loops(graph):
    return [n for n in graph.nodes if n.op.name in ("scan", "while", "while_saving")]


def inside(n):
    return [m.op.name for m in n.attr("body").nodes]


def test_the_gradient_of_a_recurrent_layer():
    forward, backward = loops(optimize(vjp_graph(raw(rnn, t), [0, 1, 2, 3])))
    assert inside(forward) == ["matmul", "add", "add", "tanh"]
    assert inside(backward) == ["add", "square", "constant", "sub", "mul", "matmul"]
    assert (backward.attr("n"), backward.attr("m")) == (1, 2)


def test_exact_numerics_keep_products_where_they_are():
    forward, backward = loops(optimize(vjp_graph(raw(rnn, t), [0, 1, 2, 3]), "exact"))
    assert inside(forward).count("matmul") == 2
    assert inside(backward).count("matmul") == 4  # nothing is computed again


def test_trim_leaves_out_states_rows_and_results():
    def f(xs, ys):
        def step(s, row):
            a, unread, fed = s
            return a + row[0], unread * 2.0, fed + a

        s = tj.foldl(step, (xs, ys), (tj.zeros((4,), tj.float64),) * 3)
        return s[0]

    (before,) = loops(trace_graph(f, [f64(t, 4), f64(t, 4)]))
    (after,) = loops(trim(trace_graph(f, [f64(t, 4), f64(t, 4)])))
    assert (before.attr("n"), before.attr("m")) == (3, 2)
    assert (after.attr("n"), after.attr("m")) == (1, 1)


def test_trim_keeps_what_the_condition_and_effects_read():
    def f(x):
        def body(i, shown, y):
            tj.print(shown)
            return i + 1, shown * 2.0, y

        return tj.while_loop(lambda i, shown, y: i < 3, body, (tj.constant(0), x, x + 1.0))[0]

    (after,) = loops(trim(tj.function(f).get_concrete_function(tj.constant(1.0)).executable.parts.graph))
    assert after.attr("n") == 2


def test_keep_prefers_cheap_values_computed_again():
    """Of tanh(x) * 2 the function is kept, not the product."""

    def f(xs, w):
        def step(h, x):
            return tj.tanh(h * w) * 2.0 + x

        return total(tj.scan(step, xs, tj.zeros((4,), tj.float64)))

    graph = vjp_graph(trace_graph(f, [f64(t, 4), f64(4)]), [1])
    forward, backward = loops(keep(trim(rebuild(share(graph)))))
    assert "tanh" in inside(forward) and "tanh" not in inside(backward)
    assert len(forward.outs) == 1 + 3


def test_hoist_computes_what_is_fixed_once():
    def f(xs, u):
        return tj.scan(lambda h, x: tj.tanh(h @ tj.sin(u) + x * tj.exp(u[0])), xs, tj.zeros((2, N), tj.float64))

    graph = trim(rebuild(trace_graph(f, [f64(t, 2, N), f64(N, N)])))
    (n,) = loops(hoist(graph, reorder=False))
    assert inside(n) == ["matmul", "mul", "add", "tanh"]


def test_sums_of_products_leave_and_others_stay():
    graph = trim(rebuild(raw(accumulated, t)))
    (before,) = loops(graph)
    (after,) = loops(sums(graph))
    assert before.attr("n") == 4
    assert after.attr("n") == 3  # the outer products have left


def test_matrices_that_are_read_by_columns_are_turned_once():
    long = Dim.symbol("long", 64)

    def f(xs, u):
        return tj.foldl(lambda h, x: tj.sin(h @ tj.transpose(u) + x), xs, xs[0])

    graph = trace_graph(f, [f64(long, 3, 9), f64(9, 9)])
    (before,), (after,) = loops(optimize(graph)), loops(turn(optimize(graph)))
    products = [next(m for m in n.attr("body").nodes if m.op.name == "matmul") for n in (before, after)]
    assert [dict(m.attrs).get("tb", False) for m in products] == [True, False]
    args = [np.random.default_rng(0).normal(size=s) for s in ((5, 3, 9), (9, 9))]
    close(run(turn(optimize(graph)), args), run(graph, args))


def test_loops_whose_length_the_program_finds():
    def f(x, w):
        while tj.reduce_sum(tj.abs(x)) > 1.0:
            x = tj.tanh(x @ w) * 0.8
        return x

    x, w = tj.constant(np.full((3, 20), 0.9)), tj.constant(np.eye(20))

    def slope(f):
        def g(x, w):
            with tj.GradientTape() as tape:
                tape.watch([x, w])
                y = tj.reduce_sum(f(x, w))
            return tape.gradient(y, [x, w])

        return g

    for a, b in zip(tj.function(slope(f))(x, w), slope(f)(x, w), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9)
