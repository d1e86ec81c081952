"""Convolutions of every rank: values beside a loop over elements, derivatives of every kind, sizes, layouts, errors."""

import numpy as np
import pytest
from convolution_cases import agrees_at_open_sizes, convolution, normal, places, same, transposed
from helpers import gradients, numeric_gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from lowerings import Lowered

import tracejit as tj
from tracejit.passes.pipeline import optimize

CONV = {1: tj.nn.conv1d, 2: tj.nn.conv2d, 3: tj.nn.conv3d}
TRANSPOSE = {1: tj.nn.conv1d_transpose, 2: tj.nn.conv2d_transpose, 3: tj.nn.conv3d_transpose}


@st.composite
def convolutions(draw, most=3):
    """A rank, an image, filters that fit, and how the window moves."""
    n = draw(st.integers(1, most))
    size = [draw(st.integers(1, 3)) for _ in range(n)]
    stride = [draw(st.integers(1, 3)) for _ in range(n)]
    dilation = [draw(st.integers(1, 2)) for _ in range(n)]
    pairs = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(n)]
    padding = draw(st.sampled_from(["SAME", "VALID", pairs]))
    have = [draw(st.integers((k - 1) * r + 1, 6)) for k, r in zip(size, dilation)]
    groups, share, outputs = draw(st.sampled_from([(1, 1, 2), (1, 3, 1), (2, 1, 3), (3, 2, 1), (1, 9, 2), (2, 4, 2)]))
    x = normal(draw(st.integers(0, 2)), *have, groups * share)
    return n, x, normal(*size, share, groups * outputs), stride, padding, dilation


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_values(case):
    n, x, w, stride, padding, dilation = case
    want = convolution(x, w, stride, padding, dilation)
    same(CONV[n](x, w, stride, padding, dilations=dilation), want)
    same(tj.nn.convolution(x, w, stride, padding, None, dilation), want)
    first = {1: "NCW", 2: "NCHW", 3: "NCDHW"}[n]
    y = CONV[n](np.moveaxis(x, -1, 1), w, stride, padding, first, dilation)
    same(np.moveaxis(y.numpy(), 1, -1), want)


@settings(max_examples=12, deadline=None)
@given(convolutions(2))
def test_traced_values_and_gradients(case):
    n, x, w, stride, padding, dilation = case

    def step(x, w):
        with tj.GradientTape() as tape:
            tape.watch([x, w])
            y = CONV[n](x, w, stride, padding, dilations=dilation)
            loss = tj.reduce_sum(y * tj.sin(y))
        return y, *tape.gradient(loss, [x, w])

    for a, b in zip(tj.function(step)(tj.constant(x), tj.constant(w)), step(tj.constant(x), tj.constant(w))):
        same(a, b.numpy())


@settings(max_examples=25, deadline=None)
@given(convolutions(2))
def test_gradients_are_differences(case):
    n, x, w, stride, padding, dilation = case

    def f(x, w):
        return CONV[n](x, w, stride, padding, dilations=dilation)

    seed = normal(*f(x, w).shape)
    for a, b in zip(gradients(f, [x, w], seed), numeric_gradients(f, [x, w], seed)):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(convolutions(), st.integers(1, 2))
def test_transposes(case, channels):
    n, x, w, stride, padding, dilation = case
    have = x.shape[1:-1]
    count, _ = places(have, w.shape[:-2], stride, dilation, padding)
    outputs = w.shape[-1]
    y, f = normal(x.shape[0], *count, outputs), normal(*w.shape[:-2], channels, outputs)
    want = transposed(y, f, have, stride, padding, dilation)
    shape = (x.shape[0], *have, channels)
    got = TRANSPOSE[n](y, f, shape, stride, padding, dilations=dilation)
    assert tuple(got.shape) == shape
    same(got, want)
    same(tj.nn.conv_transpose(y, f, shape, stride, padding, dilations=dilation), want)


def second_order(f, *xs):
    """The gradient of the sum of sines of the gradient."""
    with tj.GradientTape() as outer:
        outer.watch(xs)
        with tj.GradientTape() as inner:
            inner.watch(xs)
            y = f(*xs)
        total = tj.add_n([tj.reduce_sum(tj.sin(g)) for g in inner.gradient(y, xs)])
    return outer.gradient(total, xs)


def first_order(f, *xs):
    with tj.GradientTape() as tape:
        tape.watch(xs)
        y = f(*xs)
    return tape.gradient(y, xs)


