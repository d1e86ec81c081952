"""How many kernels programs become. The numbers are exact: one that changes must do so on purpose."""

import numpy as np
import pytest

import tracejit as tj

RNG = np.random.default_rng(0)


def f32(*shape):
    return RNG.normal(size=shape).astype(np.float32)


X = f32(64, 128)
ROW = f32(128)


def kernels(f, *args):
    """The kernels that a function becomes, after a look at its results."""
    traced = tj.function(f)
    got = traced(*args)
    want = f(*[tj.constant(a) if isinstance(a, np.ndarray) else a for a in args])
    for a, b in zip(flat(got), flat(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)
    return traced.stats()["kernels"]


def flat(x):
    return [np.asarray(a) for y in x for a in flat(y)] if isinstance(x, (tuple, list)) else [np.asarray(x)]


def with_gradient(f, *sources):
    def both(*args):
        with tj.GradientTape() as tape:
            tape.watch([args[i] for i in sources])
            y = f(*args)
        return y, tape.gradient(y, [args[i] for i in sources])

    return both


def layer_norm(x, gain, offset):
    mean = tj.reduce_mean(x, axis=-1, keepdims=True)
    variance = tj.reduce_mean(tj.square(x - mean), axis=-1, keepdims=True)
    return (x - mean) * tj.math.rsqrt(variance + 1e-5) * gain + offset


def batch_norm(x, gain, offset):
    mean = tj.reduce_mean(x, axis=0)
    return (x - mean) * tj.math.rsqrt(tj.math.reduce_variance(x, axis=0) + 1e-3) * gain + offset


def cross_entropy(logits, labels):
    return tj.reduce_mean(tj.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


def black_scholes(price, strike, years):
    root = 0.2 * tj.sqrt(years)
    d1 = (tj.math.log(price / strike) + 0.07 * years) / root
    normal = lambda x: 0.5 + 0.5 * tj.math.erf(x * 0.70710678)  # noqa: E731
    later = strike * tj.exp(-0.05 * years)
    return price * normal(d1) - later * normal(d1 - root), later * normal(root - d1) - price * normal(-d1)


LABELS = RNG.integers(0, 128, 64)
POSITIVE = np.abs(X) + 0.5
PROGRAMS = {
    "a chain": (1, lambda x: tj.tanh(x * 2 + 1) - tj.exp(-tj.square(x)), X),
    "several results": (1, lambda x, y: (x + y, x * y, tj.maximum(x, 0.0)), X, X),
    "broadcasting": (1, lambda x, r: tj.sigmoid(x * r + 1.0) / (1.0 + tj.exp(r)), X, ROW),
    "transposes and slices": (1, lambda x: tj.transpose(x)[:64] * x[:, ::2] + x[0, 0], X),
    "a polynomial": (1, lambda a, b, c: a * b + a * b * c, X, X, X),
    "a sum of products": (1, lambda a, b, c: tj.reduce_sum(a * b + a * b * c), X, X, X),
    "one sum by rows, columns and all": (1, lambda x: (tj.reduce_sum(x), tj.reduce_sum(x, 0), tj.reduce_sum(x, 1)), X),
    "softmax": (1, tj.nn.softmax, X),
    "log_softmax": (1, tj.nn.log_softmax, X),
    "logsumexp": (1, lambda x: tj.reduce_logsumexp(x, axis=1), X),
    "softmax with its gradient": (1, with_gradient(lambda x, y: tj.reduce_sum(tj.nn.softmax(x) * y, axis=1), 0), X, X),
    "layer norm": (1, layer_norm, X, ROW, ROW),
    "layer norm with its gradient": (1, with_gradient(lambda x, g, o: tj.reduce_sum(layer_norm(x, g, o) * x, 1), 0, 1,
    2), X, ROW, ROW),
    "batch norm": (3, batch_norm, X, ROW, ROW),
    "gelu with its gradient": (1, with_gradient(tj.nn.gelu, 0), X),
    "cross entropy with its gradient, after a look at the labels": (3, with_gradient(cross_entropy, 0), X, LABELS),
    "argmax": (1, lambda x: tj.argmax(x, axis=1), X),
    "Black-Scholes": (1, black_scholes, POSITIVE, POSITIVE[::-1].copy(), POSITIVE),
    "a dense layer": (1, lambda x, w, b: tj.nn.relu(x @ w + b), X, f32(128, 32), f32(32)),
    "a transposed product": (1, lambda x, y: tj.transpose(x) @ y, X, X),
    "attention": (3, lambda q, k, v: tj.nn.softmax(tj.matmul(q, k, transpose_b=True) / 8.0) @ v,
    *[f32(4, 16, 8) for _ in range(3)]),
    "dropout": (1, lambda x: tj.reduce_sum(tj.nn.dropout(x, 0.0) * 2.0), X),
    "nothing": (0, lambda: ()),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    expected, f, *args = PROGRAMS[name]
    assert kernels(f, *args) == expected


# --- training steps ---------------------------------------------------------------------------------------------------
def step_of(params, loss, update):
    @tj.function
    def step(*data):
        with tj.GradientTape() as tape:
            value = loss(*data)
        for i, (p, g) in enumerate(zip(params, tape.gradient(value, params))):
            update(i, p, g)
        return value

    return step


def test_linear_classifier():
    w, b = tj.Variable(f32(2, 1)), tj.Variable(f32(1))
    step = step_of([w, b], lambda x, y: tj.reduce_mean(tj.square(x @ w + b - y)), lambda i, p, g: p.assign_sub(0.1 * g))
    step(f32(2000, 2), f32(2000, 1))
    assert step.stats()["kernels"] == 5


def perceptron():
    return [tj.Variable(f32(*s) * 0.1) for s in ((32, 64), (64,), (64, 64), (64,), (64, 10), (10,))]


def loss_of(params):
    def loss(x, y):
        w1, b1, w2, b2, w3, b3 = params
        h = tj.nn.relu(x @ w1 + b1)
        return cross_entropy(tj.nn.relu(h @ w2 + b2) @ w3 + b3, y)

    return loss


def test_mlp():
    params = perceptron()
    step = step_of(params, loss_of(params), lambda i, p, g: p.assign_sub(0.1 * g))
    step(f32(128, 32), RNG.integers(0, 10, 128))
    assert step.stats()["kernels"] == 16
    assert step.stats()["kernels_unfused"] > 45


def test_mlp_with_adam():
    params = perceptron()
    first, second = ([tj.Variable(np.zeros(p.shape, np.float32)) for p in params] for _ in range(2))

    def update(i, p, g):
        first[i].assign_add((g - first[i]) * 0.1)
        second[i].assign_add((g * g - second[i]) * 0.001)
        p.assign_sub(0.01 * first[i] / (tj.sqrt(second[i]) + 1e-7))

    step = step_of(params, loss_of(params), update)
    step(f32(128, 32), RNG.integers(0, 10, 128))
    assert step.stats()["kernels"] == 16
    assert "copy %" not in step.explain(f32(128, 32), RNG.integers(0, 10, 128))


def test_the_backward_of_a_traced_function():
    params = perceptron()
    f = tj.function(loss_of(params))
    with tj.GradientTape() as tape:
        y = f(f32(128, 32), RNG.integers(0, 10, 128))
    tape.gradient(y, params)
    _, d, forward = f.concrete_functions[0].forward.programs()
    assert forward.program.kernels == 6
    assert d.halves()[1].program.kernels == 9


# --- explanations and what may not fuse -------------------------------------------------------------------------------
def test_explain_lists_the_kernels():
    f = tj.function(lambda x, w: tj.nn.softmax(tj.nn.relu(x @ w)))
    text = f.explain(X, f32(128, 16))
    assert "matmul+relu" in text
    assert "reduce_max" in text.split("kernels:")[1]


def test_a_value_read_elsewhere_in_the_array_is_computed_before():
    """A member of a loop may not read another one through a slice or a shift."""

    def f(x):
        y = x * 2.0 - 0.5
        return tj.maximum(x, y[:, 0:1]) + y, y[::-1] * y, tj.transpose(y[:, :64]) + y[:, 64:], tj.reduce_sum(y) + y

    assert kernels(f, X) >= 2


def test_heavy_values_of_a_row_are_computed_once_or_again():
    """tanh(x) is first needed after two reductions, exp(x) before and after them."""

    def f(x):
        e = tj.exp(x - tj.reduce_max(x, axis=-1, keepdims=True))
        total = tj.reduce_sum(e, axis=-1, keepdims=True)
        return tj.tanh(x) * total + e / total + tj.tanh(tj.math.log(total) + x)

    for shape in ((5, 3), (3, 100), (2, 300_000)):
        assert kernels(f, f32(*shape)) == 1


def test_writes_to_parts_of_a_buffer():
    """Single elements that are joined lie where they belong."""

    def f(x):
        a, b = x[0, 1], x[2, 3]
        parts = [tj.reshape(t, (1,)) for t in (a * 2.0, a + b, tj.reduce_sum(x), b)]
        return tj.concat(parts, 0), tj.stack([a, b, a]), tj.pad(tj.reshape(b, (1, 1)), [[1, 0], [0, 2]])

    kernels(f, f32(3, 4))


def test_what_reads_the_same_array_becomes_one_loop_though_nothing_joins_it():
    def f(x, y):
        a, b = tj.tanh(x) * y, tj.exp(y)
        return tj.concat([a, tj.square(b) - a, tj.sin(y) * x], 1)

    assert kernels(f, f32(200, 70), f32(200, 70)) == 2  # with the join of the parts
