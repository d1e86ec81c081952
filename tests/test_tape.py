"""GradientTape, forward mode, functions with a gradient of their own: eagerly and inside a graph."""

import gc
import weakref
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import graph_of, run_graph

import tracejit as tj
from tracejit.errors import ConversionError, ConversionWarning
from tracejit.ir.types import TensorType


def both(f, *xs):
    """The results of a function eagerly; the graph of it must give the same."""
    eager = [np.asarray(y) for y in f(*[tj.constant(x) for x in xs])]
    arrays = [tj.constant(x).numpy() for x in xs]
    graph, captured = graph_of(f, *[TensorType(tj.as_dtype(a.dtype), a.shape) for a in arrays])
    for a, b in zip(run_graph(graph, [*arrays, *captured]), eager):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    return eager


# --- what is recorded -------------------------------------------------------------------------------------------------
def test_variables_are_watched_and_constants_are_not():
    v, w, c = tj.Variable(3.0), tj.Variable(2.0, trainable=False), tj.constant(4.0)
    with tj.GradientTape() as tape:
        y = v * w * c
    g = tape.gradient(y, [v, w, c])
    assert float(g[0]) == 8.0
    assert g[1:] == [None, None]


def test_watched_variables_in_order():
    v, w = tj.Variable(1.0), tj.Variable(2.0)
    with tj.GradientTape() as tape:
        _ = w * v
    assert tape.watched_variables() == (w, v)
    with tj.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(v)
        y = v * w
    g = tape.gradient(y, [v, w])
    assert float(g[0]) == 2.0
    assert g[1] is None


def test_gradient_is_none_or_zero_where_unconnected():
    x, y = tj.constant([1.0, 2.0]), tj.constant(1.0)
    for mode, expected in (("none", None), ("zero", [0.0, 0.0]), (tj.UnconnectedGradients.ZERO, [0.0, 0.0])):
        with tj.GradientTape() as tape:
            tape.watch([x, y])
            z = y * 2
        g = tape.gradient(z, x, unconnected_gradients=mode)
        assert (g if g is None else g.numpy().tolist()) == expected
    with pytest.raises(tj.errors.ArgumentError):
        tape.gradient(z, x, unconnected_gradients="nothing")


def test_a_tape_gives_one_gradient_unless_persistent():
    x = tj.constant(3.0)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    assert float(tape.gradient(y, x)) == 6.0
    with pytest.raises(tj.errors.GradientError, match="persistent"):
        tape.gradient(y, x)
    with tj.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        z = y * x
    assert float(tape.gradient(y, x)) == 6.0
    assert float(tape.gradient(z, x)) == 27.0
    assert float(tape.gradient(z, y)) == 3.0


def test_stop_recording_and_reset():
    x = tj.constant(3.0)
    with tj.GradientTape() as tape:
        tape.watch(x)
        with tape.stop_recording():
            y = x * x
        z = x * y
    assert float(tape.gradient(z, x)) == 9.0
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = x * x
        tape.reset()
        tape.watch(x)
        z = x * 2
    assert float(tape.gradient(z, x)) == 2.0


def test_watching_what_has_no_derivative():
    with tj.GradientTape() as tape, pytest.raises(tj.errors.GradientError, match="derivative"):
        tape.watch(tj.constant(1))
    with tj.GradientTape() as tape, pytest.raises(tj.errors.ArgumentError):
        tape.watch(1.0)


def test_sources_that_are_no_tensors():
    with tj.GradientTape() as tape:
        pass
    with pytest.raises(tj.errors.ArgumentError, match="sources"):
        tape.gradient(tj.constant(1.0), 3.0)


def test_gradient_inside_the_tape():
    x = tj.constant(3.0)
    with tj.GradientTape() as tape:
        tape.watch(x)
        g = tape.gradient(x * x, x)
    assert float(g) == 6.0


def test_a_value_used_twice_and_overwritten_names():
    x = tj.constant(2.0)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = x
        for _ in range(3):
            y = y * x
    assert float(tape.gradient(y, x)) == 4 * 2.0**3


def test_assignment_after_the_forward_pass_does_not_change_the_gradient():
    v = tj.Variable([2.0, 3.0])
    with tj.GradientTape() as tape:
        y = tj.reduce_sum(v * v)
    v.assign([100.0, 100.0])
    assert tape.gradient(y, v).numpy().tolist() == [4.0, 6.0]