FORMS = {
    "conv2d": (lambda x, w: tj.nn.conv2d(x, w, 1, "SAME"), (2, 4, 5, 3), (3, 2, 3, 4)),
    "strides": (lambda x, w: tj.nn.conv2d(x, w, 2, "SAME"), (1, 5, 4, 2), (3, 3, 2, 3)),
    "groups": (lambda x, w: tj.nn.conv2d(x, w, 1, "VALID"), (1, 4, 4, 4), (2, 2, 2, 6)),
    "depthwise": (lambda x, w: tj.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"), (1, 4, 3, 2), (3, 3, 2, 2)),
    "transpose": (
        lambda x, w: tj.nn.conv2d_transpose(x, w, [1, 6, 6, 2], 2, "SAME"), (1, 3, 3, 4), (3, 3, 2, 4),
    ),
    "transpose, stride 1": (
        lambda x, w: tj.nn.conv2d_transpose(x, w, [1, 5, 5, 2], 1, "VALID"), (1, 3, 3, 4), (3, 3, 2, 4),
    ),
    "conv1d": (lambda x, w: tj.nn.conv1d(x, w, 1, "SAME"), (2, 6, 9), (3, 9, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_derivatives_of_every_kind(name):
    form, *shapes = FORMS[name]

    def f(x, w):
        return tj.reduce_sum(form(x, w) ** 3)

    x, w = (tj.constant(normal(*s) * 0.3) for s in shapes)
    tx, tw = (tj.constant(np.cos(normal(*s))) for s in shapes)
    grads, second = first_order(f, x, w), second_order(f, x, w)
    with tj.autodiff.ForwardAccumulator([x, w], [tx, tw]) as acc:
        y = f(x, w)
    ahead = sum(np.sum(g.numpy() * t.numpy()) for g, t in zip(grads, (tx, tw)))
    np.testing.assert_allclose(acc.jvp(y), ahead, rtol=1e-9)

    h = 1e-5
    up, down = (first_order(f, x + s * tx, w + s * tw) for s in (h, -h))
    turned = sum(np.sum(np.sin(a.numpy()) - np.sin(b.numpy())) for a, b in zip(up, down)) / (2 * h)
    along = sum(np.sum(g.numpy() * t.numpy()) for g, t in zip(second, (tx, tw)))
    np.testing.assert_allclose(along, turned, rtol=1e-5)

    traced = tj.function(f)  # differentiated from outside, and with the tape within
    for make, want in ((first_order, grads), (second_order, second)):
        within = tj.function(lambda x, w, make=make: make(f, x, w))
        for got in (make(traced, x, w), within(x, w)):
            for a, b in zip(got, want):
                np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", FORMS)
def test_many_at_once(name):
    form, *shapes = FORMS[name]
    xs, ws = (tj.constant(normal(3, *s)) for s in shapes)

    def f(x, w):
        return tj.reduce_sum(form(x, w) ** 2)

    each = [first_order(f, xs[i], ws[i]) for i in range(3)]
    together = tj.vectorized_map(lambda p: first_order(f, *p), (xs, ws))
    outside = first_order(lambda x, w: tj.vectorized_map(lambda p: f(*p), (x, w)), xs, ws)
    for k in range(2):
        want = np.stack([e[k].numpy() for e in each])
        np.testing.assert_allclose(together[k], want, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(outside[k], want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32"])
def test_dtypes(dtype):
    d = tj.as_dtype(dtype)
    x, w = (np.round(normal(*s) * 2).astype(d.np) for s in ((2, 5, 5, 3), (3, 3, 3, 4)))
    want = convolution(x, w, (1, 1), "SAME", (1, 1))
    for conv in (tj.nn.conv2d, tj.function(tj.nn.conv2d)):
        y = conv(tj.constant(x), tj.constant(w), 1, "SAME")
        assert y.dtype is d
        if d.kind == "i":
            np.testing.assert_array_equal(y, want)
        else:
            same(y.numpy(), want, 50)
    t = tj.nn.conv2d_transpose(y, w, x.shape, 1, "SAME")
    assert t.dtype is d and t.shape == x.shape


def test_operands_take_their_common_dtype():
    assert tj.nn.conv2d(normal(1, 3, 3, 1, dtype=np.float32), normal(2, 2, 1, 1), 1, "SAME").dtype is tj.float64


def test_loops_contain_convolutions():
    w = tj.constant(normal(3, 3, 2, 2))

    @tj.function
    def f(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = x
            for _ in tj.range(3):
                y = tj.tanh(tj.nn.conv2d(y, w, 1, "SAME"))
            total = tj.reduce_sum(y)
        return tape.gradient(total, x)

    x = tj.constant(normal(1, 4, 4, 2))
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = x
        for _ in range(3):
            y = tj.tanh(tj.nn.conv2d(y, w, 1, "SAME"))
        total = tj.reduce_sum(y)
    np.testing.assert_allclose(f(x), tape.gradient(total, x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("stride", "padding"), [(1, "SAME"), (2, "SAME"), (1, "VALID"), (2, "VALID"), (3, [(1, 0), (2, 1)])]
)
def test_one_trace_serves_many_sizes(stride, padding):
    w = tj.constant(normal(3, 3, 2, 3))

    def step(x):
        with tj.GradientTape() as tape:
            tape.watch([x, w])
            y = tj.nn.conv2d(x, w, stride, padding)
        return y, *tape.gradient(y, [x, w], output_gradients=tj.cos(y))

    agrees_at_open_sizes(step, ((2, 8, 7), (1, 5, 9), (0, 6, 6), (3, 8, 8), (1, 3, 4)), 1e-10)


def test_depthwise_and_separable():
    x, d, p = normal(2, 5, 6, 3), normal(3, 2, 3, 2), normal(1, 1, 6, 4)
    each = [convolution(x[..., c : c + 1], d[:, :, c : c + 1], (2, 2), "SAME", (1, 1)) for c in range(3)]
    want = np.concatenate(each, -1)
    same(tj.nn.depthwise_conv2d(x, d, [1, 2, 2, 1], "SAME"), want)
    first = tj.nn.depthwise_conv2d(np.moveaxis(x, -1, 1), d, [1, 1, 2, 2], "SAME", "NCHW")
    same(np.moveaxis(first.numpy(), 1, -1), want)
    same(tj.nn.separable_conv2d(x, d, p, [1, 2, 2, 1], "SAME"), want @ p[0, 0])
    apart = [convolution(x[..., c : c + 1], d[:, :, c : c + 1], (1, 1), "VALID", (2, 1)) for c in range(3)]
    same(tj.nn.depthwise_conv2d(x, d, [1, 1, 1, 1], "VALID", dilations=[2, 1]), np.concatenate(apart, -1))


def test_atrous():
    x, w = normal(1, 7, 8, 2), normal(3, 3, 2, 3)
    want = convolution(x, w, (1, 1), "VALID", (2, 2))
    same(tj.nn.atrous_conv2d(x, w, 2, "VALID"), want)
    f = np.swapaxes(w, 2, 3)
    back = tj.nn.atrous_conv2d_transpose(x, f, (1, 11, 12, 3), 2, "VALID")
    same(back, transposed(x, f, (11, 12), (1, 1), "VALID", (2, 2)))


def test_batches_may_have_several_axes():
    x, w = normal(2, 3, 4, 5, 2), normal(2, 2, 2, 3)
    want = convolution(x.reshape(6, 4, 5, 2), w, (1, 1), "SAME", (1, 1))
    y = tj.nn.conv2d(x, w, 1, "SAME")
    assert y.shape == (2, 3, 4, 5, 3)
    same(y.numpy().reshape(want.shape), want)


def test_strides_in_all_forms():
    x, w = normal(1, 5, 6, 2), normal(2, 2, 2, 3)
    want = convolution(x, w, (2, 1), "VALID", (1, 1))
    for stride in ([2, 1], (1, 2, 1, 1), np.array([2, 1])):
        same(tj.nn.conv2d(x, w, stride, "valid"), want)
    pairs = [[0, 0], [1, 0], [0, 2], [0, 0]]
    same(tj.nn.conv2d(x, w, 1, pairs), convolution(x, w, (1, 1), [(1, 0), (0, 2)], (1, 1)))


def test_windows_that_nearly_fit_have_no_place():
    """As in TensorFlow: a window one element too long for the image gives an empty result, not an error."""
    assert tj.nn.conv1d(normal(1, 2, 1), normal(3, 1, 2), 1, "VALID").shape == (1, 0, 2)
    assert tj.nn.conv2d(normal(2, 0, 4, 3), normal(3, 3, 3, 2), 1, "SAME").shape == (2, 0, 4, 2)


X, F = normal(1, 5, 5, 4), normal(3, 3, 4, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tj.nn.conv2d(X[0], F, 1, "SAME"), r"tj\.nn\.conv2d.*input \(5, 5, 4\) has 3 axes"),
        (lambda: tj.nn.conv2d(X, F[0], 1, "SAME"), r"filters \(3, 4, 2\) have 3 axes, not 4"),
        (lambda: tj.nn.conv2d(X, F[:, :, :3], 1, "SAME"), "4 channels are no multiple of the 3"),
        (lambda: tj.nn.conv2d(X, normal(1, 1, 2, 3), 1, "SAME"), "3 output channels cannot be dealt to 2 groups"),
        (lambda: tj.nn.conv2d(X, F, 1, "FULL"), "padding is 'SAME', 'VALID' or a list of pairs, not 'FULL'"),
        (lambda: tj.nn.conv2d(X, F, 1, [[1, 1]]), "a pair for each of 2 or 4 axes, not 1"),
        (lambda: tj.nn.conv2d(X, F, 1, [[1, 0], [1, 1], [1, 1], [0, 0]]), "padding of batch and channels must be 0"),
        (lambda: tj.nn.conv2d(X, F, 1, [[-1, 0], [1, 1]]), "padding must not be negative"),
        (lambda: tj.nn.conv2d(X, F, 0, "SAME"), r"strides must be positive, not \(0, 0\)"),
        (lambda: tj.nn.conv2d(X, F, [2, 1, 1, 1], "SAME"), "strides over batch and channels must be 1"),
        (lambda: tj.nn.conv2d(X, F, 1, "SAME", dilations=[1, 2, 3]), "dilations needs 1, 2 or 4 numbers, not 3"),
        (lambda: tj.nn.conv2d(X, F, 1, "SAME", "CHW"), "data_format is 'NHWC' or 'NCHW', not 'CHW'"),
        (lambda: tj.nn.conv2d(X[:, :1], F, 1, "VALID"), "a window that reaches over 3 elements does not fit into 1"),
        (lambda: tj.nn.conv2d(X.astype(complex), F, 1, "SAME"), "input holds real numbers, not complex128"),
        (lambda: tj.nn.convolution(X, F[0, 0]), "filters .* have 2 axes, not 3, 4 or 5"),
        (lambda: tj.nn.conv2d_transpose(X, F, (1, 5, 5, 4), 1, "SAME"), "filters take 2 channels and the input has 4"),
        (lambda: tj.nn.conv2d_transpose(X[..., :2], F, (1, 9, 5, 4), 1), r"\(9, 5\) windows; the input is \(5, 5\)"),
        (lambda: tj.nn.conv2d_transpose(X[..., :2], F, (2, 5, 5, 4), 1), "another batch"),
        (lambda: tj.nn.conv2d_transpose(X[..., :2], F, (5, 5), 1), "not 2 sizes"),
        (lambda: tj.nn.depthwise_conv2d(X, F[:, :, :3], 1, "SAME"), "the filter has 3 channels and the input 4"),
        (lambda: tj.nn.separable_conv2d(X, F, F, 1, "SAME"), r"pointwise_filter is \[1, 1, channels, outputs\]"),
        (lambda: tj.nn.separable_conv2d(X, F, F[:1, :1], 1, "SAME"), "takes 4 channels; there are 8"),
    ],
)  # fmt: skip
def test_errors_name_the_cause(call, message):
    with pytest.raises(tj.errors.TracejitError, match=message):
        call()


LOWERED = [(1, "SAME", 3, 9), (2, "VALID", 1, 3), (2, [(1, 0), (0, 2)], 3, 3)]


@pytest.mark.parametrize(("stride", "padding", "channels", "outputs"), LOWERED)
def test_every_way_of_running(stride, padding, channels, outputs):
    x, w = tj.constant(normal(2, 5, 6, channels)), tj.constant(normal(3, 2, channels, outputs))

    def step(x, w):
        with tj.GradientTape() as tape:
            tape.watch([x, w])
            y = tj.nn.conv2d(x, w, stride, padding)
        return y, *tape.gradient(y, [x, w], output_gradients=tj.cos(y))

    want = [a.numpy() for a in step(x, w)]
    lowered = Lowered(step)
    for way, results in lowered.results(x, w):
        for a, b in zip(results, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10, err_msg=way)
    graph = optimize(lowered.function.get_concrete_function(x, w).executable.parts.graph)
    assert not {"convolved", "unconvolved", "correlated"} & {n.op.name for n in graph.nodes}
