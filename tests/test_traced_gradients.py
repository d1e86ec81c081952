"""Tapes inside traces, and traced functions under eager tapes, against eager gradients and central differences."""

import collections

import numpy as np
import pytest
from helpers import central_differences

import tracejit as tj
from tracejit.errors import GradientError

Model = collections.namedtuple("Model", "w b")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3))
W = RNG.normal(size=(3, 5)) * 0.5
B = RNG.normal(size=5)


def close(got, want, tol=1e-9):
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=tol, atol=tol)


FUNCTIONS = {
    "products": lambda x, w, b: tj.reduce_sum(tj.tanh(x @ w + b)),
    "softmax": lambda x, w, b: tj.reduce_sum(tj.nn.softmax(x @ w) * b),
    "log softmax": lambda x, w, b: tj.reduce_mean(tj.nn.log_softmax(x @ w + b)[:, 1]),
    "logsumexp": lambda x, w, b: tj.reduce_logsumexp(x @ w - b),
    "norm": lambda x, w, b: tj.norm(x @ w) + tj.norm(b),
    "extremes": lambda x, w, b: tj.reduce_max(x @ w) + tj.reduce_sum(tj.reduce_min(w * b, axis=0)),
    "moments": lambda x, w, b: tj.reduce_sum(tj.math.reduce_variance(x @ w, axis=0) * b),
    "slices": lambda x, w, b: tj.reduce_sum(x[::2] @ w[:, 1:4] * b[-3:]) + x[1, 2] * w[0, 0],
    "joins": lambda x, w, b: tj.reduce_sum(tj.concat([w, w * 2.0, b[None]],
    0) ** 2) + tj.reduce_sum(tj.stack([x, x * x], 1)),
    "gather": lambda x, w, b: tj.reduce_sum(tj.gather(w, [0, 2, 0, 1]) * tj.exp(b)) + tj.reduce_sum(tj.gather(x,
    [1, 1], axis=1)),
    "where": lambda x, w, b: tj.reduce_sum(tj.where(x > 0, x * x,
    tj.sqrt(tj.where(x > 0, 1.0, -x)))) + tj.reduce_sum(w) * b[0],
    "transposes": lambda x, w, b: tj.reduce_sum(tj.transpose(tj.sin(x @ w)) @ x) * tj.reduce_prod(b),
    "reshapes": lambda x, w, b: tj.reduce_sum(tj.reshape(x, (2, 6)) @ tj.reshape(tj.cos(x),
    (6, 2))) + tj.reduce_sum(w @ b[:, None]),
    "einsum": lambda x, w, b: tj.einsum("ij,jk,k->", x, tj.sigmoid(w), b),
    "running sums": lambda x, w, b: tj.reduce_sum(tj.cumsum(x,
    axis=0) * x) + tj.reduce_sum(tj.square(tj.cumsum(b, reverse=True))) * w[1, 1],
    "pads": lambda x, w, b: tj.reduce_sum(tj.pad(x, [[1, 0], [0, 2]],
    constant_values=2.0) ** 3) + tj.reduce_sum(tj.tile(b, [3])[2:9] * w[0, 1]),
    "integers": lambda x, w, b: tj.reduce_sum(x * tj.cast(tj.range(3),
    tj.float64)) + tj.reduce_sum(tj.round(w) * w) * b[1],
}  # fmt: skip


# --- tapes inside traces ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_tape_inside_a_trace(name):
    f = FUNCTIONS[name]

    def gradients(x, w, b):
        with tj.GradientTape() as tape:
            tape.watch([x, w, b])
            y = f(x, w, b)
        return y, tape.gradient(y, [x, w, b])

    ts = [tj.constant(a) for a in (X, W, B)]
    y, eager = gradients(*ts)
    traced_y, traced = tj.function(gradients)(*ts)
    close(traced_y, y)
    for g, t, n in zip(eager, traced, central_differences(f, (X, W, B)), strict=True):
        close(t, g)
        close(t, n, 2e-6)


def test_none_for_what_is_not_connected():
    @tj.function
    def f(x, y):
        with tj.GradientTape(persistent=True) as tape:
            tape.watch([x, y])
            z = tj.reduce_sum(x * x)
        return tape.gradient(z, [x, y]), tape.gradient(z, [x, y], unconnected_gradients="zero")

    (gx, gy), (_, zero) = f(X, B)
    close(gx, 2 * X)
    assert gy is None
    close(zero, np.zeros(5))