def test_target_is_the_source():
    x = tj.constant([1.0, 2.0])
    with tj.GradientTape() as tape:
        tape.watch(x)
    assert tape.gradient(x, x).numpy().tolist() == [1.0, 1.0]


def test_integers_stop_gradients():
    x = tj.constant(2.5)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = x * tj.cast(tj.cast(x, tj.int32), tj.float32)
    assert float(tape.gradient(y, x)) == 2.0


def test_stop_gradient():
    assert both(lambda x: [grad(lambda t: t * tj.stop_gradient(t), x)], 3.0)[0] == 3.0


def test_gradients_keep_the_dtype():
    for d in (tj.float16, tj.bfloat16, tj.float32, tj.float64):
        x = tj.constant([1.0, 2.0], d)
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.reduce_mean(tj.exp(x) * 2.0 + x / 3)
        assert tape.gradient(y, x).dtype is d


def test_mixed_dtypes():
    x, y = tj.constant(2.0, tj.float32), tj.constant(3.0, tj.float64)
    with tj.GradientTape() as tape:
        tape.watch([x, y])
        z = x * y
    gx, gy = tape.gradient(z, [x, y])
    assert (gx.dtype, gy.dtype) == (tj.float32, tj.float64)
    assert (float(gx), float(gy)) == (3.0, 2.0)


def test_complex_gradient_of_a_real_loss():
    z = tj.constant([1 + 2j, -1j])
    with tj.GradientTape() as tape:
        tape.watch(z)
        loss = tj.reduce_sum(tj.math.real(z * tj.math.conj(z)))
    np.testing.assert_allclose(tape.gradient(loss, z).numpy(), 2 * z.numpy())


# --- structures -------------------------------------------------------------------------------------------------------
Pair = namedtuple("Pair", "a b")


@dataclass
class Params:
    w: object
    rest: list


def test_structures_of_sources():
    a, b, c = tj.constant(1.0), tj.constant(2.0), tj.constant(3.0)
    for sources in ({"x": a, "y": [b, (c,)]}, Pair(a, [b, c]), Params(a, [b, c]), (a, (b, c))):
        with tj.GradientTape() as tape:
            tape.watch([a, b, c])
            y = a * b * c
        g = tape.gradient(y, sources)
        assert type(g) is type(sources)
        assert [float(x) for x in tj.autodiff.tape.flatten(g)[0]] == [6.0, 3.0, 2.0]


def test_several_targets_add_up():
    x = tj.constant(3.0)
    with tj.GradientTape() as tape:
        tape.watch(x)
        ys = {"a": x * x, "b": [2 * x]}
    assert float(tape.gradient(ys, x)) == 8.0


def test_output_gradients():
    x = tj.constant([1.0, 2.0])
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    assert tape.gradient(y, x, output_gradients=np.array([10.0, 100.0])).numpy().tolist() == [20.0, 400.0]
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = [x * x, x]
    assert tape.gradient(y, x, output_gradients=[None, tj.constant([1.0, 5.0])]).numpy().tolist() == [3.0, 9.0]
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    with pytest.raises(tj.errors.ArgumentError):
        tape.gradient(y, x, output_gradients=[1.0, 2.0, 3.0])


# --- higher orders ----------------------------------------------------------------------------------------------------
def grad(f, x):
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    return tape.gradient(y, x)


@pytest.mark.parametrize(
    ("f", "derivatives"),
    [
        (lambda x: x**5, lambda x: [5 * x**4, 20 * x**3, 60 * x**2, 120 * x]),
        (tj.sin, lambda x: [np.cos(x), -np.sin(x), -np.cos(x), np.sin(x)]),
        (tj.exp, lambda x: [np.exp(x)] * 4),
        (lambda x: 1 / x, lambda x: [-1 / x**2, 2 / x**3, -6 / x**4, 24 / x**5]),
        (tj.math.log, lambda x: [1 / x, -1 / x**2, 2 / x**3, -6 / x**4]),
        (tj.sqrt, lambda x: [0.5 * x**-0.5, -0.25 * x**-1.5, 0.375 * x**-2.5, -0.9375 * x**-3.5]),
    ],
)  # fmt: skip
def test_nested_to_order_4(f, derivatives):
    x = np.float64(1.3)

    def all_four(t):
        d1 = lambda u: grad(f, u)  # noqa: E731
        d2 = lambda u: grad(d1, u)  # noqa: E731
        d3 = lambda u: grad(d2, u)  # noqa: E731
        return [d1(t), d2(t), d3(t), grad(d3, t)]

    np.testing.assert_allclose(both(all_four, x), derivatives(x), rtol=1e-9)


