"""recompute_grad: gradients are those of the plain function, and only its arguments are kept for them."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.backends import reference
from tracejit.differentiate import Differentiable
from tracejit.errors import Faults
from tracejit.passes.pipeline import optimize

W = tj.constant(np.random.default_rng(0).normal(size=(6, 6)) / 3)
X = tj.constant(np.random.default_rng(1).normal(size=(4, 6)))


def layers(x, w):
    for _ in range(4):
        x = tj.tanh(x @ w)
    return x


def of(f, *args):
    with tj.GradientTape() as tape:
        tape.watch(list(args))
        y = f(*args)
    return y, *tape.gradient(y, list(args), unconnected_gradients="zero")


def traced(f, *args):
    return tj.function(lambda *xs: of(f, *xs))(*args)


def around(f, *args):
    return of(tj.function(f), *args)


WAYS = {"eager": of, "tape in the function": traced, "tape around the function": around}


def close(xs, ys):
    for x, y in zip(xs, ys, strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-9, atol=1e-12)


def twice(x, w):
    inner = tj.recompute_grad(layers)
    return inner(inner(x, w), w)


def in_loop(x, w):
    f = tj.recompute_grad(lambda x: tj.tanh(x @ w) * 2.0)
    for _ in tj.range(3):
        x = f(x)
    return x


def loop_inside(x, w):
    def f(x, w):
        for _ in tj.range(3):
            x = tj.tanh(x @ w)
        return x

    return tj.recompute_grad(f)(x, w)


def in_while(x, w):
    f = tj.recompute_grad(lambda x: tj.tanh(x @ w) * 0.7)
    while tj.reduce_sum(tj.abs(x)) > 3.0:
        x = f(x)
    return x


def nested(x, w):
    def outer(x, w):
        return tj.recompute_grad(layers)(tj.sin(x), w) * x

    return tj.recompute_grad(outer)(x, w)


def structures(x, w):
    def f(pair, *, k, name):
        return {"a": tj.tanh(pair[0] @ pair[1]) * k, "b": [tj.sin(pair[0]), 3, name], "n": tj.argmax(pair[0], axis=1)}

    y = tj.recompute_grad(f)((x, w), k=2.0, name="f")
    assert y["b"][1:] == [3, "f"]
    return y["a"] * y["b"][0] + tj.cast(tj.reduce_sum(y["n"]), x.dtype)


def same_twice(x, w):
    return tj.recompute_grad(lambda a, b: a * tj.sin(b))(x, x) @ w


def not_connected(x, w):
    return tj.recompute_grad(lambda x, w: tj.sin(x))(x, w)


PROGRAMS = [twice, in_loop, loop_inside, in_while, nested, structures, same_twice, not_connected]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_gradients_are_those_of_the_plain_function(f, way, monkeypatch):
    got = WAYS[way](f, X, W)
    monkeypatch.setattr(tj, "recompute_grad", lambda f: f)
    close(got, of(f, X, W))


@pytest.mark.parametrize("way", WAYS)
def test_gradients_of_higher_order(way):
    def slope(f):
        def g(x, w):
            with tj.GradientTape() as tape:
                tape.watch(x)
                y = tj.reduce_sum(f(x, w))
            return tape.gradient(y, x)

        return g

    close(WAYS[way](slope(tj.recompute_grad(layers)), X, W), of(slope(layers), X, W))


@pytest.mark.parametrize("call", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_variables_that_the_function_reads(call):
    v, seen = tj.Variable(W), tj.Variable(0.0)

    @tj.recompute_grad
    def f(x):
        seen.assign_add(1.0)
        return tj.tanh(x @ v) * seen

    def step(x):
        with tj.GradientTape() as tape:
            y = tj.reduce_sum(f(x))
        return y, tape.gradient(y, v)

    step = call(step)
    y, g = step(X)
    assert seen.numpy() == 1.0
    want = of(lambda w: tj.reduce_sum(tj.tanh(X @ w)), W)
    close([y, g], want)
    _, g = step(X)
    assert seen.numpy() == 2.0
    close([g], [want[1] * 2.0])


@pytest.mark.parametrize("way", WAYS)
def test_random_numbers_are_drawn_once(way):
    def f(x):
        return tj.nn.dropout(x, 0.5) * x

    tj.random.set_seed(3)
    y, g = WAYS[way](tj.recompute_grad(f), X)
    after = tj.random.normal((2,))
    np.testing.assert_allclose(g.numpy(), 2.0 * np.where(y.numpy() != 0, 2.0 * X.numpy(), 0.0))
    tj.random.set_seed(3)
    f(X)
    np.testing.assert_array_equal(after.numpy(), tj.random.normal((2,)).numpy())


def kept(f):
    """The values besides the arguments and results that a compiled call keeps for its gradient."""
    concrete = tj.function(f).get_concrete_function(X, W)
    parts = concrete.executable.parts
    d = Differentiable(parts.graph, parts.outputs, "finite", Faults("f"))
    assert d.halves() is not None
    return len([1 for kind, i in d.kept if kind == "result" and i >= parts.outputs])


def test_only_arguments_are_kept():
    assert kept(layers) == 3
    assert kept(tj.recompute_grad(layers)) == 0
    assert kept(twice) == 1


def test_what_is_computed_again_is_not_merged_with_what_was():
    def both(f):
        return tj.function(lambda x, w: of(f, x, w)).get_concrete_function(X, W).executable

    def products(exe):
        return sum(n.op.name == "matmul" for n in exe.optimized.nodes)

    assert products(both(layers)) == 4 + 8
    assert products(both(tj.recompute_grad(layers))) == 4 + 4 + 8


def test_a_function_without_a_gradient_is_as_it_was():
    f = tj.recompute_grad(layers)
    close([f(X, W), tj.function(f)(X, W)], [layers(X, W)] * 2)
    graph = tj.function(f).get_concrete_function(X, W).executable
    assert "recompute" not in {n.op.name for n in graph.optimized.nodes}
    assert f.__name__ == "layers"


def test_forward_mode_and_rows():
    f = tj.recompute_grad(lambda x: tj.tanh(x) * x)
    with tj.autodiff.ForwardAccumulator(X, tj.ones_like(X)) as acc:
        y = tj.function(f)(X)
    close([acc.jvp(y)], [of(lambda x: tj.tanh(x) * x, X)[1]])
    close([tj.function(lambda x: tj.vectorized_map(f, x))(X)], [f(X)])
    close(traced(lambda x: tj.vectorized_map(f, x), X), of(f, X))


def test_the_interpreter_agrees():
    concrete = tj.function(lambda x, w: of(nested, x, w)).get_concrete_function(X, W)
    graph = concrete.executable.parts.graph
    args = [X.numpy(), W.numpy()]
    for a, b in zip(reference.run(graph, args), reference.run(optimize(graph), args), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