def test_structures_of_sources():
    v, w = tj.Variable(W), tj.Variable(B)

    @tj.function
    def f(x):
        with tj.GradientTape() as tape:
            y = tj.reduce_sum(tj.exp(x @ v + w))
        return tape.gradient(y, {"model": Model(v, w), "again": [v]})

    g = f(X)
    e = np.exp(X @ W + B)
    assert isinstance(g["model"], Model)
    close(g["model"].w, X.T @ e)
    close(g["model"].b, e.sum(0))
    close(g["again"][0], X.T @ e)


def test_order_three_inside_a_trace():
    def f(x):
        with tj.GradientTape() as outer:
            outer.watch(x)
            with tj.GradientTape() as middle:
                middle.watch(x)
                with tj.GradientTape() as inner:
                    inner.watch(x)
                    y = tj.reduce_sum(x**5 * tj.sin(x))
                first = inner.gradient(y, x)
            second = middle.gradient(first, x)
        return first, second, outer.gradient(second, x)

    x = tj.constant(np.linspace(0.3, 1.2, 7))
    for a, b in zip(f(x), tj.function(f)(x)):
        close(b, a)
    a = x.numpy()
    s, c = np.sin(a), np.cos(a)
    close(tj.function(f)(x)[1], 20 * a**3 * s + 10 * a**4 * c - a**5 * s)


def test_stopping_watching_and_resetting():
    def f(x):
        with tj.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = x * x
            with tape.stop_recording():
                hidden = tj.reduce_sum(y * x)
            z = tj.reduce_sum(y * tj.stop_gradient(x)) + hidden
        first = tape.gradient(z, x)
        with tape:
            tape.reset()
            tape.watch(x)
            u = tj.reduce_sum(x * 3.0)
        return first, tape.gradient(u, x)

    for a, b in zip(f(tj.constant(X)), tj.function(f)(X)):
        close(b, a)


def test_output_gradients_and_several_targets():
    def f(x, g):
        with tj.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y, z = tj.exp(x), x * x
        return tape.gradient(y, x, output_gradients=g), tape.gradient([y, z], x), tape.gradient({"y": y, "z": z}, [x])

    for a, b in zip(f(tj.constant(X), tj.constant(X)), tj.function(f)(X, X)):
        close(np.asarray(b[0] if isinstance(b, list) else b), np.asarray(a[0] if isinstance(a, list) else a))