def test_nested_tapes_of_different_sources():
    x, y = tj.constant(2.0), tj.constant(3.0)
    with tj.GradientTape() as outer:
        outer.watch(y)
        with tj.GradientTape() as inner:
            inner.watch(x)
            z = x * x * y
        g = inner.gradient(z, x)
    assert float(outer.gradient(g, y)) == 4.0


def test_second_order_of_a_matrix_function():
    a = np.random.default_rng(0).normal(size=(3, 3))

    def f(m):
        with tj.GradientTape() as outer:
            outer.watch(m)
            with tj.GradientTape() as inner:
                inner.watch(m)
                y = tj.reduce_sum(tj.tanh(m @ m))
            g = inner.gradient(y, m)
            s = tj.reduce_sum(g * g)
        return [outer.gradient(s, m)]

    h = both(f, a)[0]
    e = np.zeros_like(a)
    for i in np.ndindex(3, 3):
        ends = []
        for step in (1e-6, -1e-6):
            b = a.copy()
            b[i] += step
            g = grad(lambda m: tj.reduce_sum(tj.tanh(m @ m)), tj.constant(b)).numpy()
            ends.append((g * g).sum())
        e[i] = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(h, e, rtol=1e-5, atol=1e-6)


# --- the branch not taken ---------------------------------------------------------------------------------------------
SAFE = {
    "sqrt": (0.0, lambda x: tj.where(x > 0, tj.sqrt(x), 0.0)),
    "log": (0.0, lambda x: tj.where(x > 0, tj.math.log(x), 0.0)),
    "log of negative": (-1.0, lambda x: tj.where(x > 0, tj.math.log(x), 0.0)),
    "1 / x": (0.0, lambda x: tj.where(x != 0, 1 / x, 0.0)),
    "x / x": (0.0, lambda x: tj.where(x != 0, x / x, 1.0)),
    "sin x / x": (0.0, lambda x: tj.where(x != 0, tj.sin(x) / x, 1.0)),
    "pow": (0.0, lambda x: tj.where(x > 0, x**0.3, 0.0)),
    "pow of negative": (-1.0, lambda x: tj.where(x > 0, x**1.5, 0.0)),
    "rsqrt": (0.0, lambda x: tj.where(x > 0, tj.math.rsqrt(x), 0.0)),
    "asin": (1.0, lambda x: tj.where(x < 1, tj.asin(x), 0.0)),
    "acos": (-1.0, lambda x: tj.where(x > -1, tj.acos(x), 0.0)),
    "atanh": (1.0, lambda x: tj.where(x < 1, tj.atanh(x), 0.0)),
    "acosh": (1.0, lambda x: tj.where(x > 1, tj.acosh(x), 0.0)),
    "log1p": (-1.0, lambda x: tj.where(x > -1, tj.math.log1p(x), 0.0)),
    "exp that overflows": (1000.0, lambda x: tj.where(x < 10, tj.exp(x), 0.0)),
    "expm1 that overflows": (1000.0, lambda x: tj.where(x > 0, x * 0.0, tj.math.expm1(x))),
    "cosh that overflows": (1000.0, lambda x: tj.where(x < 10, tj.cosh(x), 0.0)),
    "norm": (0.0, lambda x: tj.where(x != 0, tj.sqrt(x * x), 0.0)),
    "x log x": (0.0, lambda x: tj.where(x > 0, x * tj.math.log(x), 0.0)),
    "sin of 1 / x": (0.0, lambda x: tj.where(x != 0, tj.sin(1 / x) + (1 / x) ** 2, 0.0)),
    "mean of x log x": (0.0, lambda x: tj.where(x > 0, 2.0 * tj.reduce_mean(x * tj.math.log(x)), 0.0)),
    "atan2": (0.0, lambda x: tj.where(x != 0, tj.atan2(x, x), 0.0)),
    "elu": (1000.0, lambda x: tj.nn.elu(x) * 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", SAFE)
@pytest.mark.parametrize("dtype", [tj.float32, tj.float64], ids=str)
def test_gradient_behind_where_is_zero(name, dtype):
    at, f = SAFE[name]
    g = both(lambda x: [grad(f, x)], np.asarray(at, dtype.np))[0]
    assert g == 0.0


def test_second_order_behind_where():
    def f(x):
        return tj.where(x > 0, tj.sqrt(x), 0.0)

    assert both(lambda x: [grad(lambda t: grad(f, t), x)], 0.0)[0] == 0.0


# --- jacobians --------------------------------------------------------------------------------------------------------
def test_jacobian():
    a = np.arange(6.0).reshape(2, 3)
    x = tj.constant([1.0, 2.0, 3.0], tj.float64)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.linalg.matvec(a, x) ** 2
    expected = 2 * (a @ x.numpy())[:, None] * a
    np.testing.assert_allclose(tape.jacobian(y, x).numpy(), expected)


def test_jacobian_of_structures_and_shapes():
    x, v, u = tj.constant([[1.0, 2.0]]), tj.Variable(3.0), tj.constant(1.0)
    with tj.GradientTape(persistent=True) as tape:
        tape.watch([x, u])
        y = x * v
    j = tape.jacobian(y, {"x": x, "v": v, "u": u})
    assert j["x"].shape == (1, 2, 1, 2)
    assert j["x"].numpy().reshape(2, 2).tolist() == [[3.0, 0.0], [0.0, 3.0]]
    assert j["v"].numpy().tolist() == [[1.0, 2.0]]
    assert j["u"] is None
    assert tape.jacobian(y, u, unconnected_gradients="zero").shape == (1, 2)


def test_hessian():
    x = tj.constant([1.0, 2.0])
    with tj.GradientTape() as outer:
        outer.watch(x)
        with tj.GradientTape() as inner:
            inner.watch(x)
            y = x[0] ** 3 * x[1] ** 2
        g = inner.gradient(y, x)
    np.testing.assert_allclose(outer.jacobian(g, x).numpy(), [[24.0, 12.0], [12.0, 2.0]], rtol=1e-6)


# --- forward mode -----------------------------------------------------------------------------------------------------
def test_forward_accumulator():
    x, v = tj.constant([1.0, 2.0]), tj.Variable([3.0, 4.0])
    with tj.autodiff.ForwardAccumulator([x, v], [np.array([1.0, 0.0]), np.array([0.0, 1.0])]) as acc:
        y = x * x * v
        z = tj.constant(1.0) * 2
    assert acc.jvp(y).numpy().tolist() == [6.0, 4.0]
    assert acc.jvp({"z": z}) == {"z": None}
    assert acc.jvp(z, "zero").numpy() == 0.0
    with pytest.raises(tj.errors.ShapeError):
        tj.autodiff.ForwardAccumulator(x, [1.0])


def test_forward_over_reverse_is_a_hessian_product():
    x, d = tj.constant([1.0, 2.0]), tj.constant([1.0, -1.0])
    with tj.autodiff.ForwardAccumulator(x, d) as acc:
        g = grad(lambda t: tj.reduce_sum(t**3) * t[0], x)
    h = np.array([[12 * 1.0, 3 * 4.0], [3 * 4.0, 6 * 2.0]])
    np.testing.assert_allclose(acc.jvp(g).numpy(), h @ d.numpy(), rtol=1e-6)


def test_forward_over_forward():
    x, one = tj.constant(2.0), tj.constant(1.0)
    _, second = tj.autodiff.jvp(lambda t: tj.autodiff.jvp(lambda u: u**4, [t], [one])[1], [x], [one])
    assert float(second) == 48.0


def test_forward_mode_in_a_graph():
    out = both(lambda x: tj.autodiff.jvp(lambda t: tj.sin(t) * t, [x], [tj.ones_like(x)]), np.array([0.5, 1.0]))
    x = np.array([0.5, 1.0])
    np.testing.assert_allclose(out[1], np.cos(x) * x + np.sin(x))


def test_vjp_function():
    y, back = tj.autodiff.vjp(lambda a, b: a * b, 2.0, 3.0)
    assert float(y) == 6.0
    assert [float(g) for g in back(tj.constant(10.0))] == [30.0, 20.0]


# --- gradients of the user's own --------------------------------------------------------------------------------------
@tj.custom_gradient
def log1pexp(x):
    e = tj.exp(x)

    def back(upstream):
        return upstream * (1 - 1 / (1 + e))

    return tj.math.log(1 + e), back


def test_custom_gradient():
    g, h = both(lambda x: [grad(log1pexp, x), grad(lambda t: grad(log1pexp, t), x)], 100.0)
    assert g == 1.0
    g, h = both(lambda x: [grad(log1pexp, x), grad(lambda t: grad(log1pexp, t), x)], np.float64(0.3))
    s = 1 / (1 + np.exp(-0.3))
    assert g == pytest.approx(s)
    assert h == pytest.approx(s * (1 - s))


@tj.custom_gradient
def clipped(x, y, factor=3.0):
    def back(gx, gy):
        return tj.clip_by_value(gx, -1.0, 1.0) * factor, None

    return (x, y * 1.0), back


def test_custom_gradient_of_several_results():
    def f(x, y):
        with tj.GradientTape() as tape:
            tape.watch([x, y])
            a, b = clipped(x, y)
            z = tj.reduce_sum(a * 5.0 + b)
        return tape.gradient(z, [x, y], unconnected_gradients="zero")

    gx, gy = both(f, np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    assert gx.tolist() == [3.0, 3.0]
    assert gy.tolist() == [0.0, 0.0]


def test_custom_gradient_in_a_graph_that_is_differentiated_later():
    graph, captured = graph_of(lambda x: log1pexp(x) * 2.0, TensorType(tj.float32, ()))
    x = tj.constant(100.0)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.tracing.replay(graph, [x, *captured])[0]
    assert float(tape.gradient(y, x)) == 2.0  # the plain rules would give NaN


def test_custom_gradient_with_variables():
    v = tj.Variable(3.0)

    @tj.custom_gradient
    def scaled(x):
        def back(g, variables):
            assert variables == [v]
            return g * 10.0, [g * 100.0]

        return x * v, back

    x = tj.constant(2.0)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = scaled(x) * 1.0
    g = tape.gradient(y, [x, v])
    assert [float(t) for t in g] == [10.0, 100.0]


def test_custom_gradient_without_a_tape():
    assert float(log1pexp(tj.constant(0.0))) == pytest.approx(np.log(2))


def test_custom_gradient_forward_mode():
    _, t = tj.autodiff.jvp(log1pexp, [tj.constant(100.0)], [tj.constant(2.0)])
    assert float(t) == 2.0


def test_wrong_custom_gradients():
    @tj.custom_gradient
    def wrong(x, y):
        return x * y, lambda g: g

    with pytest.raises(tj.errors.GradientError, match="1 gradients for 2 tensors"):
        grad(lambda x: wrong(x, x + 1), tj.constant(1.0))
    with pytest.raises(tj.errors.ArgumentError, match="must return"):
        tj.custom_gradient(lambda x: x)(tj.constant(1.0))


# --- memory -----------------------------------------------------------------------------------------------------------
def test_a_tape_lets_go_of_what_it_recorded():
    x = tj.constant(np.ones(1000))
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.exp(x)
        gone = weakref.ref(y)
        z = tj.reduce_sum(y)
    tape.gradient(z, x)
    del y
    gc.collect()
    assert gone() is None


def test_many_tapes_at_once():
    x = tj.constant(2.0)
    tapes = [tj.GradientTape() for _ in range(5)]
    for t in tapes:
        t.__enter__()
        t.watch(x)
    y = x * x
    for t in tapes:
        t.__exit__(None, None, None)
    assert [float(t.gradient(y, x)) for t in tapes] == [4.0] * 5


def test_a_tape_from_outside_cannot_be_asked_inside_a_traced_function():
    """It does not hear what the trace does: the function runs as plain Python, where it does hear it."""
    x = tj.Variable(3.0)

    def f():
        y = x * x
        return tape.gradient(y, x)

    with tj.GradientTape(persistent=True) as tape, pytest.warns(ConversionWarning, match="entered outside the traced"):
        assert float(tj.function(f)()) == 6.0
    with tj.GradientTape(persistent=True) as tape, pytest.raises(ConversionError, match="enter the tape inside"):
        tj.function(f, strict=True)()
