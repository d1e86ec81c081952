"""Variables and Python objects that a gradient function of the user's own changes."""

import warnings

import pytest

import tracejit as tj
from tracejit.errors import ConversionError, ConversionWarning


def make():
    v, heard = tj.Variable(1.0), []

    @tj.custom_gradient
    def spy(x):
        def grad(u):
            v.assign_add(tj.reduce_sum(u))
            heard.append(tj.reduce_sum(u))
            return u * v

        return tj.identity(x), grad

    return v, heard, spy


def twice(spy, v, x):
    with tj.GradientTape() as t:
        t.watch(x)
        z = spy(spy(x * 3.0) * 2.0)
    return t.gradient(z, x), v + 0.0


def gradient_in_branch(spy, v, x):
    with tj.GradientTape() as t:
        t.watch(x)
        z = spy(x * 3.0)
    g = x
    if x > 0.0:
        g = t.gradient(z, x)
    return g, v + 0.0


def gradient_in_loop(spy, v, x):
    for _ in tj.range(3):
        with tj.GradientTape() as t:
            t.watch(x)
            z = spy(x * 3.0)
        x = t.gradient(z, x)
    return x, v + 0.0


def assigned_between(spy, v, x):
    with tj.GradientTape() as t:
        t.watch(x)
        z = spy(x * 3.0)
    v.assign(7.0)
    return t.gradient(z, x), v + 0.0


def second_order(spy, v, x):
    with tj.GradientTape() as outer:
        outer.watch(x)
        with tj.GradientTape() as t:
            t.watch(x)
            z = spy(x * x * 3.0)
        g = t.gradient(z, x)
    return outer.gradient(g, x), v + 0.0


def run(f, compiled):
    v, heard, spy = make()
    g = tj.function(lambda x: f(spy, v, x)) if compiled else lambda x: f(spy, v, x)
    out = [[float(y) for y in g(tj.constant(x))] for x in (2.0, 3.0)]
    return out, float(v), [float(h) for h in heard]


@pytest.mark.parametrize("f", [twice, gradient_in_branch, gradient_in_loop, assigned_between, second_order])
def test_changes_in_traced_gradients(f):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(f, True) == run(f, False)


def test_forward_in_a_branch_falls_back():
    def f(spy, v, x):
        with tj.GradientTape() as t:
            t.watch(x)
            z = x
            if x > 0.0:
                z = spy(z * 2.0)
        return t.gradient(z, x), v + 0.0

    with pytest.warns(ConversionWarning, match="gradient function of spy"):
        assert run(f, True) == run(f, False)


def test_traced_forward_under_an_eager_tape():
    v, heard, spy = make()
    f = tj.function(lambda x: spy(x * 3.0))
    x = tj.constant(2.0)
    f(x)
    with pytest.warns(ConversionWarning, match="gradient function of spy") as said:
        for n in (1, 2):
            with tj.GradientTape() as t:
                t.watch(x)
                z = f(x)
            assert float(t.gradient(z, x)) == 3.0 * (1.0 + n)
            assert float(v) == 1.0 + n and len(heard) == n
    assert len(said) == 1
    strict = tj.function(lambda x: spy(x * 3.0), strict=True)
    with pytest.raises(ConversionError, match="gradient function of spy"), tj.GradientTape() as t:
        t.watch(x)
        strict(x)


def test_rows_of_a_batch():
    v, _, spy = make()

    def gradient(x):
        with tj.GradientTape() as t:
            t.watch(x)
            z = spy(x * 3.0)
        return t.gradient(z, x)

    with pytest.warns(RuntimeWarning, match="one by one"):
        made = tj.function(lambda x: tj.vectorized_map(gradient, x))(tj.constant([1.0, 2.0]))
    assert made.numpy().tolist() == [6.0, 9.0] and float(v) == 3.0


# --- when it runs -----------------------------------------------------------------------------------------------------
def _scaled(state, log):
    @tj.custom_gradient
    def scale(x):
        log.append("forward")

        def g(dy):
            log.append("backward")
            return dy * state["s"]

        return tj.identity(x), g

    return scale


def _state_changes_before_the_gradient(wrap):
    state, log, v = {"s": 1.0}, [], tj.Variable(2.0)
    scale = _scaled(state, log)

    @wrap
    def f(x, k):
        state["s"] = 1.0
        with tj.GradientTape() as t:
            y = scale(v * x)
        log.append("between")
        state["s"] = k
        return t.gradient(y, v)

    return [float(f(tj.constant(1.0), tj.constant(k))) for k in (10.0, 20.0)], log


def _state_changes_before_a_vjp(wrap):
    state, log = {"s": 1.0}, []
    scale = _scaled(state, log)

    @wrap
    def f(x, k):
        state["s"] = 1.0
        y, back = tj.vjp(lambda q: scale(q) * q, x)
        state["s"] = 3.0
        g = back(k)
        state["s"] = k
        log.append("between")
        return y, g, back(k)

    return [f(tj.constant(2.0), tj.constant(k)) for k in (10.0, 20.0)], log


def _in_the_steps_of_a_loop(wrap):
    state, log = {"s": 1.0}, []
    scale = _scaled(state, log)

    @wrap
    def f(x):
        for i in range(3):
            state["s"] = 1.0
            with tj.GradientTape() as t:
                t.watch(x)
                y = scale(x * x)
            state["s"] = i + 2.0
            x = x + t.gradient(y, x)
        return x

    return [float(f(tj.constant(0.5))) for _ in range(2)], log


@pytest.mark.parametrize(
    "scene", [_state_changes_before_the_gradient, _state_changes_before_a_vjp, _in_the_steps_of_a_loop]
)
def test_it_runs_when_the_gradient_is_taken(scene, twins):
    twins(scene)
