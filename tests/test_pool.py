"""Pooling, normalisation over channels, blocks of space: values beside a loop over elements, gradients, errors."""

import numpy as np
import pytest
from convolution_cases import agrees_at_open_sizes, normal, pooled, same
from helpers import gradients, numeric_gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from lowerings import Lowered

import tracejit as tj
from tracejit.passes.pipeline import optimize

MAX = {1: tj.nn.max_pool1d, 2: tj.nn.max_pool2d, 3: tj.nn.max_pool3d}
AVG = {1: tj.nn.avg_pool1d, 2: tj.nn.avg_pool2d, 3: tj.nn.avg_pool3d}


def first_order(f, *xs):
    with tj.GradientTape() as tape:
        tape.watch(xs)
        y = f(*xs)
    return tape.gradient(y, xs)


@st.composite
def windows(draw, most=3, dilated=True):
    n = draw(st.integers(1, most))
    size = [draw(st.sampled_from([1, 2, 3, 3, 7, 8])) for _ in range(n)]
    stride = size if draw(st.booleans()) else [draw(st.integers(1, 3)) for _ in range(n)]
    dilation = [draw(st.integers(1, 2)) if dilated else 1 for _ in range(n)]
    pairs = [(draw(st.integers(0, (k - 1) // 2)), draw(st.integers(0, (k - 1) // 2))) for k in size]
    padding = draw(st.sampled_from(["SAME", "VALID", "VALID", pairs]))
    if not isinstance(padding, str):
        dilation = [1] * n
    have = [(k - 1) * r + draw(st.integers(1, 6)) for k, r in zip(size, dilation)]
    x = normal(draw(st.integers(0, 2)), *have, draw(st.integers(1, 3)))
    return n, np.round(x * 4) / 4, size, stride, padding, dilation  # with ties


@settings(max_examples=60, deadline=None)
@given(windows())
def test_values(case):
    n, x, size, stride, padding, dilation = case
    for kind, pools in (("MAX", MAX), ("AVG", AVG)):
        want = pooled(x, size, stride, padding, dilation, kind == "AVG")
        same(tj.nn.pool(x, size, kind, stride, padding, dilations=dilation), want)
        if max(dilation) == 1:
            same(pools[n](x, size, stride, padding), want)
            any_rank = tj.nn.max_pool if kind == "MAX" else tj.nn.avg_pool
            same(any_rank(x, size, stride, padding), want)
            first = {1: "NCW", 2: "NCHW", 3: "NCDHW"}[n]
            same(np.moveaxis(any_rank(np.moveaxis(x, -1, 1), size, stride, padding, first).numpy(), 1, -1), want)


def largest_gradient(x, size, stride, g):
    """Of the largest in VALID windows the first one gets it all."""
    d = np.zeros_like(x)
    for b, i, j, c in np.ndindex(*g.shape):
        i0, j0 = i * stride[0], j * stride[1]
        window = x[b, i0 : i0 + size[0], j0 : j0 + size[1], c]
        k, m = np.unravel_index(np.argmax(window), window.shape)
        d[b, i0 + k, j0 + m, c] += g[b, i, j, c]
    return d


PAIRS = [((2, 2), (2, 2)), ((3, 2), (3, 2)), ((3, 3), (2, 2)), ((2, 3), (1, 1)), ((7, 7), (1, 2)), ((4, 4), (4, 4))]


@pytest.mark.parametrize(("size", "stride"), PAIRS)
def test_the_first_of_equal_maxima_gets_the_gradient(size, stride):
    x = np.round(normal(2, 9, 8, 2))
    y = tj.nn.max_pool2d(x, size, stride, "VALID")
    g = normal(*y.shape)
    want = largest_gradient(x, size, stride, g)

    def gradient(x):
        return gradients_of(x, g)

    def gradients_of(x, g):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.nn.max_pool2d(x, size, stride, "VALID")
        return tape.gradient(y, x, output_gradients=g)

    np.testing.assert_allclose(gradient(tj.constant(x)), want, atol=1e-12)
    np.testing.assert_allclose(tj.function(gradient)(tj.constant(x)), want, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(windows(2))
def test_gradients_are_differences(case):
    _, x, size, stride, padding, dilation = case
    x = np.random.default_rng(0).permutation(x.size).reshape(x.shape) / 16 if x.size else x  # no ties
    for kind in ("MAX", "AVG"):

        def f(x, kind=kind):
            return tj.nn.pool(x, size, kind, stride, padding, dilations=dilation)

        seed = normal(*f(x).shape)
        (a,), (b,) = gradients(f, [x], seed), numeric_gradients(f, [x], seed)
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["MAX", "AVG"])
@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, "VALID"), (3, 2, "SAME")])
def test_derivatives_of_every_kind(kind, size, stride, padding):
    def f(x):
        return tj.reduce_sum(tj.nn.pool(x, [size] * 2, kind, [stride] * 2, padding) ** 3)

    def second(f, x):
        return first_order(lambda x: tj.reduce_sum(tj.sin(first_order(f, x)[0])), x)[0]

    x, t = tj.constant(normal(2, 5, 6, 3)), tj.constant(np.cos(normal(2, 5, 6, 3)))
    (grad,), twice = first_order(f, x), second(f, x)
    with tj.autodiff.ForwardAccumulator(x, t) as acc:
        y = f(x)
    np.testing.assert_allclose(acc.jvp(y), np.sum(grad.numpy() * t.numpy()), rtol=1e-10)
    h = 1e-6
    up, down = (np.sin(first_order(f, x + s * t)[0].numpy()).sum() for s in (h, -h))
    np.testing.assert_allclose(np.sum(twice.numpy() * t.numpy()), (up - down) / (2 * h), rtol=1e-5)
    traced = tj.function(f)
    for got, want in (
        (first_order(traced, x)[0], grad), (second(traced, x), twice),
        (tj.function(lambda x: first_order(f, x)[0])(x), grad), (tj.function(lambda x: second(f, x))(x), twice),
    ):  # fmt: skip
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
    xs = tj.constant(normal(3, 2, 5, 6, 3))
    each = np.stack([first_order(f, xs[i])[0].numpy() for i in range(3)])
    np.testing.assert_allclose(tj.vectorized_map(lambda x: first_order(f, x)[0], xs), each, rtol=1e-12)
    (outside,) = first_order(lambda x: tj.vectorized_map(f, x), xs)
    np.testing.assert_allclose(outside, each, rtol=1e-12)


def test_nan_stays_and_padding_never_wins():
    x = np.full((1, 4, 4, 1), -np.inf)
    assert (tj.nn.max_pool2d(x, 3, 1, "SAME").numpy() == -np.inf).all()
    x = normal(1, 4, 4, 1)
    for i, j in ((0, 0), (1, 1), (3, 2)):
        holed = x.copy()
        holed[0, i, j] = np.nan
        y = tj.nn.max_pool2d(holed, 2, 2, "VALID").numpy()
        assert np.isnan(y[0, i // 2, j // 2, 0]) and np.isnan(y).sum() == 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32", "uint8"])
def test_dtypes(dtype):
    d = tj.as_dtype(dtype)
    x = np.abs(np.round(normal(2, 5, 5, 3) * 4)).astype(d.np)
    want = pooled(x, (2, 3), (2, 1), "SAME", (1, 1), False)
    for pool in (tj.nn.max_pool2d, tj.function(tj.nn.max_pool2d)):
        y = pool(tj.constant(x), (2, 3), (2, 1), "SAME")
        assert y.dtype is d
        same(y, want)
    mean = tj.nn.avg_pool2d(x, (2, 3), (2, 1), "SAME")
    assert mean.dtype is (d if d.kind == "f" else tj.float64 if d.bits > 16 else tj.float32)
    same(mean, pooled(x, (2, 3), (2, 1), "SAME", (1, 1), True))


@pytest.mark.parametrize("kind", ["MAX", "AVG"])
@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(2, 2, "VALID"), (3, 2, "SAME"), (3, 1, "SAME"), (9, 1, "SAME")]
)
def test_one_trace_serves_many_sizes(kind, size, stride, padding):
    def step(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.nn.pool(x, [size] * 2, kind, [stride] * 2, padding)
        return y, tape.gradient(y, x, output_gradients=tj.cos(y))

    agrees_at_open_sizes(step, ((2, 8, 7), (1, 4, 9), (0, 6, 6), (3, 3, 2)), 1e-12)


@pytest.mark.parametrize("f", [
    lambda x: tj.nn.max_pool2d(x, 2, 2, "VALID"),
    lambda x: tj.nn.max_pool2d(x, 3, 2, "SAME"),
    lambda x: tj.nn.avg_pool2d(x, 3, 2, "SAME"),
    lambda x: tj.nn.lrn(x, 2),
])  # fmt: skip
def test_every_way_of_running(f):
    def step(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return y, tape.gradient(y, x, output_gradients=tj.cos(y))

    x = tj.constant(normal(2, 5, 6, 3))
    want = [a.numpy() for a in step(x)]
    lowered = Lowered(step)
    for way, results in lowered.results(x):
        for a, b in zip(results, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10, err_msg=way)
    graph = optimize(lowered.function.get_concrete_function(x).executable.parts.graph)
    assert "largest" not in {n.op.name for n in graph.nodes}


# --- neighbouring channels --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("beta", [0.5, 0.75])
def test_local_response_normalization(beta):
    x = normal(2, 3, 3, 7)

    def reference(x):
        around = [(x[..., max(c - 2, 0) : c + 3] ** 2).sum(-1) for c in range(x.shape[-1])]
        return x / (1.5 + 0.7 * np.stack(around, -1)) ** beta

    def f(x):
        return tj.nn.local_response_normalization(x, 2, 1.5, 0.7, beta)

    np.testing.assert_allclose(f(x), reference(x), rtol=1e-12)
    seed = normal(*x.shape)
    (a,), (b,) = gradients(f, [x], seed), numeric_gradients(f, [x], seed)
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert tj.nn.lrn is tj.nn.local_response_normalization


# --- blocks of space --------------------------------------------------------------------------------------------------
def test_space_to_depth_and_back():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    y = tj.nn.space_to_depth(x, 2)
    assert y.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(y[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(tj.nn.depth_to_space(y, 2), x)
    first = tj.nn.space_to_depth(np.moveaxis(x, -1, 1), 2, "NCHW")
    np.testing.assert_array_equal(np.moveaxis(first.numpy(), 1, -1), y)
    np.testing.assert_array_equal(tj.nn.depth_to_space(first, 2, "NCHW"), np.moveaxis(x, -1, 1))


def test_space_to_batch_and_back():
    x = np.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3)
    paddings = [[1, 1], [0, 1]]
    y = tj.space_to_batch(x, [2, 3], paddings).numpy()
    full = np.pad(x, [(0, 0), *paddings, (0, 0)])
    want = np.concatenate([full[:, i::2, j::3] for i in range(2) for j in range(3)])
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(tj.batch_to_space(y, [2, 3], paddings), x)
    np.testing.assert_array_equal(tj.nn.space_to_batch(x, 2, [[0, 0]]), np.concatenate([x[:, ::2], x[:, 1::2]]))
    assert tj.space_to_batch_nd is tj.space_to_batch


def test_blocks_have_gradients():
    x = normal(2, 4, 6, 4)
    for f in (
        lambda x: tj.nn.space_to_depth(x, 2),
        lambda x: tj.nn.depth_to_space(x, 2),
        lambda x: tj.space_to_batch(x, [2, 2], [[1, 1], [0, 2]]),
        lambda x: tj.batch_to_space(x, [2, 1], [[1, 0], [0, 2]]),
    ):
        seed = normal(*f(x).shape)
        (a,), (b,) = gradients(f, [x], seed), numeric_gradients(f, [x], seed)
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)
        np.testing.assert_array_equal(tj.function(f)(tj.constant(x)), f(x))


X = normal(1, 4, 4, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tj.nn.max_pool2d(X[0], 2, 2, "SAME"), r"tj\.nn\.max_pool2d.*input \(4, 4, 3\) has 3 axes"),
        (lambda: tj.nn.max_pool(X[0, 0], 2, 2, "SAME"), "has 2 axes, not 3, 4 or 5"),
        (lambda: tj.nn.max_pool2d(X, [1, 2, 2, 3], 2, "SAME"), "ksize over batch and channels must be 1"),
        (lambda: tj.nn.avg_pool2d(X, 2, [1, 2, 3], "SAME"), "strides needs 1, 2 or 4 numbers, not 3"),
        (lambda: tj.nn.avg_pool2d(X, 0, 1, "SAME"), "ksize must be positive"),
        (lambda: tj.nn.avg_pool2d(X, 2, 1, "CAUSAL"), "padding is 'SAME', 'VALID' or a list of pairs, not 'CAUSAL'"),
        (lambda: tj.nn.max_pool2d(X, 6, 1, "VALID"), "a window that reaches over 6 elements does not fit into 4"),
        (lambda: tj.nn.pool(X, [2, 2], "MIN"), "pooling_type is 'MAX' or 'AVG', not 'MIN'"),
        (lambda: tj.nn.pool(X, [2, 2, 2], "MAX"), "window_shape has 3 sizes for an input of 4 axes"),
        (lambda: tj.nn.max_pool2d(X > 0, 2, 2, "SAME"), "input holds real numbers, not bool"),
        (lambda: tj.nn.lrn(X[0]), "lrn takes four axes"),
        (lambda: tj.nn.space_to_depth(X, 3), "height 4 is no multiple of 3"),
        (lambda: tj.nn.depth_to_space(X, 2), "channels 3 is no multiple of 4"),
        (lambda: tj.nn.space_to_depth(X[0], 2), "input has 3 axes, not 4"),
        (lambda: tj.space_to_batch(X, [3], [[0, 0]]), "the padded size 4 is no multiple of 3"),
        (lambda: tj.space_to_batch(X, [2, 2], [[0, 0]]), "paddings needs a pair for each of 2 blocks"),
        (lambda: tj.batch_to_space(X, [2], [[0, 0]]), "the batch 1 is no multiple of 2"),
        (lambda: tj.batch_to_space(X, [1], [[3, 2]]), "are larger than the image"),
    ],
)  # fmt: skip
def test_errors_name_the_cause(call, message):
    with pytest.raises(tj.errors.TracejitError, match=message):
        call()