def test_jacobian_inside_a_trace():
    def f(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.sin(x) * tj.reduce_sum(x)
        return tape.jacobian(y, x)

    a = B
    close(tj.function(f)(a), np.diag(np.cos(a) * a.sum()) + np.sin(a)[:, None])


# --- traced functions under eager tapes -------------------------------------------------------------------------------
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_traced_function_under_a_tape(name):
    f = FUNCTIONS[name]
    traced = tj.function(f)
    ts = [tj.constant(a) for a in (X, W, B)]
    want = central_differences(f, (X, W, B))
    for _ in range(2):
        with tj.GradientTape() as tape:
            tape.watch(ts)
            y = traced(*ts)
        for g, n in zip(tape.gradient(y, ts), want, strict=True):
            close(g, n, 2e-6)
    assert traced.experimental_get_tracing_count() == 1


def test_a_tape_outside_sees_what_comes_before_and_after():
    f = tj.function(lambda x: tj.tanh(x @ W))
    x = tj.constant(X)

    def whole(x, inner):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.reduce_sum(inner(x * 2.0) ** 2)
        return tape.gradient(y, x)

    close(whole(x, f), whole(x, f.python_function))


def test_captured_variables_are_watched():
    w, b, frozen = tj.Variable(W), tj.Variable(B), tj.Variable(2.0, trainable=False, dtype=tj.float64)
    f = tj.function(lambda x: tj.reduce_sum(tj.sigmoid(x @ w + b) * frozen))
    with tj.GradientTape() as tape:
        y = f(X)
    assert {id(v) for v in tape.watched_variables()} == {id(w), id(b)}
    s = 1 / (1 + np.exp(-(X @ W + B)))
    gw, gb = tape.gradient(y, [w, b])
    close(gw, 2 * X.T @ (s * (1 - s)))
    close(gb, 2 * (s * (1 - s)).sum(0))
    with tj.GradientTape() as tape:
        y = f(X)
    assert tape.gradient(y, frozen) is None
    w.assign(W * 0)
    with tj.GradientTape() as tape:
        y = f(X)
    close(tape.gradient(y, b), np.full(5, 4 * 2) * (s0 := 1 / (1 + np.exp(-B))) * (1 - s0))


def test_variables_as_arguments_are_watched():
    w = tj.Variable(W)
    f = tj.function(lambda x, v: tj.reduce_sum(tj.square(x @ v)))
    with tj.GradientTape() as tape:
        y = f(X, w)
    close(tape.gradient(y, w), 2 * X.T @ X @ W)


def test_numpy_arguments_and_numbers_under_a_tape():
    v = tj.Variable(3.0, dtype=tj.float64)
    f = tj.function(lambda x, k, n, what: tj.reduce_sum(x * v * k**n))
    with tj.GradientTape() as tape:
        y = f(X[:, ::2], 2.0, 3, "text")
    close(tape.gradient(y, v), 8 * X[:, ::2].sum())
    with tj.GradientTape() as tape:
        y = f(np.float64(1.5), 2.0, 3, "text")
    close(tape.gradient(y, v), 12)


def test_a_function_that_assigns_under_a_tape():
    w, steps = tj.Variable(W), tj.Variable(0)
    average = tj.Variable(np.zeros(5), trainable=False)

    @tj.function
    def f(x):
        h = x @ w
        average.assign(0.5 * average + 0.5 * tj.reduce_mean(h, axis=0))
        steps.assign_add(1)
        return tj.reduce_sum((h - average) ** 2)

    want = np.zeros(5)
    for i in range(3):
        with tj.GradientTape() as tape:
            y = f(X)
        g = tape.gradient(y, w)
        want = 0.5 * want + 0.5 * (X @ W).mean(0)
        close(average, want)
        assert int(steps) == i + 1
        close(g, 2 * X.T @ (X @ W - want))  # what was assigned to a Variable is a constant, as it is eagerly


@pytest.mark.parametrize("wrapper", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_variables_between_operations(wrapper, where):
    """Gradients end at a Variable that was assigned to; they do not go on to what was assigned."""
    v = tj.Variable(1.0)

    def f(x):
        y = x * 2.0
        v.assign(y)
        z = v * 3.0 + y * 5.0
        v.assign_add(z)
        return z + v * v

    def inside(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            z = f(x)
        return tape.gradient(z, [x, v])

    def outside(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            z = traced(x)
        return tape.gradient(z, [x, v])

    traced = wrapper(f)
    x = tj.constant(1.0)
    for _ in range(2):
        v.assign(1.0)
        gx, gv = wrapper(inside)(x) if where == "inside" else outside(x)
        assert float(v) == 2 + 16
        assert float(gx) == 10
        assert float(gv) == 3 + 2 * 18


def test_persistent_tapes_and_output_gradients():
    f = tj.function(lambda x: (tj.exp(x), {"sum": tj.reduce_sum(x, axis=1)}, tj.argmax(x, axis=1)))
    x, seed = tj.constant(X), tj.constant(RNG.normal(size=X.shape))
    with tj.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y, more, _ = f(x)
        z = y * 2.0
    for _ in range(2):
        close(tape.gradient(y, x), np.exp(X))
        close(tape.gradient(y, x, output_gradients=seed), np.exp(X) * seed.numpy())
        close(tape.gradient([z, more["sum"]], x), 2 * np.exp(X) + 1)
        close(tape.gradient(more["sum"], x), np.ones_like(X))


def test_what_is_kept_may_also_be_assigned():
    v, w = tj.Variable(W), tj.Variable(W * 0)

    @tj.function
    def f(x):
        h = tj.exp(x @ v)
        w.assign(tj.transpose(x) @ h)
        v.assign(tj.tanh(v))
        return tj.reduce_sum(h * h) + tj.reduce_sum(w * w)

    for x in (X, X * 0.5):
        before = v.numpy().copy()
        t = tj.constant(x)
        with tj.GradientTape() as tape:
            tape.watch(t)
            y = f(t)
        w.assign_add(W)
        h = np.exp(x @ before)
        close(tape.gradient(y, t), 2 * (h * h) @ before.T)
        close(v, np.tanh(before))


def test_arrays_may_be_written_to_before_the_gradient_is_taken():
    a, captured = X.copy(), np.linspace(0, 1, 40)
    v = tj.Variable(2.0, dtype=tj.float64)
    f = tj.function(lambda x: tj.reduce_sum(tj.exp(x * v)) + tj.reduce_sum(captured * v))
    with tj.GradientTape() as tape:
        y = f(a)
    a[:] = 100.0
    captured[:] = 100.0
    close(tape.gradient(y, v), (X * np.exp(2 * X)).sum() + 20)


def test_results_that_do_not_depend_on_anything():
    f = tj.function(lambda x, y: (x * 2.0, tj.constant(1.0), tj.reduce_sum(y), tj.stop_gradient(x)))
    x, y = tj.constant(X), tj.constant(B)
    with tj.GradientTape(persistent=True) as tape:
        tape.watch([x, y])
        a, b, c, d = f(x, y)
    assert tape.gradient(a, y, unconnected_gradients="zero").numpy().tolist() == [0] * 5
    assert tape.gradient(b, x) is None
    assert tape.gradient(d, x) is None
    close(tape.gradient([a, d], x), np.full_like(X, 2))
    close(tape.gradient(c, y), np.ones(5))


@pytest.mark.parametrize("order", [2, 3])
def test_higher_orders_of_a_traced_function(order):
    def f(x):
        return tj.reduce_sum(tj.sin(x) * tj.exp(0.5 * x))

    def nth(f, x, n):
        if n == 0:
            return f(x)
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = nth(f, x, n - 1)
        return tape.gradient(y, x)

    x = tj.constant(np.linspace(-1, 1, 9))
    close(nth(tj.function(f), x, order), nth(f, x, order))
    close(tj.function(lambda x: nth(f, x, order))(x), nth(f, x, order))
    close(nth(tj.function(lambda x: nth(f, x, 1)), x, order - 1), nth(f, x, order))


def test_second_order_with_matrices_and_variables():
    w = tj.Variable(W)
    f = tj.function(lambda x: tj.reduce_sum(tj.tanh(x @ w) ** 2))

    def penalty(f, x):
        with tj.GradientTape() as outer:
            with tj.GradientTape() as inner:
                inner.watch(x)
                y = f(x)
            g = inner.gradient(y, x)
            loss = tj.reduce_sum(g * g) + y
        return outer.gradient(loss, w)

    x = tj.constant(X)
    close(penalty(f, x), penalty(f.python_function, x))
    close(tj.function(lambda x: penalty(f, x))(x), penalty(f.python_function, x))


def test_batch_sizes_under_a_tape():
    w = tj.Variable(W)
    f = tj.function(lambda x: tj.reduce_mean(tj.nn.softmax(x @ w)[:, 0]))
    for n in (4, 2, 7, 1, 3, 50):
        x = tj.constant(np.random.default_rng(n).normal(size=(n, 3)))
        grads = []
        for g in (f, f.python_function):
            with tj.GradientTape() as tape:
                tape.watch(x)
                y = g(x)
            grads.append(tape.gradient(y, [x, w]))
        for a, b in zip(*grads):
            close(a, b)
    assert f.experimental_get_tracing_count() <= 3


@pytest.mark.parametrize(
    "x", [3.0, np.array(3.0), np.zeros((0, 3)), np.ones((1, 3))], ids=["float", "0-d", "empty", "one row"]
)
def test_shapes_at_the_edge(x):
    f = tj.function(lambda x: tj.reduce_sum(x * x * x))
    t = tj.constant(x)
    with tj.GradientTape() as tape:
        tape.watch(t)
        y = f(t)
    close(tape.gradient(y, t), 3 * np.asarray(x) ** 2)


def test_the_argument_itself_and_twice():
    f = tj.function(lambda x, y: (x, x + y, x))
    x = tj.constant(X)
    with tj.GradientTape() as tape:
        tape.watch(x)
        a, b, c = f(x, x)
        y = tj.reduce_sum(a * b * c)
    close(tape.gradient(y, x), 6 * X**2)


def test_gradients_that_are_not_there_are_not_nan():
    f = tj.function(lambda x: tj.reduce_sum(tj.where(x > 0, tj.math.log(x), 0.0) + tj.where(x > 0, tj.sqrt(x), x)))
    x = tj.constant([-1.0, 0.0, 4.0])
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    close(tape.gradient(y, x), [1, 1, 0.5])

    @tj.function
    def inside(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x)

    close(inside(x), [1, 1, 0.5])


def test_dtypes_in_between():
    w = tj.Variable(W.astype(np.float32))
    f = tj.function(lambda x: tj.reduce_sum(tj.cast(tj.cast(x, tj.float32) @ w, tj.float64) ** 2))
    x = tj.constant(X)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    gx, gw = tape.gradient(y, [x, w])
    assert (gx.dtype, gw.dtype) == (tj.float64, tj.float32)
    close(gx, 2 * X @ W @ W.T, 1e-5)


def test_custom_gradients():
    @tj.custom_gradient
    def clipped(x):
        def back(g):
            return tj.clip_by_value(g, -0.5, 0.5)

        return x * 3.0, back

    def f(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.reduce_sum(clipped(x) * tj.constant([0.1, 2.0, -7.0]))
        return tape.gradient(y, x)

    x = tj.constant([1.0, 1.0, 1.0])
    close(f(x), [0.1, 0.5, -0.5], 1e-6)
    close(tj.function(f)(x), [0.1, 0.5, -0.5], 1e-6)


def test_random_numbers_are_the_same_forward_and_backward():
    x = tj.constant(np.ones((50, 20)))
    f = tj.function(lambda x: tj.nn.dropout(x * 3.0, 0.5))
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    g = tape.gradient(y, x).numpy()
    assert np.array_equal(g != 0, y.numpy() != 0)
    assert 300 < (g != 0).sum() < 700


def test_residuals_are_kept_not_computed_again():
    f = tj.function(lambda x: tj.reduce_sum(tj.exp(x) * tj.sin(x)))
    x = tj.constant(X)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    tape.gradient(y, x)
    _, d, forward = f.concrete_functions[0].forward.programs()
    backward = str(d.halves()[1].optimized)
    assert "exp(" not in backward
    assert forward.program is not None


def test_errors_under_tapes():
    f = tj.function(lambda x: x * 2.0)
    x = tj.constant(X)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    tape.gradient(y, x)
    with pytest.raises(GradientError, match="persistent"):
        tape.gradient(y, x)


# --- several results under one eager tape -----------------------------------------------------------------------------
def three_results(a, b, c):
    return a * b, tj.sin(b) * 2, tj.stop_gradient(c) * a, c + 1


@pytest.mark.parametrize("targets", [(0,), (1,), (2,), (3,), (0, 3), (1, 2), (0, 1, 2, 3)])
def test_what_a_result_does_not_depend_on_has_no_gradient(targets):
    """None for a source on which only another result of the call depends, in first and second order."""
    xs = [tj.constant(np.array([1.0, 2.0]) * k) for k in (1, 2, 3)]
    found = []
    for f in (three_results, tj.function(three_results)):
        with tj.GradientTape(persistent=True) as outer:
            outer.watch(xs)
            with tj.GradientTape() as tape:
                tape.watch(xs)
                ys = f(*xs)
            first = tape.gradient([ys[i] for i in targets], xs)
        second = [outer.gradient(g, xs) for g in first if g is not None]
        found.append([first, *second])
    for eager, traced in zip(*found, strict=True):
        for e, t in zip(eager, traced, strict=True):
            assert (e is None) == (t is None)
            if e is not None:
                np.testing.assert_allclose(e, t, rtol=1e-6)


def test_gradients_of_results_inside_a_trace():
    """A call that a tape heard, differentiated while something else is traced."""
    f = tj.function(three_results)
    xs = [tj.constant(np.array([1.0, 2.0]) * k) for k in (1, 2, 3)]
    with tj.GradientTape(persistent=True) as tape:
        tape.watch(xs)
        ys = f(*xs)
    grads = tj.function(lambda: list(tape.gradient(ys[1], xs)))()
    assert grads[0] is None
    assert grads[2] is None
    np.testing.assert_allclose(grads[1], 2 * np.cos(xs[1]), rtol=1e-6)
